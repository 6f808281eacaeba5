"""A service under good and hostile traffic for minutes or hours: run it with `python -m benchmarks.soak`."""
