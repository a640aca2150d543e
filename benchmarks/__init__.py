"""What the README claims in figures, runnable: `python -m benchmarks.NAME [--quick]`."""
