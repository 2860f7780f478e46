"""From the result files of runs to docs/results.md and its figures; without JAX."""
