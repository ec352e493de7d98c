"""What a program that trains a small network imports, and what not: importing takes time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import json, sys
import numpy as np
import fallline as fl
from fallline import nn, optim

X, y = np.zeros((8, 4), np.float32), np.arange(8) % 3
net = nn.mlp([4, 5, 3], seed=0)
fl.fit(net, (X, y), loss="cross_entropy", optimizer=optim.adam(lr=0.1), epochs=1, progress=False)
print(json.dumps(sorted(sys.modules)))
"""

# Each takes longer than to trace and load a small training step, or is large for what it would do.
TOO_SLOW = {"numba", "scipy", "numpy.ma", "importlib.metadata", "rich", "pandas", "matplotlib"}


def modules_of(program: str) -> set[str]:
    environment = {k: v for k, v in os.environ.items() if k != "FALLLINE_GEMM"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_first_step_imports_only_what_it_needs():
    modules_of(PROGRAM)  # compiles the kernels, if they are new
    found = modules_of(PROGRAM)
    assert not TOO_SLOW & found
    assert not {"fallline.nn.inference", "fallline.lab", "fallline.cli"} & found


def test_import_alone_imports_next_to_nothing():
    program = "import json, sys, fallline; print(json.dumps(sorted(sys.modules)))"
    found = modules_of(program)
    assert "numpy" not in found
    assert {name for name in found if name.startswith("fallline.")} == {
        "fallline.core",
        "fallline.core.version",
    }
