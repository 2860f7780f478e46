"""Files of runs: configuration, metrics, results and checkpoints."""
