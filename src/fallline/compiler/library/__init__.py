"""Functions and kernels written by hand, that generated kernels call."""
