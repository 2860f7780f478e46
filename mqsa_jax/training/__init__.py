"""The only stateful part: optimiser, pure step, compiled epoch, checkpoints, loop."""
