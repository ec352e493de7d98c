"""Which kernel computes a product: measured once, kept, never another; and other processors."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fallline as fl
from fallline.compiler import choice, host, store
from fallline.compiler.library.products import blas, gemm

needs_blas = pytest.mark.skipif(not blas.gemm_function("float32"), reason="no BLAS here")
able = host.features()
forget = choice.limit.cache_clear


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store on a machine where there is a choice."""
    path = tmp_path / "kernels"
    monkeypatch.setenv("FALLLINE_CACHE_DIR", str(path))
    monkeypatch.setattr(store, "_addresses", {})
    monkeypatch.setattr(store, "_unwritable", set())
    monkeypatch.setattr(gemm, "instruction_set", lambda: "avx2" if gemm.available() else "")
    monkeypatch.setattr(gemm, "available", lambda: "avx2" in able)
    monkeypatch.setattr(gemm, "forced", lambda: "")
    return path


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    forget()
    yield
    forget()


class Measured:
    """Stands in for the measurement: other numbers each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(choice, "measure", self)

    def __call__(self, small: str, dtype: str) -> float:
        self.count += 1
        return 1000.0 * self.count


def again() -> float:
    """What the next process finds."""
    forget()
    return choice.limit("float32")


@needs_blas
def test_it_is_measured_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured(monkeypatch)
    assert [again(), again(), choice.limit("float32")] == [1000.0] * 3
    assert choice.limit("float64") == 2000.0
    assert measured.count == 2
    assert {json.loads(f.read_text())["dtype"] for f in folder.glob("*.json")} == {
        "float32",
        "float64",
    }
    small = gemm.services("float32")[0]
    assert gemm.serves("float32", 9, 11, 10, again()) == small
    assert gemm.serves("float32", 10, 10, 10, again()) == "blas"


@needs_blas
def test_infinity_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "measure", lambda small, dtype: math.inf)
    assert again() == math.inf
    Measured(monkeypatch)
    assert again() == math.inf
    assert gemm.serves("float32", 10**6, 10**6, 10, again()) != "blas"


DAMAGE: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "truncated": lambda text: text[: len(text) // 2],
    "another number": lambda text: text.replace("1000.0", "1001.0"),
    "another BLAS": lambda text: text.replace('"blas": "', '"blas": "Other'),
    "no object": lambda text: "[1000.0]",
    "no number": lambda text: text.replace("1000.0", '"many"'),
    "nested": lambda text: "[" * 100_000,
    "no text": lambda text: "\udcff",
}


@needs_blas
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_measured_anew(
    damage: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured(monkeypatch)
    again()
    (file,) = folder.glob("*.json")
    text = DAMAGE[damage](file.read_text())
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert [again(), again()] == [2000.0, 2000.0]
    assert measured.count == 2
    assert list(folder.iterdir()) == [file]


@needs_blas
def test_who_measures_first_decides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(small: str, dtype: str) -> float:
        choice._keep(dtype, 5.0, over=False)  # another process meanwhile
        return 6.0

    monkeypatch.setattr(choice, "measure", slow)
    assert again() == 5.0
    assert len(list(folder.iterdir())) == 1


@needs_blas
def test_where_there_are_no_second_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError("not on this file system")

    monkeypatch.setattr(os, "link", refuse)
    Measured(monkeypatch)
    assert [again(), again()] == [1000.0, 1000.0]
    assert len(list(folder.iterdir())) == 1


@needs_blas
def test_what_cannot_be_kept_does_not_decide(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = gemm.LIMITS[gemm.instruction_set()]
    Measured(monkeypatch)
    folder.write_text("a file where the directory should be")
    with pytest.warns(store.KernelStoreWarning, match="cannot be kept"):
        assert again() == usual
    assert again() == usual
    monkeypatch.setenv("FALLLINE_CACHE_DIR", "off")
    measured = Measured(monkeypatch)
    assert again() == usual
    assert measured.count == 0


def test_nothing_is_measured_where_nothing_is_to_be_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured(monkeypatch)
    choice.limit("int64")
    monkeypatch.setattr(gemm, "forced", lambda: "loops")
    again()
    monkeypatch.setattr(gemm, "forced", lambda: "")
    monkeypatch.setattr(gemm, "instruction_set", lambda: "avx512")
    assert again() == math.inf
    monkeypatch.setattr(gemm, "instruction_set", lambda: "avx2")
    monkeypatch.setattr(blas, "_blas", lambda: blas._Blas({}, ""))
    again()
    assert measured.count == 0


@needs_blas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_measurement(dtype: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ROUNDS", 1)
    monkeypatch.setattr(choice, "EXPONENTS", range(8, 17, 4))
    small = gemm.services(dtype)[0]
    assert choice.limit(dtype) in (0, 1 << 11, 1 << 15, math.inf)
    assert all(choice._ratio(small, dtype, size) > 0 for size in (100, 5000, 1 << 14))


def test_products_of_both_sides_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled function asks: below the limit one kernel, above it the other, both right."""
    monkeypatch.setattr(choice, "limit", lambda dtype: 20 * 20 * 20)
    monkeypatch.setattr(gemm, "forced", lambda: "")
    for n in (19, 20):
        a, b = np.random.default_rng(n).integers(-5, 5, (2, n, n)).astype(np.float32)
        compiled = fl.compile(lambda a, b: a @ b)
        assert np.array_equal(compiled(a, b), a @ b)
        uses_blas = any(launch.calls_blas for launch in compiled.plan(a, b).lowered.launches)
        assert uses_blas == (n == 20 and bool(blas.gemm_function("float32")))


