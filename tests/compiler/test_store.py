"""The store of kernels: what a kernel's text means, and that damage to the store does no harm."""

from __future__ import annotations

import ast
import ctypes
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fallline.compiler import host, native, store
from fallline.compiler.store import KernelStoreWarning

SCALE = """\
# name: scale
def kernel(n: "int", s: "float32", x: "float32*", y: "float32*"):
    for i in range(n):
        y[i] = x[i] * s
"""

ADAM = """\
# name: adam
from numpy import float32, sqrt
def kernel(n: "int", g: "float32*", p: "float32*", m: "float32*", v: "float32*",
           new_p: "float32*", new_m: "float32*", new_v: "float32*"):
    for i in range(n):
        a = m[i] * float32(0.9) + g[i] * float32(0.1)
        b = v[i] * float32(0.999) + g[i] * g[i] * float32(0.001)
        new_m[i] = a
        new_v[i] = b
        new_p[i] = p[i] - float32(0.001) * a / (sqrt(b) + float32(1e-8))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and a process that has not loaded anything."""
    path = tmp_path / "kernels"
    monkeypatch.setenv("FALLLINE_CACHE_DIR", str(path))
    forget(monkeypatch)
    return path


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_addresses", {})
    monkeypatch.setattr(store, "_unwritable", set())


def call(address: int, *operands: int | np.ndarray) -> None:
    """Call a kernel: a number is an "int", an array is its own base."""
    bases = (ctypes.c_void_p * 16)()
    args: list[int] = []
    for k, operand in enumerate(operands):
        if isinstance(operand, np.ndarray):
            bases[k] = operand.ctypes.data
            args += [k, 0]
        else:
            args.append(operand)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
    kind(address)(bases, (ctypes.c_int64 * len(args))(*args))


def works() -> bool:
    """Whether the kernel SCALE can be loaded and computes."""
    x, y = np.arange(37, dtype=np.float32), np.zeros(37, np.float32)
    call(store.load(SCALE), 37, np.array([3], np.float32), x, y)
    return np.array_equal(y, 3 * x)


def environment() -> dict[str, str]:
    """This process's, in which another one finds the package where it lies here."""
    return {**os.environ, "PYTHONPATH": str(Path(store.__file__).parents[2])}


def run(script: str, *arguments: object) -> str:
    """Run a script in a process of its own; returns what it printed."""
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


# What the text of a kernel means ------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int32", "int64", "uint64", "float32", "float64", "complex64"],
)
def test_pointers_and_scalars_of_every_dtype(folder: Path, dtype: str) -> None:
    text = f"""\
def kernel(n: "int", s: "{dtype}", x: "{dtype}*", y: "{dtype}*"):
    y[0] = s
    for i in range(n):
        y[i + 1] = x[i]
"""
    x = np.array([0, 1, 1, 0, 1], dtype)
    y = np.full(8, 1, dtype)
    call(store.load(text), 5, np.array([1], dtype), x, y)
    assert np.array_equal(y, np.array([1, 0, 1, 1, 0, 1, 1, 1], dtype))


def test_a_bool_is_one_byte_and_any_nonzero_byte_is_true(folder: Path) -> None:
    text = """\
def kernel(n: "int", x: "bool*", y: "bool*", z: "float32*"):
    for i in range(n):
        y[i] = not x[i]
        z[i] = 2.0 if x[i] else 5.0
"""
    x = np.array([0, 1, 255, 128, 0], np.uint8)
    y, z = np.full(6, 7, np.uint8), np.zeros(5, np.float32)
    call(store.load(text), 5, x, y, z)
    assert y.tolist() == [1, 0, 0, 0, 1, 7]
    assert z.tolist() == [5, 2, 2, 2, 5]


def test_base_and_offset(folder: Path) -> None:
    arena = np.arange(20, dtype=np.float32)
    bases = (ctypes.c_void_p * 2)(0, arena.ctypes.data)
    args = (ctypes.c_int64 * 7)(4, 1, 4 * 3, 1, 4 * 2, 1, 4 * 10)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
    kind(store.load(SCALE))(bases, args)
    assert arena[10:15].tolist() == [6, 9, 12, 15, 14]


