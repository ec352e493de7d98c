"""Random numbers as operations: what `philox` draws, traced and compiled, in the same bits."""
