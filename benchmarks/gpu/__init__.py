"""The parts of `python -m benchmarks.gpu_check`, and how they are run and reported."""