def test_arithmetic_is_numpys_to_the_bit(folder: Path) -> None:
    text = """\
def kernel(n: "int", x: "float32*", y: "float32*", z: "float32*", w: "float32*"):
    for i in range(n):
        w[i] = x[i] * y[i] + z[i] / x[i] - y[i] * z[i]
"""
    rng = np.random.default_rng(0)
    x, y, z = (rng.standard_normal(1003).astype(np.float32) for _ in range(3))
    x[:4], y[4], z[5] = [0, -0.0, np.inf, np.nan], np.inf, -np.inf
    w = np.zeros_like(x)
    call(store.load(text), x.size, x, y, z, w)
    with np.errstate(all="ignore"):
        expected = x * y + z / x - y * z
    # equal bits, except that a nan has no sign that anyone defines
    assert np.array_equal(np.isnan(w), np.isnan(expected))
    same = ~np.isnan(w)
    assert np.array_equal(w[same].view(np.int32), expected[same].view(np.int32))


def test_helpers_in_the_text_are_inlined(folder: Path) -> None:
    text = """\
def twice(x):
    return x + x
def kernel(n: "int", x: "int64*"):
    for i in range(n):
        x[i] = twice(x[i]) + 1
"""
    x = np.arange(5)
    call(store.load(text), 5, x)
    assert x.tolist() == [1, 3, 5, 7, 9]


def test_seven_pointers_vectorise_without_alias_checks(folder: Path) -> None:
    native = pytest.importorskip("fallline.compiler.native")
    code = str(native.optimised(ADAM, "adam"))
    assert re.search(r"fdiv <\d+ x float>", code)
    assert re.search(r"store <\d+ x float>", code)
    assert "memcheck" not in code


@pytest.mark.parametrize(
    "body",
    ["x[0] = len(str(n))", "x[0] = len([n, n])", "print(n)", "x[0] = hash('x')", "x[0] = y"],
)
def test_what_needs_numbas_run_time_is_refused(folder: Path, body: str) -> None:
    native = pytest.importorskip("fallline.compiler.native")
    with pytest.raises(native.KernelError, match="^fault_"):
        store.load(f'# name: fault\ndef kernel(n: "int", x: "int64*"):\n    {body}\n')


