"""What a layer may need beside its input: the mode, randomness, and a way to hand values out."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fallline.nn.module import Module


@dataclass
class Taps:
    """What passed through a network, by the path of the layer, in the order of computation."""

    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    named: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Context:
    """What training adds to a call; without one, or in mode "eval", a layer infers.

    mode     "train" or "eval"
    key      four uint32 for this step (`ops.random`): what is random in a layer comes from it
    path     where the layer lies in the network, as in the names of its parameters: "0", "block.2"
    updates  new values of what is not trained by gradients, such as running statistics, by name
    taps     if given, what goes in and out of every layer is recorded in it
    shifts   arrays that are added to outputs, by path: the derivative by one, at 0, is the
             sensitivity of that output

    A module passes its own `ctx` on to its layers, and each finds its path by itself. A layer that
    is called twice gets the path "0", then "0#2"; `ctx.at("name")` gives a path of one's choice.
    """

    mode: Literal["train", "eval"] = "eval"
    key: Any = None
    path: str = ""
    updates: dict[str, Any] = field(default_factory=dict)
    taps: Taps | None = None
    shifts: dict[str, Any] | None = None
    owner: Module | None = None
    seen: dict[str, int] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.mode not in ("train", "eval"):
            raise ValueError(f'Context: mode must be "train" or "eval"; got {self.mode!r}.')

    @property
    def training(self) -> bool:
        return self.mode == "train"

    @property
    def site(self) -> int:
        """A number below 2^32 made of the path: random numbers of two layers are independent."""
        return zlib.crc32(self.path.encode())

    def at(self, name: str) -> Context:
        """The context for a layer that is to be known by this name."""
        return replace(self, path=join(self.path, name), owner=None)

    def update(self, name: str, value: Any) -> None:
        """Hand out a new value of this layer's array `name`."""
        self.updates[join(home(self.path), name)] = value

    def newest(self, name: str, value: Any) -> Any:
        """What was handed out last for this layer's array `name`, else `value`, what it holds.

        A layer that runs twice goes on from what it said the first time.
        """
        return self.updates.get(join(home(self.path), name), value)

    def tap(self, name: str, value: Any) -> Any:
        """Show a value under a name; use what is returned in its place."""
        name = join(self.path, name)
        value = self._shifted(name, value)
        if self.taps is not None:
            self.taps.named[name] = value
        return value

    def enter(self, module: Module) -> Context:
        """The context for the inside of a module that was called with this one."""
        if self.owner is module:  # super().__call__(x, ctx=ctx)
            return self
        path = self.path
        if self.owner is not None:
            found = (name for name, child in self.owner.children() if child is module)
            path = join(path, next(found, type(module).__name__.lower()))
        self.seen[path] = times = self.seen.get(path, 0) + 1
        self.told.add(id(module))
        return replace(self, path=path if times == 1 else f"{path}#{times}", owner=module)

    def leave(self, x: Any, y: Any) -> Any:
        """Record what went through the module of this context; returns its output."""
        y = self._shifted(self.path, y)
        if self.taps is not None:
            self.taps.inputs[self.path] = x
            self.taps.outputs[self.path] = y
        return y

    def _shifted(self, name: str, value: Any) -> Any:
        shift = None if self.shifts is None else self.shifts.get(name)
        return value if shift is None else value + shift


def home(path: str) -> str:
    """The path of the layer that runs there, whichever time it is: "block#2.0" is "block.0"."""
    return re.sub(r"#\d+", "", path)


def join(path: str, name: str) -> str:
    """Two parts of a path with a dot between, unless one is empty."""
    return f"{path}.{name}" if path and name else path or name


def with_context(call: Callable[..., Any]) -> Callable[..., Any]:
    """A module's `__call__` that knows where in the network it runs."""
    takes = "ctx" in signature(call).parameters

    @wraps(call)
    def wrapped(self: Module, *args: Any, ctx: Context | None = None, **kwargs: Any) -> Any:
        if ctx is None:
            return call(self, *args, **kwargs)
        inner = ctx.enter(self)
        y = call(self, *args, **({"ctx": inner} if takes else {}), **kwargs)
        if inner is ctx:
            return y
        if ctx.training:
            _check_told(self, inner)
        return inner.leave(args[0] if args else None, y)

    return wrapped


def _check_told(module: Module, ctx: Context) -> None:
    """A layer that trains in another way than it infers must not have missed the context."""
    name = type(module).__name__
    for path, inner in module.modules():
        if inner.needs_context and id(inner) not in ctx.told:
            raise TypeError(
                f"{name}: {path} ({type(inner).__name__}) was not told that it is being trained. "
                "Write def __call__(self, x, *, ctx=None) and pass ctx=ctx to every layer."
            )
