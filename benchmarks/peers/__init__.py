"""The workers: one module per library and workload, each run as a process of its own."""
