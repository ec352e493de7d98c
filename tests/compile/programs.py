"""Random programs: Python text that NumPy runs and `compile` compiles.

    program = draw(7)
    program.function(*program.inputs)
    print(program)

A line fills one of the templates below with values that are there already. NumPy tries it: what it
refuses, what is not finite and what becomes large is drawn again, so any expression may stand here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline import ops
from fallline.core.spec import spec_of

# {a} is a value, most often a late one, {b} and {c} are any; the other blanks belong to `_Blanks`.
# Among the inputs t is a number and k an array of indices.
TEMPLATES = {
    "map": (
        *("-{a}", "np.tanh({a})", "np.maximum({a}, 0.1)", "{a} * t", "np.sqrt(np.abs({a}) + 1)"),
        *("ops.sigmoid({a})", "1 / (1 + {a} * {a})", "{a} * 1"),
    ),
    "pair": (
        *("{a} + {b}", "{b} - {a}", "{a} * {b}", "{a} / (1.5 + np.abs({b}))"),
        *("np.maximum({a}, {b})", "np.where({a} > {b}, {a}, {b} * 2)"),
    ),
    "reduction": (
        *("np.sum({a}, axis={axes}, keepdims={keep})", "np.max({a}, axis={axes}, keepdims={keep})"),
        "np.mean({a}, axis={axes}, keepdims={keep})",
    ),
    "row": (
        *("ops.softmax({a}, axis={axis})", "{a} * np.sum({a}, axis={axis}, keepdims=True)"),
        "{a} - np.mean({a}, axis={axis}, keepdims=True) / (1 + np.std({a}, axis={axis}, keepdims=True))",
        "np.where(np.any({a} > 0, axis={axis}, keepdims=True), {a}, {a} / 2)",
    ),
    "view": (
        *("np.transpose({a}, {order})", "np.reshape({a}, {shape})", "{a}[{slices}]"),
        *("np.expand_dims({a}, {axis})", "np.squeeze({a})", "np.flip({a}, {axis})", "np.ravel({a})"),
        *("np.broadcast_to({a}, (2, *np.shape({a})))", "np.diagonal({a}, {shift})"),
    ),
    "join": (
        *("np.concatenate([{a}, {b}, {c}], axis={axis})", "np.stack([{a}, {b}], axis={axis})"),
        *("np.concatenate([{a}, {a} * 2], axis={axis})", "np.repeat({a}, 2, axis={axis})"),
        *("np.pad({a}, 1)", "np.roll({a}, {shift}, axis={axis})", "np.diag({a}, {shift})"),
        *("np.broadcast_to(t, (3,))", "np.stack([t, 1.5])", "np.tril({a}, {shift})"),
    ),
    "product": ("{a} @ {b} * 0.3", "{b} @ {a} * 0.3", "np.outer({a}, {b})", "np.trace({a})"),
    "index": (
        *("np.take({a}, k, axis={axis})", "np.take({a}, {indices}, axis={axis})", "{a}[k, {indices}]"),
        *("{a} + np.argmax({a}, axis={axis}, keepdims=True)", "np.cumsum({a}, axis={axis})"),
        "np.take_along_axis({a}, np.argmax({a}, axis={axis}, keepdims=True), axis={axis})",
    ),
}
KINDS = "map pair pair reduction reduction row view view join product index".split()
LARGE, LONG = 1e3, 400  # no value is larger, no array longer


@dataclass
class Program:
    """Text, the function that it defines, and inputs, of which the first `floats` are arrays of floats."""

    name: str
    text: str
    inputs: dict[str, Any]
    floats: int
    function: Callable[..., tuple[Any, ...]]

    def __str__(self) -> str:
        types = ", ".join(f"{name}: {spec_of(x)!r}" for name, x in self.inputs.items())
        return f"{self.name}: {types}\n{self.text}"


def draw(seed: int, dtype: str = "float64", lines: int = 8, mixed: bool = False) -> Program:
    """The program of a seed; `mixed`: with inputs of other types beside."""
    rng = np.random.default_rng(seed)
    dims = np.maximum(rng.choice([0, 1, 1, 2, 3, 4, 5, 7], 3), rng.random() < 0.9)
    floats = {f"x{i}": _array(rng, dims, dtype) for i in range(rng.integers(1, 4))}
    inputs = {**floats, "t": 0.7, "k": np.array([0, -1, 0])}
    for i in range(2 * mixed):
        inputs[f"z{i}"] = _array(rng, dims, rng.choice(["f4", "f8", "i4", "i8", "u1", "?"]))
    values = {name: x for name, x in inputs.items() if name not in ("t", "k")}
    text = [f"def program({', '.join(inputs)}):"]
    while len(text) <= lines:
        name = f"v{len(text)}"
        expression, value = _line(rng, values, inputs)
        values[name] = value
        text.append(f"    {name} = {expression}  # {value.shape}")
    results = [name, *rng.choice(list(values), rng.integers(0, 3))]
    text.append(f"    return {', '.join(results)},")
    space = {"np": np, "ops": ops}
    exec("\n".join(text), space)
    name = f"draw({seed}, {dtype!r}, {lines}, {mixed})"
    return Program(name, "\n".join(text), inputs, len(floats), space["program"])


def fenced(x: Any) -> Any:
    """The same numbers between NaNs (or -1): what a kernel reads or writes beside them shows."""
    if not isinstance(x, np.ndarray):
        return x
    memory = np.full(x.size + 64, np.nan if x.dtype.kind == "f" else 1, x.dtype)
    y = memory[32 : 32 + x.size].reshape(x.shape)
    y[...] = x
    return y


def _array(rng: np.random.Generator, dims: Any, dtype: str) -> Any:
    shape = rng.choice([*dims, 1], rng.integers(0, 4))
    return (rng.standard_normal(shape) * 3).astype(dtype) if dtype not in ("u1", "?") else rng.integers(0, 2, shape).astype(dtype)


def _line(rng: np.random.Generator, values: dict[str, Any], inputs: dict[str, Any]) -> tuple[str, Any]:
    """An expression of the values, and its own."""
    while True:
        template = str(rng.choice(TEMPLATES[rng.choice(KINDS)]))
        expression = template.format_map(_Blanks(rng, values))
        try:
            with warnings.catch_warnings(action="ignore"):
                y = np.asarray(eval(expression, {"np": np, "ops": ops}, inputs | values))
        except (ValueError, IndexError, TypeError):
            continue
        if y.size <= LONG and np.all(np.abs(y * 1.0) < LARGE):
            return expression, y


class _Blanks(dict[str, str]):
    """What fills the blanks of a template, each drawn when it is met first."""

    def __init__(self, rng: np.random.Generator, values: dict[str, Any]) -> None:
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
    def _shape(self) -> tuple[int, ...]:
        return self.values[self["a"]].shape

    def axis(self) -> int:
        return int(self.rng.integers(-1, len(self._shape))) if self._shape else 9

    def axes(self) -> Any:
        chosen = np.flatnonzero(self.rng.random(len(self._shape)) < 0.5)
        return tuple(map(int, chosen)) if self.rng.random() < 0.8 else None

    def keep(self) -> bool:
        return bool(self.rng.random() < 0.5)

    def order(self) -> tuple[int, ...]:
        return tuple(map(int, self.rng.permutation(len(self._shape))))

    def shape(self) -> tuple[int, ...]:
        size = int(np.prod(self._shape))
        first = self.rng.choice([d for d in range(1, size + 1) if size % d == 0] or [1])
        return [(int(first), -1), (1, int(first), -1, 1), (-1,)][self.rng.integers(3)]

    def slices(self) -> str:
        kinds = [":", "::-1", "1:", "::2", "0", "..."]
        return ", ".join(self.rng.choice(kinds, max(len(self._shape), 1), p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]))

    def shift(self) -> int:
        return int(self.rng.integers(-1, 2))

    def indices(self) -> list[int]:
        return [int(i) for i in self.rng.integers(-2, 2, 3)]
