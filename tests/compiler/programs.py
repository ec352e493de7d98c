"""Random programs: Python text that NumPy runs and `compile` compiles.

    program = draw(7)
    program.function(*program.inputs.values())
    print(program)

A line fills one of the templates below with values that are there already. NumPy tries it: what it
refuses, what is not finite and what becomes large is drawn again, so any expression may stand here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline import ops
from fallline.core.spec import spec_of

Array = np.ndarray[Any, Any]
NAMES = {"np": np, "ops": ops}
LARGE, LONG = 1e3, 400  # no value is larger, no array longer

# {a} is a value, most often a late one, {b} and {c} are any; `_Blanks` knows the other blanks.
# Among the inputs t is a number, and k are indices. There are few templates of a kind, so that
# programs have kernels in common.
TEMPLATES = """
map    -{a}
map    np.tanh({a})
map    np.maximum({a}, 0.1)
map    {a} * t
pair   {a} + {b}
pair   {a} * {b}
pair   np.where({a} > {b}, {a}, {b} * 2)
sum    np.sum({a}, axis={axes}, keepdims={keep})
sum    np.max({a}, axis={axes}, keepdims={keep})
row    ops.softmax({a}, axis={axis})
row    {a} * np.mean({a}, axis={axis}, keepdims=True)
row    {a} / (1 + np.std({a}, axis={axis}, keepdims=True))
row    np.where(np.any({a} > 0, axis={axis}, keepdims=True), {a}, {a} / 2)
view   np.transpose({a}, {order})
view   np.reshape({a}, {shape})
view   np.ravel({a})
view   np.squeeze({a})
view   np.expand_dims({a}, {axis})
view   np.flip({a}, {axis})
view   np.broadcast_to({a}, (2, *np.shape({a})))
view   np.diagonal({a}, {shift})
view   {a}[{slices}]
join   np.concatenate([{a}, {b}, {c}], axis={axis})
join   np.concatenate([{a}, {a} * 2], axis={axis})
join   np.stack([{a}, {b}], axis={axis})
join   np.stack([t, 1.5])
join   np.broadcast_to(t, (3,))
join   np.repeat({a}, 2, axis={axis})
join   np.roll({a}, {shift}, axis={axis})
join   np.pad({a}, 1)
join   np.diag({a}, {shift})
join   np.tril({a}, {shift})
dot    {a} @ {b}
dot    {b} @ {a}
dot    np.outer({a}, {b})
dot    np.trace({a})
index  {a}[k, {indices}]
index  np.take({a}, k, axis={axis})
index  np.take({a}, {indices}, axis={axis})
index  np.take_along_axis({a}, np.argmax({a}, axis={axis}, keepdims=True), axis={axis})
index  {a} + np.argmax({a}, axis={axis}, keepdims=True)
index  np.cumsum({a}, axis={axis})
"""
KINDS = ["map", "pair", "pair", "sum", "sum", "row", "view", "view", "join", "dot", "index"]


@dataclass
class Program:
    """A text, the function that it defines, and arguments for it by name."""

    name: str
    text: str
    inputs: dict[str, Any]

    @property
    def function(self) -> Callable[..., tuple[Any, ...]]:
        names = dict(NAMES)
        exec(self.text, names)
        return names["program"]

    @property
    def floats(self) -> int:
        """How many of the inputs, the first, are arrays of floats to differentiate by."""
        return sum(name.startswith("x") for name in self.inputs)

    def __str__(self) -> str:
        types = ", ".join(f"{name}: {spec_of(x)!r}" for name, x in self.inputs.items())
        return f"{self.name}  # {types}\n{self.text}"


def draw(seed: int, dtype: str = "float64", lines: int = 8, mixed: bool = False) -> Program:
    """The program of a seed: inputs x0, x1, ... of one type; `mixed`: z0 and z1 of others too."""
    rng = np.random.default_rng(seed)
    dims = np.maximum(rng.choice([0, 1, 1, 2, 3, 4, 5, 7], 3), rng.random() < 0.9)
    inputs = {f"x{i}": _array(rng, dims, dtype) for i in range(rng.integers(1, 4))}
    for i in range(2 * mixed):
        inputs[f"z{i}"] = _array(rng, dims, rng.choice(["f4", "f8", "i4", "u1", "?"]))
    inputs |= {"t": 0.7, "k": np.array([0, -1, 0])}
    text = compose(rng, inputs, lines)
    return Program(f"draw({seed}, {dtype!r}, {lines}, {mixed})", text, inputs)


def compose(
    rng: np.random.Generator,
    inputs: Mapping[str, Any],
    lines: int,
    templates: str = TEMPLATES,
    kinds: list[str] = KINDS,
) -> str:
    """The text of a program: it returns its last value and up to two of the others."""
    known = {name: x for name, x in inputs.items() if name not in "tk"}
    table = [line.split(maxsplit=1) for line in templates.strip().splitlines()]
    text = [f"def program({', '.join(inputs)}):"]
    while len(text) <= lines:
        kind = rng.choice(kinds)
        template = rng.choice([template for own, template in table if own == kind])
        expression = template.format_map(_Blanks(rng, known))
        value = _tried(expression, {**inputs, **known})
        if value is None or (kind == "index" and not value.size):
            continue  # where the result is empty, NumPy takes any index
        known[name := f"v{len(text)}"] = value
        text.append(f"    {name} = {expression}  # {value.shape}")
    results = [name, *rng.choice(list(known), rng.integers(0, 3))]
    return "\n".join([*text, f"    return ({', '.join(results)},)"])


def fenced(x: Any) -> Any:
    """A copy of an array between NaNs (or ones): it shows what is read or written beside it."""
    if not isinstance(x, np.ndarray):
        return x
    memory = np.full(x.size + 64, np.nan if x.dtype.kind == "f" else 1).astype(x.dtype)
    y = memory[32 : 32 + x.size].reshape(x.shape)
    y[...] = x
    return y


def _array(rng: np.random.Generator, dims: Array, dtype: str) -> Array:
    x = rng.standard_normal(rng.choice([*dims, 1], rng.integers(0, 4))) * 3
    return np.asarray(np.abs(x) if dtype == "u1" else x > 0 if dtype == "?" else x).astype(dtype)


def _tried(expression: str, values: dict[str, Any]) -> Array | None:
    """The value of an expression, if it has one that is of use."""
    try:
        with warnings.catch_warnings(action="ignore"):
            y = np.asarray(eval(expression, NAMES, values))
    except (ValueError, IndexError, TypeError):
        return None
    if y.dtype in (np.float16, bool):  # in these one does not compute
        return None
    return y if y.size <= LONG and np.all(np.abs(y) < LARGE) else None


class _Blanks(dict[str, str]):
    """What fills the blanks of a template, drawn when it is asked for first."""

    def __init__(self, rng: np.random.Generator, values: dict[str, Array]) -> None:
        super().__init__()
        self.rng, self.values = rng, values

    def __missing__(self, blank: str) -> str:
        self[blank] = str(getattr(self, blank)())
        return self[blank]

    def a(self) -> str:
        return list(self.values)[-min(len(self.values), int(self.rng.geometric(0.35)))]

    def b(self) -> str:
        return str(self.rng.choice(list(self.values)))

    c = b

    @property
    def _dims(self) -> tuple[int, ...]:
        return self.values[self["a"]].shape

    def axis(self) -> int:
        return int(self.rng.integers(-1, len(self._dims))) if self._dims else 9

    def axes(self) -> tuple[int, ...] | None:
        chosen = np.flatnonzero(self.rng.random(len(self._dims)) < 0.5)
        return tuple(map(int, chosen)) if self.rng.random() < 0.8 else None

    def keep(self) -> bool:
        return bool(self.rng.random() < 0.5)

    def order(self) -> tuple[int, ...]:
        return tuple(map(int, self.rng.permutation(len(self._dims))))

    def shape(self) -> tuple[int, ...]:
        size = int(np.prod(self._dims))
        d = int(self.rng.choice([d for d in range(1, size + 1) if size % d == 0] or [1]))
        return [(d, -1), (1, d, -1, 1)][self.rng.integers(2)]

    def slices(self) -> str:
        kinds = [":", "::-1", "1:", "::2", "0", "..."]
        return ", ".join(self.rng.choice(kinds, max(len(self._dims), 1)))

    def shift(self) -> int:
        return int(self.rng.integers(-1, 2))

    def indices(self) -> list[int]:
        return [int(i) for i in self.rng.integers(-2, 2, 3)]
