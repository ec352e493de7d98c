"""Kernels as machine code: from memory, else from a directory of object code, else from Numba.

    load(text) -> address of  void kernel(char** bases, int64_t* args)

A kernel's text is a Python module that defines one function `kernel`; its annotations say what
`args` holds: "int" one slot with the number; "float32*" (any dtype) two, a pointer's base and its
offset in bytes; "float32" two, the place of a scalar. Pointers must not overlap. A first line
`# name: add_tanh` names the kernel in files and stack traces. What a text imports besides NumPy and
`fallline.compiler.library` is not part of its key: write such functions into the text instead.

The directory is $FALLLINE_CACHE_DIR ("off": none), else the user's cache directory. A kernel lies
there as readable source and as object code behind one line of JSON: what it was made from and for,
its size and its sha256. A file that says anything else than expected is compiled anew; nothing in
it is run or unpickled before that. Numba is imported only to compile.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import llvmlite.binding as llvm

from fallline.compiler import host

FORMAT = 1
MAGIC = "fallline kernel"
HEADER_LIMIT, FILE_LIMIT = 1 << 12, 1 << 26  # bytes


class KernelStoreWarning(RuntimeWarning):
    """The directory of kernels is damaged or cannot be written; the kernel was compiled anew."""


@dataclass(frozen=True)
class Kernel:
    """A kernel's text and the names that follow from it."""

    text: str

    @functools.cached_property
    def identity(self) -> dict[str, object]:
        """What the object code depends on."""
        text = hashlib.sha256(self.text.encode()).hexdigest()
        return {"magic": MAGIC, "format": FORMAT, "text": text, **host.identity()}

    @functools.cached_property
    def symbol(self) -> str:
        """The exported function's name, and the file's: `add_tanh_0123456789abcdef`."""
        name = re.match(r"#\s*name:\s*(\w+)\s*\n", self.text, re.ASCII)
        key = hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()
        return f"{name[1][:64] if name else 'kernel'}_{key[:16]}"

    def header(self, code: bytes) -> dict[str, object]:
        """The first line of the file that holds this object code."""
        checksum = hashlib.sha256(code).hexdigest()
        return {**self.identity, "symbol": self.symbol, "size": len(code), "sha256": checksum}


_addresses: dict[str, int] = {}  # text -> address
_kernels: dict[int, Kernel] = {}  # address -> what was loaded there
lock = threading.RLock()
# A fork waits for a load that another thread is in, so that the child finds the store whole.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
    )


def load(text: str) -> int:
    """The address of the C function of a kernel."""
    address = _addresses.get(text)
    return load_many([text])[0] if address is None else address


def load_many(texts: Iterable[str]) -> list[int]:
    """The addresses of several kernels; those that are new are announced together."""
    texts = list(texts)
    with lock:
        kernels = [Kernel(text) for text in dict.fromkeys(texts) if text not in _addresses]
        new = [kernel for kernel in kernels if not _load_stored(kernel)]
        if new:
            with announce(len(new)):
                for kernel in new:
                    _load_compiled(kernel)
        return [_addresses[text] for text in texts]


def source(kernel: int | str) -> Path | None:
    """The file with the source of a kernel (its address or its text); None without a directory."""
    return _write_source(_kernels[kernel] if isinstance(kernel, int) else Kernel(kernel))


def directory() -> Path | None:
    """Where kernels are kept; None if they are not."""
    chosen = os.environ.get("FALLLINE_CACHE_DIR")
    if chosen == "off":
        return None
    return Path(chosen) if chosen else _user_directory()


@functools.cache
def _user_directory() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("fallline") / "kernels"


# Saying what takes time ---------------------------------------------------------------------------


@contextmanager
def announce_on_terminal(count: int) -> Iterator[None]:
    """Say on a terminal that `count` kernels are compiled, if that takes more than a moment.

    Where something else draws on it, such as a progress bar, one whole line at the end.
    """
    seconds = 0.06 * count + (0 if "numba" in sys.modules else 0.5)
    if seconds < 0.5 or not sys.stderr.isatty() or os.environ.get("FALLLINE_QUIET") == "1":
        yield
        return
    kernels = "1 kernel" if count == 1 else f"{count} kernels"
    line, before = f"fallline: compiling {kernels} (first use) ...", ""
    if sys.stderr is sys.__stderr__:
        print(line, end="", file=sys.stderr, flush=True)
        before = "\r"  # said again in full, whatever was printed since
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        print(f"{before}{line} {seconds:.1f} s", file=sys.stderr, flush=True)


