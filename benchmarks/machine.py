"""What the figures were measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .harness import environment

LIBRARIES = (
    "fallline", "numpy", "scipy", "numba", "llvmlite", "torch", "jax", "jaxlib", "optax",
    "scikit-learn", "autograd",
)  # fmt: skip
SOURCE = Path(__file__).resolve().parent.parent / "src"
FLAGS = ["avx2", "fma", "avx512f", "avx512_bf16", "avx512vl", "asimd", "sve"]


def describe() -> dict[str, object]:
    """Processor, cores, vector instructions, memory, system, every library's version or None."""
    info = _cpuinfo()
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "family": f"family {info.get('cpu family', '?')} model {info.get('model', '?')}",
        "cores": _usable_cores(),
        "flags": [flag for flag in FLAGS if flag in info.get("flags", "").split()],
        "cache": info.get("cache size", "?"),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def same(one: dict, other: dict) -> bool:
    """Whether figures of both may stand side by side."""
    keys = ("cpu", "family", "cores", "python", "versions")
    return all(one.get(key) == other.get(key) for key in keys)


def multiply_adds() -> list[list[float]]:
    """[[GF/s of one thread in registers, of two]], by a process of its own; [] where it fails."""
    command = [sys.executable, "-m", "benchmarks.kernels.multiply_adds"]
    done = subprocess.run(
        command, cwd=SOURCE.parent, env=environment(2), capture_output=True, text=True
    )
    return [json.loads(done.stdout)] if done.returncode == 0 else []


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = file.read().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (s.partition(":") for s in lines)}


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return "source tree" if (SOURCE / name).is_dir() else None
