"""The ground floor: trees, specs, operations, tracing, differentiation; no operation by name."""