def test_only_the_c_library_may_be_called(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = pytest.importorskip("fallline.compiler.native")
    monkeypatch.setattr(native, "EXTERNAL", frozenset())
    text = 'import math\ndef kernel(x: "float64*"):\n    x[0] = math.expm1(x[0])\n'
    with pytest.raises(native.KernelError, match="may call only the C library; got expm1"):
        store.load(text)


def test_exceptions_are_refused(folder: Path) -> None:
    native = pytest.importorskip("fallline.compiler.native")
    text = 'def kernel(n: "int"):\n    if n < 0:\n        raise ValueError("no")\n'
    with pytest.raises(native.KernelError, match="cannot raise exceptions"):
        store.load(text)


@pytest.mark.parametrize("annotation", ["integer", "float16*", "float99", "str"])
def test_unknown_annotations_are_refused(folder: Path, annotation: str) -> None:
    native = pytest.importorskip("fallline.compiler.native")
    with pytest.raises(native.KernelError, match="parameter x must be annotated"):
        store.load(f'def kernel(x: "{annotation}"):\n    pass\n')


def test_a_text_without_kernel_is_refused(folder: Path) -> None:
    native = pytest.importorskip("fallline.compiler.native")
    with pytest.raises(native.KernelError, match="must define a function named kernel"):
        store.load("def colonel(): pass\n")


# Memory, disk, Numba ------------------------------------------------------------------------------


def test_loaded_once(folder: Path) -> None:
    assert store.load(SCALE) == store.load(SCALE)
    first, second, again = store.load_many([SCALE, ADAM, SCALE])
    assert first == again != second


def test_files_are_named_after_the_kernel_and_readable(folder: Path) -> None:
    address = store.load(SCALE)
    names = sorted(p.name for p in folder.iterdir())
    assert len(names) == 2
    assert all(re.fullmatch(r"scale_[0-9a-f]{16}\.(kernel|py)", n) for n in names)
    source = store.source(address)
    assert source == store.source(SCALE)
    assert source is not None and source.read_text() == SCALE
    source.unlink()
    assert store.source(address) == source and source.read_text() == SCALE


def test_a_second_process_starts_without_numba(folder: Path) -> None:
    assert works()
    script = """
import sys
from fallline.compiler import host, store
address = store.load(sys.argv[1])
print(address != 0, "numba" in sys.modules)
"""
    assert run(script, SCALE).split() == ["True", "False"]


def test_the_key_covers_all_that_emits_code() -> None:
    """A change in a module that the emitters import must not find old machine code."""
    files = host.emitters()
    covered = {*files, Path(host.__file__)}
    package = Path(host.__file__).parents[2]
    for file in files:
        for imported in _imports(file):
            path = package.joinpath(*imported.split(".")).with_suffix(".py")
            assert not path.is_file() or path in covered, f"{file.name} imports {imported}"


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_ctrl_c_waits_for_the_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba would not work again in this process."""
    compile_kernel, before, done = native.compile_kernel, signal.getsignal(signal.SIGINT), []

    def interrupted(*arguments: object) -> bytes:
        signal.raise_signal(signal.SIGINT)
        done.append(compile_kernel(*arguments))
        return done[0]

    monkeypatch.setattr(native, "compile_kernel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.load(SCALE)
    assert len(done) == 1
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(native, "compile_kernel", compile_kernel)
    assert works()


def test_two_processes_compile_the_same_kernel(folder: Path) -> None:
    script = "import sys; from fallline.compiler import store; print(store.load(sys.argv[1]) != 0)"
    command = [sys.executable, "-W", "error", "-c", script, SCALE]
    settings = {"stdout": subprocess.PIPE, "text": True, "env": environment()}
    both = [subprocess.Popen(command, **settings) for _ in range(2)]  # type: ignore[call-overload]
    assert [p.communicate(timeout=120)[0].strip() for p in both] == ["True", "True"]
    assert len(list(folder.iterdir())) == 2  # no temporary files are left
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert works()


def test_without_a_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLLINE_CACHE_DIR", "off")
    assert store.directory() is None
    assert works()
    assert store.source(SCALE) is None
    assert not folder.exists()


def test_the_default_directory_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FALLLINE_CACHE_DIR", raising=False)
    directory = store.directory()
    assert directory is not None and directory.name == "kernels" and "fallline" in directory.parts


# Damage -------------------------------------------------------------------------------------------

BOMB = Path("bomb-went-off")


class _Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.touch, (BOMB,)  # type: ignore[return-value]


def _flip(place: float) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        at = int(place * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]

    return flip


def _foreign(field: str, value: object) -> Callable[[bytes], bytes]:
    def forge(content: bytes) -> bytes:
        line, code = content.split(b"\n", 1)
        return json.dumps({**json.loads(line), field: value}).encode() + b"\n" + code

    return forge


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "half a header": lambda content: content[:100],
    "header alone": lambda content: content.split(b"\n")[0] + b"\n",
    "half": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "one byte more": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "no header": lambda content: content.split(b"\n", 1)[1],
    "an endless header": lambda content: b'{"magic": "' + b"x" * 100_000 + b'"}\n',
    "deep nesting": lambda content: b"[" * 4000 + b"\n",
    "a huge number": lambda content: b"1" * 4000 + b"\n",
    "not UTF-8": lambda content: b"\xff\xfe\n" + content,
    "a list": lambda content: b"[]\n" + content,
    "a pickle": lambda content: pickle.dumps(_Bomb()),
    "other format": _foreign("format", store.FORMAT + 1),
    "other processor": _foreign("cpu", "0" * 64),
    "other Numba": _foreign("numba", "0.1"),
    "other kernel": _foreign("text", "0" * 64),
    "other symbol": _foreign("symbol", "scale"),
    "other size": _foreign("size", 1 << 40),
    "checksum of another type": _foreign("sha256", None),
    **{f"flipped at {place}": _flip(place) for place in (0, 0.05, 0.3, 0.6, 0.9, 1)},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert works()
    (path,) = folder.glob("*.kernel")
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    assert path.read_bytes() != whole
    forget(monkeypatch)
    with pytest.warns(KernelStoreWarning, match=r"cannot be used and is compiled anew") as caught:
        assert works()
    assert len(caught) == 1
    assert not BOMB.exists()
    assert path.read_bytes()[:200] == whole[:200]
    forget(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert works()


def test_an_unreadable_file_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert works()
    forget(monkeypatch)
    opened = Path.open

    def refuse(path: Path, *arguments: str, **keywords: str) -> object:
        if path.suffix == ".kernel":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **keywords)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.warns(KernelStoreWarning, match="Permission denied") as caught:
        assert works()
    assert len(caught) == 1


def _a_file_in_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_text("not a directory")


def _a_file_above_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "file").write_text("not a directory")
    monkeypatch.setenv("FALLLINE_CACHE_DIR", str(folder.parent / "file" / "kernels"))


def _directories_in_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in ("kernel", "py"):
        (folder / f"{store.Kernel(SCALE).symbol}.{suffix}" / "occupied").mkdir(parents=True)


def _read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(store.tempfile, "mkstemp", refuse)


def _full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "replace", refuse)


UNWRITABLE = [_a_file_in_its_place, _a_file_above_it, _directories_in_the_way, _read_only, _full]


@pytest.mark.parametrize("obstacle", UNWRITABLE)
def test_a_store_that_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, obstacle: Callable[..., None]
) -> None:
    obstacle(folder, monkeypatch)
    with pytest.warns(
        KernelStoreWarning, match="cannot be kept in .* Set FALLLINE_CACHE_DIR"
    ) as caught:
        store.load_many([SCALE, ADAM])
    assert len(caught) == 1  # not one for each kernel
    assert works()
    leftovers = list(folder.glob("*.tmp")) if folder.is_dir() else []
    assert not leftovers


# Saying so ----------------------------------------------------------------------------------------


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it seem that Numba has yet to be imported, so that compiling takes its time."""
    monkeypatch.delenv("FALLLINE_QUIET", raising=False)
    modules = {name: m for name, m in sys.modules.items() if name != "numba"}
    monkeypatch.setattr(store, "sys", _Sys(modules))


class _Sys(ModuleType):
    def __init__(self, modules: dict[str, ModuleType]) -> None:
        super().__init__("sys")
        self.modules = modules
        self.stderr = self.__stderr__ = _Terminal()


def test_compiling_is_announced_on_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, no_numba: None
) -> None:
    store.load_many([SCALE, ADAM])
    said = store.sys.stderr.getvalue()
    first, last = said.split("\r")  # overwrites itself
    assert first == "fallline: compiling 2 kernels (first use) ..."
    assert re.fullmatch(re.escape(first) + r" \d+\.\d s\n", last)
    forget(monkeypatch)
    store.load_many([SCALE, ADAM])
    assert store.sys.stderr.getvalue() == said  # nothing was compiled


