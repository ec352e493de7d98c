"""What kernels are compiled for: this machine, this Python, these compilers, this library.

FALLLINE_CPU=x86-64-v2 (or -v3: with AVX2, or -v4: with AVX-512) compiles for any processor of that
level instead of for this one. Machines of unlike processors then run the same instructions.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from importlib.util import find_spec
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np

_COMPILE = Path(__file__).parent
_OPS = _COMPILE.with_name("ops")


def emitters() -> list[Path]:
    """The files that decide which machine code comes out of a kernel's text."""
    library = sorted((_COMPILE / "library").rglob("*.py"))
    return [_COMPILE / "native.py", *library, _OPS / "gaussian.py", _OPS / "philox.py"]


# What vectors are made of, at each level of the x86-64 psABI.
_AVX2, _AVX512 = frozenset(["avx", "avx2", "fma"]), frozenset(["avx512f", "avx512vl"])
LEVELS: dict[str, frozenset[str]] = {
    "x86-64": frozenset(),
    "x86-64-v2": frozenset(),
    "x86-64-v3": _AVX2,
    "x86-64-v4": _AVX2 | _AVX512,
}


@functools.cache
def features() -> frozenset[str]:
    """LLVM's names of what the processor that kernels are compiled for can do."""
    own = frozenset(name for name, able in llvm.get_host_cpu_features().items() if able)
    level = os.environ.get("FALLLINE_CPU", "")
    if not level:
        return own
    if level not in LEVELS or platform.machine().lower() not in ("x86_64", "amd64"):
        raise ValueError(f"FALLLINE_CPU must be one of {', '.join(LEVELS)}, on x86; got {level!r}.")
    if not own >= LEVELS[level]:
        lacking = ", ".join(sorted(LEVELS[level] - own))
        raise ValueError(f"FALLLINE_CPU: this processor is no {level}; it lacks {lacking}.")
    return LEVELS[level]


@functools.cache
def cpu() -> tuple[str, str]:
    """LLVM's name of the CPU to compile for and its features, as options of a target machine.

    Where a CPU has 512-bit vectors LLVM may still prefer 256 (for clock rates that early AVX-512
    machines lowered). We do not: Adam on data in L2 takes 2.1 us with 512, 3.7 us with 256.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    wide = "-prefer-256-bit" if "avx512f" in features() else ""
    level = os.environ.get("FALLLINE_CPU", "")
    if level:
        return level, wide
    return llvm.get_host_cpu_name(), f"{llvm.get_host_cpu_features().flatten()},{wide}".rstrip(",")


@functools.cache
def identity() -> dict[str, str]:
    """All that object code depends on besides the kernel's own text. Numba is not imported."""
    return {
        "cpu": hashlib.sha256(" ".join(cpu()).encode()).hexdigest(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": _version("numba"),
        "llvmlite": _version("llvmlite"),
        "emitters": _digest(emitters()),
    }


def _version(package: str) -> str:
    """The version of an installed package, by the name of the folder that describes it.

    `importlib.metadata` reads the description; to import it takes longer than to load all kernels
    of a small network. It is asked only if there is not exactly one such folder.
    """
    found = find_spec(package)
    if found is not None and found.origin is not None:
        described = list(Path(found.origin).parents[1].glob(f"{package}-*.dist-info"))
        if len(described) == 1:
            return described[0].stem.removeprefix(f"{package}-")
    from importlib.metadata import version

    return version(package)


def _digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()
