"""How many threads."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.process
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fallline.compiler import threads


@pytest.fixture(autouse=True)
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setattr(threads, "_usual", None)
    monkeypatch.delenv("FALLLINE_NUM_THREADS", raising=False)


def test_set_and_get() -> None:
    threads.set_threads(3)
    assert threads.get_threads() == 3
    threads.set_threads(np.int64(2))
    assert threads.get_threads() == 2
    threads.set_threads(None)
    assert threads.get_threads() >= 1


def test_none_looks_at_the_environment_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLLINE_NUM_THREADS", "7")
    assert threads.get_threads() == 7
    monkeypatch.setenv("FALLLINE_NUM_THREADS", "6")
    assert threads.get_threads() == 7
    threads.set_threads(None)
    assert threads.get_threads() == 6


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_set_refuses(n: object) -> None:
    with pytest.raises(
        ValueError, match="set_threads: n must be a whole number >= 1, or None; got"
    ):
        threads.set_threads(n)  # type: ignore[arg-type]


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLLINE_NUM_THREADS", "7")
    assert threads.get_threads() == 7


@pytest.mark.parametrize("value", ["0", "-2", "many", "1.5"])
def test_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FALLLINE_NUM_THREADS", value)
    with pytest.raises(ValueError, match="FALLLINE_NUM_THREADS must be a whole number >= 1; got"):
        threads.get_threads()


def test_affinity_and_quota_bound_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    for quota, expected in ((math.inf, 6), (2.9, 2), (0.5, 1), (64.0, 6)):
        monkeypatch.setattr(threads, "_cgroup_quota", lambda quota=quota: quota)
        monkeypatch.setattr(threads, "_usual", None)
        assert threads.get_threads() == expected


@pytest.mark.parametrize(
    "membership, files, expected",
    [
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu.max": "max 100000"}, math.inf),
        ("0::/\n", {"cpu.max": "250000 100000"}, 2.5),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ("0::/a/b\n", {"a/b/cpu.max": "800000 100000", "a/cpu.max": "400000 100000"}, 4.0),
        ("0::/a\n", {"a/cpu.max": "nonsense"}, math.inf),
        (
            "3:cpu,cpuacct:/docker\n1:memory:/docker\n",
            {"cpu/docker/cpu.cfs_quota_us": "150000", "cpu/docker/cpu.cfs_period_us": "100000"},
            1.5,
        ),
        (
            "3:cpu:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            math.inf,
        ),
    ],
)
def test_quota_of_cgroups(
    tmp_path: Path, membership: str, files: dict[str, str], expected: float
) -> None:
    own = tmp_path / "cgroup"
    own.write_text(membership)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert threads._cgroup_quota(tmp_path / "fs", own) == expected


def test_no_cgroups(tmp_path: Path) -> None:
    assert threads._cgroup_quota(tmp_path / "fs", tmp_path / "missing") == math.inf


def test_one_thread_in_a_worker_process(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = SimpleNamespace(name="LokyProcess-1")
    monkeypatch.setattr(multiprocessing.process, "current_process", lambda: worker)
    assert threads.get_threads() == 1


POOL = "get_context('{}').Pool(1).map(count, [0])[0]"
EXECUTOR = "ProcessPoolExecutor(1, get_context('{}')).submit(count).result()"
WORKERS = {
    "multiprocessing": POOL.format("spawn"),
    "concurrent.futures": EXECUTOR.format("spawn"),
    "joblib": "joblib.Parallel(n_jobs=2)([joblib.delayed(count)()])[0]",
}
if "fork" in multiprocessing.get_all_start_methods():
    WORKERS["multiprocessing, forked"] = POOL.format("fork")
    WORKERS["concurrent.futures, forked"] = EXECUTOR.format("fork")


@pytest.mark.parametrize("set_before", [None, 3], ids=["default", "set"])
@pytest.mark.parametrize("kind", WORKERS)
def test_real_worker_processes(tmp_path: Path, kind: str, set_before: int | None) -> None:
    """One thread, whatever the default was before it began, unless it inherits a choice."""
    script = f"""
import os
import numpy as np
import fallline as fl
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from fallline.compiler import threads

def count(_=None):
    return threads.get_threads()

if __name__ == "__main__":
    import joblib
    os.sched_getaffinity = lambda pid: range(8)
    threads._cgroup_quota = lambda: 8.0
    fl.compile(np.tanh)(np.ones(9))
    if {set_before}:
        fl.set_threads({set_before})
    print(threads.get_threads(), {WORKERS[kind]})
"""
    file = tmp_path / "script.py"
    file.write_text(script)
    command = [sys.executable, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(Path(threads.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    expected = [set_before or 8, set_before if set_before and "forked" in kind else 1]
    assert list(map(int, done.stdout.split())) == expected, done.stderr