def test_beside_a_live_display_it_is_one_whole_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, no_numba: None
) -> None:
    from rich.console import Console
    from rich.progress import Progress

    terminal = store.sys.__stderr__
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(console=Console(file=terminal, force_terminal=True, width=80)) as progress:
        progress.add_task("training")
        store.sys.stderr = sys.stderr  # by now rich's, which collects whole lines
        store.load_many([SCALE, ADAM])
    said = terminal.getvalue()
    assert re.search(r"fallline: compiling 2 kernels \(first use\) \.\.\. \d+\.\d s\n", said)
    assert said.count("compiling") == 1


def test_under_another_stream_that_is_no_terminal_it_is_silent(
    folder: Path, no_numba: None, capsys: pytest.CaptureFixture[str]
) -> None:
    store.sys.stderr = sys.stderr
    store.load_many([SCALE, ADAM])
    assert capsys.readouterr().err == ""


def test_or_not(folder: Path, monkeypatch: pytest.MonkeyPatch, no_numba: None) -> None:
    monkeypatch.setenv("FALLLINE_QUIET", "1")
    store.load(SCALE)
    monkeypatch.delenv("FALLLINE_QUIET")
    monkeypatch.setattr(_Terminal, "isatty", lambda self: False)
    store.load(ADAM)
    assert store.sys.stderr.getvalue() == ""


def test_another_way_of_announcing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    said: list[object] = []

    @contextmanager
    def announce(count: int) -> Iterator[None]:
        said.append(count)
        yield
        said.append("done")

    monkeypatch.setattr(store, "announce", announce)
    store.load_many([SCALE, ADAM])
    assert said == [2, "done"]


def test_a_process_can_fork_while_another_thread_compiles(folder: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    script = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")  # newer Pythons warn of fork beside threads
from fallline.compiler import host, store
text = sys.argv[1]
thread = threading.Thread(target=store.load, args=(text,))
thread.start()
child = os.fork()
if child == 0:
    os._exit(0 if store.load(text.replace("scale", "other")) else 1)
_, status = os.waitpid(child, 0)
thread.join()
print(status)
"""
    assert run(script, SCALE).strip() == "0"