# Other processors ---------------------------------------------------------------------------------

TRAINING = """
import numpy as np
import fallline as fl
from fallline import nn, ops, optim
from fallline.compiler import choice, host
from fallline.compiler.library.products import gemm

rng = np.random.default_rng(0)
X = rng.standard_normal((300, 40)).astype(np.float32)
y = np.argmax(X @ rng.standard_normal((40, 3)), axis=1)
hidden = [nn.Linear(40, 64, seed=1), np.tanh, nn.Linear(64, 64, seed=2), ops.relu]
net = nn.Sequential(*hidden, nn.Dropout(0.1), nn.Linear(64, 3, seed=3))
fl.fit(net, (X, y), optimizer=optim.adam(lr=0.01), epochs=20, batch_size=50, seed=0, progress=False)
print(np.mean(np.argmax(net(X), axis=1) == y), gemm.instruction_set() or "none", *host.cpu()[:1])
print(choice.limit("float32"))
"""


def train(folder: Path, cpu: str, **environment: str) -> tuple[float, str, str, float]:
    """Accuracy, instruction set, processor and limit of a training run on a pretended machine."""
    path = str(Path(store.__file__).parents[2])
    given = {"FALLLINE_CPU": cpu, "FALLLINE_CACHE_DIR": str(folder), "PYTHONPATH": path}
    ran = subprocess.run(
        [sys.executable, "-c", TRAINING],
        env={**os.environ, **given, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    accuracy, instruction_set, name, limit = ran.stdout.split()
    return float(accuracy), instruction_set, name, float(limit)


@pytest.mark.skipif(host.platform.machine().lower() not in ("x86_64", "amd64"), reason="x86 only")
def test_older_processors(tmp_path: Path) -> None:
    """Without vectors, and with AVX2: both learn, by kernels of their own in one directory."""
    accuracy, instruction_set, name, limit = train(tmp_path, "x86-64-v2")
    assert (instruction_set, name) == ("none", "x86-64-v2")
    assert accuracy > 0.97
    first = {file.name for file in tmp_path.glob("*.kernel")}
    assert first and not any("vector" in file for file in first)
    assert any(file.startswith("gemm_float32") for file in first)
    if not able >= host.LEVELS["x86-64-v3"]:
        pytest.skip("this processor has no AVX2")
    accuracy, instruction_set, name, limit = train(tmp_path, "x86-64-v3")
    assert (instruction_set, name) == ("avx2", "x86-64-v3")
    assert accuracy > 0.97
    both = {file.name for file in tmp_path.glob("*.kernel")}
    assert both > first and any("gemm_vector" in file for file in both)
    assert not {f.rpartition("_")[2] for f in first} & {f.rpartition("_")[2] for f in both - first}
    assert train(tmp_path, "x86-64-v3")[3] == limit  # as it was measured
    assert {file.name for file in tmp_path.glob("*.kernel")} == both


@pytest.mark.skipif(host.platform.machine().lower() not in ("x86_64", "amd64"), reason="x86 only")
def test_without_vectors_and_without_blas(tmp_path: Path) -> None:
    accuracy, instruction_set, _, _ = train(tmp_path, "x86-64", FALLLINE_GEMM="loops")
    assert instruction_set == "none"
    assert accuracy > 0.97


def test_processors_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLLINE_CPU", "pentium")
    with pytest.raises(ValueError, match="FALLLINE_CPU must be one of x86-64, .*; got 'pentium'"):
        host.features.__wrapped__()
    monkeypatch.setenv("FALLLINE_CPU", "x86-64-v4")
    monkeypatch.setattr(host.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(host.llvm, "get_host_cpu_features", lambda: {"avx": True, "avx2": True})
    with pytest.raises(ValueError, match="no x86-64-v4; it lacks avx512f, avx512vl, fma"):
        host.features.__wrapped__()
