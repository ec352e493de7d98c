"""Fallline beside its peers, interleaved in one run. Start with `python -m benchmarks`."""
