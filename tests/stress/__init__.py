"""Random trials without end; see `__main__`."""
