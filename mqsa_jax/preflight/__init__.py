"""Programs of a run, compiled and measured for accelerators that are not there."""
