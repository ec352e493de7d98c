"""What a trainer says of its step."""

from __future__ import annotations

import numpy as np

from fallline import nn, train


def test_a_step_is_explained_with_its_sources_on_request() -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((64, 8)).astype(np.float32), np.arange(64) % 3
    net = nn.mlp([8, 6, 3], seed=0)
    trainer = train.Trainer(net, data, loss="cross_entropy", optimizer="adam", batch_size=16)
    text = trainer.explain()
    assert text.startswith("adam step(") and "launches, " in text and "matmul" in text
    assert "def " not in text
    full = trainer.explain(sources=True)
    assert full.startswith(text + "\n\n")
    assert "def prologue(" in full and "def kernel(" in full