# Called with the number of kernels about to be compiled; entered while they are.
announce: Callable[[int], AbstractContextManager[None]] = announce_on_terminal


# The directory ------------------------------------------------------------------------------------


class _Damaged(Exception):
    """Why a file is not the kernel that its name promises."""


def _load_stored(kernel: Kernel) -> bool:
    """Load the kernel from its file. False if there is none, or none that can be used."""
    folder = directory()
    if folder is None:
        return False
    path = folder / f"{kernel.symbol}.kernel"
    try:
        with path.open("rb") as file:
            _link(kernel, _parse(file.read(FILE_LIMIT), kernel))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except (_Damaged, OSError, RuntimeError) as error:
        _warn(f"the stored kernel {path} cannot be used and is compiled anew: {error}.")
        return False
    return True


def _parse(content: bytes, kernel: Kernel) -> bytes:
    """The object code in a file, if every word of its header is as expected."""
    line, newline, code = content[:HEADER_LIMIT].partition(b"\n")
    try:
        header = json.loads(line) if newline else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("magic") != MAGIC:
        raise _Damaged("it is not a kernel file, or its beginning is damaged")
    code = content[len(line) + 1 :]
    wrong = [k for k, v in kernel.header(code).items() if header.get(k) != v]
    foreign = [k for k in wrong if k in kernel.identity]
    if foreign:
        raise _Damaged(f"it was made for another {', '.join(foreign)}")
    if wrong:
        raise _Damaged(f"it is truncated or altered ({', '.join(wrong)} differ)")
    return code


def _load_compiled(kernel: Kernel) -> None:
    """Compile a kernel, load it, and keep its object code."""
    with _undisturbed():
        from fallline.compiler.native import compile_kernel

        code = compile_kernel(kernel.text, kernel.symbol, _write_source(kernel))
    _link(kernel, code)
    header = json.dumps(kernel.header(code)).encode()
    write(f"{kernel.symbol}.kernel", header + b"\n" + code)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the end: in the middle of it, Numba would be broken ever after."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *which: came.append(which))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came:
            usual(*came[0])


def _write_source(kernel: Kernel) -> Path | None:
    folder = directory()
    if folder is None:
        return None
    path = folder / f"{kernel.symbol}.py"
    text = kernel.text.encode()
    with suppress(OSError):
        if path.read_bytes() == text:
            return path
    return write(path.name, text)


def write(name: str, content: bytes, over: bool = True) -> Path | None:
    """Write a file of the directory whole or not at all; None if that cannot be done.

    Processes that write the same one do not disturb. Unless `over`, what is there already stays.
    """
    folder = directory()
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=name, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            if over or not _link_new(temporary, folder / name):
                os.replace(temporary, folder / name)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        _warn_unwritable(str(folder), error)
        return None
    return folder / name


def _link_new(temporary: str, path: Path) -> bool:
    """Let a file have this name too if no file has it; False where there are no second names."""
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)
    except OSError:
        return False
    os.unlink(temporary)
    return True


_unwritable: set[str] = set()


def _warn_unwritable(folder: str, error: OSError) -> None:
    if folder not in _unwritable:
        _unwritable.add(folder)
        _warn(
            f"kernels cannot be kept in {folder} ({error}), so every process compiles its own. "
            "Set FALLLINE_CACHE_DIR to a directory that can be written, or to off."
        )


def _warn(message: str) -> None:
    warnings.warn(f"fallline: {message}", KernelStoreWarning, stacklevel=2)


# Object code in memory ----------------------------------------------------------------------------


def _link(kernel: Kernel, code: bytes) -> None:
    """Bring object code into memory, for as long as the process lives."""
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    name = f"{kernel.symbol}.{next(_serial)}"  # a name is not free again after a failure
    library = builder.export_symbol(kernel.symbol).link(_linker(), name)
    address = library[kernel.symbol]
    library.detach()  # never unloaded: a thread may be in it while the interpreter shuts down
    _addresses[kernel.text] = address
    _kernels[address] = kernel


_serial = itertools.count()


@functools.cache
def _linker() -> llvm.LLJIT:
    host.cpu()  # initialises the native target
    return llvm.create_lljit_compiler(use_jit_link=os.name != "nt", suppress_errors=True)
