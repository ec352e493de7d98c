"""Derivatives against their definition: differences, the complex step, the adjoint identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fallline.compiler.function import compile
from fallline.core import tree
from fallline.core.autodiff import jvp, vjp
from fallline.core.errors import TracingError
from fallline.core.spec import spec_of

Arrays = list[Any]
Named = dict[str, Any]
Function = Callable[[Arrays], Named]
Slope = Callable[[Arrays], Named]  # a derivative of named results along a direction

STEPS = (1e-3, 1e-4, 1e-5)  # relative to the arguments, or absolute below 1
EXACT = 1e-3  # of the tolerance, where no step is involved: round-off only
ROUNDING = 1e4  # units in the last place of the largest number: sums have another order
DUAL = "<c, result>"


def check_gradients(
    f: Callable[..., Any],
    *args: Any,
    order: int = 2,
    modes: Sequence[str] = ("forward", "reverse"),
    analytic: bool = False,
    tolerance: float | None = None,
    seed: int = 0,
    compiled: bool = True,
) -> None:
    """Check that the derivatives of f at args are right, in both modes and up to an order.

        J v = d/de f(x + e v) at e = 0,    <c, J v> = <J^T c, v>,    and so on for J v and J^T c

    args, and what f returns, are trees of float arrays. Directions v and c are random (`seed`). J v
    is compared with central differences of f in float64, extrapolated to step 0; with `analytic`,
    at first order, with the complex step Im f(x + i e v) / e, for an f that takes complex arrays.
    Derivatives must have the shapes and types of what they belong to. `tolerance` (default 1e-6) is
    relative to the largest derivative. Stay away from kinks by more than 0.1% (0.001 below 1).
    With `compiled`, f and its gradient must also be what they are when they are compiled, if all
    their operations have a kernel. Raises AssertionError that names the worst entry.

    >>> check_gradients(lambda x, y: np.sum(np.sin(x) * y), np.array([0.5, 1.0]), 2.0)
    >>> from fallline.ops import elementwise
    >>> wrong = elementwise(lambda x: x**3, lambda y, x: 2 * x**2, name="wrong")
    >>> check_gradients(wrong, np.array([1.0, 2.0]))
    Traceback (most recent call last):
    AssertionError: check_gradients: forward mode: the derivative of result[1] by argument 0[1]
    must be 12 (finite differences); got 8.
    """
    _check_types(f, args)
    leaves, structure = tree.flatten(list(args))
    names = [f"argument {path}" for path, _ in tree.named_leaves(list(args))]

    def flat(xs: Arrays) -> Named:
        found = tree.named_leaves(f(*tree.unflatten(structure, xs)))
        return {_result(path): y for path, y in found if spec_of(y).dtype.kind in "fc"}

    rng = np.random.default_rng(seed)
    check = _Check(names, tuple(modes), 1e-6 if tolerance is None else tolerance, rng)
    check.run(flat, [np.array(leaf, np.float64) for leaf in leaves], order, analytic)
    if compiled:
        _check_compiled(f, args, check.rng, tuple(modes) if order else ())


def _result(path: str) -> str:
    return f"result {path}" if path else "result"


def _check_types(f: Callable[..., Any], args: tuple[Any, ...]) -> None:
    y, pull = vjp(f, *args)
    dy = jvp(f, args, tree.tree_map(np.ones_like, args))[1]
    dx = pull(tree.tree_map(np.ones_like, y))
    for what, values, derivatives in (("tangent", y, dy), ("cotangent", args, dx)):
        for (path, x), d in zip(tree.named_leaves(values), tree.leaves(derivatives), strict=True):
            if (want := spec_of(x)).dtype.kind == "f" and spec_of(d) != want:
                name = _result(path) if what == "tangent" else f"argument {path}"
                raise AssertionError(
                    f"check_gradients: the {what} of {name} must be {want!r}; got {spec_of(d)!r}."
                )


def _check_compiled(
    f: Callable[..., Any], args: tuple[Any, ...], rng: np.random.Generator, modes: tuple[str, ...]
) -> None:
    """Kernels compute what NumPy does."""
    y = f(*args)
    floats = [d for d in (spec_of(x).dtype for x in tree.leaves((args, y))) if d.kind == "f"]
    close = ROUNDING * max([float(np.finfo(d).eps) for d in floats], default=0.0)

    def like(x: Any) -> Any:
        return rng.normal(size=spec_of(x).shape).astype(spec_of(x).dtype)

    c, v = tree.tree_map(like, y), tree.tree_map(like, args)
    parts: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [("result", f, args)]
    if "forward" in modes:
        parts.append(("tangent", lambda v, *xs: jvp(f, xs, v)[1], (v, *args)))
    if "reverse" in modes:
        parts.append(("gradient", lambda c, *xs: vjp(f, *xs)[1](c), (c, *args)))
    for what, function, given in parts:
        try:
            found = compile(function)(*given)
        except TracingError:
            return  # an operation without a kernel, or a branch on values
        _compare_compiled(what, tree.named_leaves(found), tree.leaves(function(*given)), close)


def _compare_compiled(
    what: str, found: list[tuple[str, Any]], want: list[Any], close: float
) -> None:
    for (path, got), right in zip(found, want, strict=True):
        got, right = np.asarray(got), np.asarray(right)
        scale = np.max(np.abs(right), initial=0.0, where=np.isfinite(right))
        with np.errstate(invalid="ignore"):
            wrong = ~((np.abs(got * 1.0 - right) <= close * scale) | (got == right))
        wrong &= ~((got != got) & (right != right))  # nan where nan belongs
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            name = " ".join([what, path]).strip() + _shown(at)
            raise AssertionError(
                f"check_gradients: compiled, {name} must be {right[at]:.9g}, as it is eagerly; got "
                f"{got[at]:.9g}. Is a kernel wrong?"
            )


@dataclass
class _Check:
    names: list[str]
    modes: tuple[str, ...]
    tolerance: float
    rng: np.random.Generator

    def run(self, f: Function, x: Arrays, order: int, analytic: bool, over: str = "") -> None:
        """Check the derivatives of f at x, then theirs; `over` says which of them f is itself."""
        y = {k: np.asarray(a) for k, a in f(x).items()}
        c = {k: self.rng.normal(size=a.shape) for k, a in y.items()}
        v = self.direction(x)
        noise = 1e-3 * sum(float(np.sum(np.abs(a))) for a in y.values())  # f's own round-off

        def forward(e: Arrays) -> Named:
            return jvp(f, (x,), (e,))[1]

        def numeric(e: Arrays) -> Named:
            return _complex_step(f, x, e) if analytic else _differences(f, x, e)

        def reverse(e: Arrays) -> Named:
            return {DUAL: sum(np.sum(a * b) for a, b in zip(vjp(f, x)[1](c)[0], e, strict=True))}

        def dual(slope: Slope) -> Slope:
            return lambda e: {DUAL: sum(np.sum(c[k] * d) for k, d in slope(e).items())}

        how = "complex step" if analytic else "finite differences"
        close, exact = self.tolerance, self.tolerance * EXACT
        if "forward" in self.modes:
            limit = exact if analytic else close
            self.compare(f"forward{over}", x, forward, numeric, how, limit, noise)
        if "reverse" in self.modes:
            self.compare(f"reverse{over}", x, reverse, dual(numeric), how, close, noise)
        if set(self.modes) >= {"forward", "reverse"}:
            self.compare(f"reverse{over}", x, reverse, dual(forward), "forward mode", exact, noise)
        if order > 1:
            for mode in self.modes:
                self.run(_derivative(f, mode, v, c), x, order - 1, False, f" over {mode}{over}")

    def direction(self, x: Arrays) -> Arrays:
        """A step for each entry, about as large as the entry or 1, of random sign."""
        return [self.rng.choice([-1, 1], a.shape) * np.maximum(1, np.abs(a)) for a in x]

    def compare(
        self, mode: str, x: Arrays, found: Slope, want: Slope, how: str, limit: float, noise: float
    ) -> None:
        """Compare along a random direction; where it fails, entry by entry to name the worst."""
        v = self.direction(x)
        got, right = found(v), want(v)
        if all(_gap(got[k], right[k], noise) <= limit for k in right):
            return
        gaps = []
        for argument, e in self.entries(x):
            got, right = found(e), want(e)
            for k in right:
                for at in np.ndindex(np.shape(right[k])):
                    pair = float(np.asarray(got[k])[at]), float(np.asarray(right[k])[at])
                    gap = abs(pair[0] - pair[1])
                    gaps.append((gap if gap == gap else np.inf, k + _shown(at), argument, *pair))
        _, result, argument, value, expected = max(gaps)
        raise AssertionError(
            f"check_gradients: {mode} mode: the derivative of {result} by {argument} must be "
            f"{expected:.9g} ({how}); got {value:.9g}."
        )

    def entries(self, x: Arrays) -> Iterator[tuple[str, Arrays]]:
        for i, name in enumerate(self.names):
            for at in np.ndindex(x[i].shape):
                e = [np.zeros(a.shape) for a in x]
                e[i][at] = 1
                yield name + _shown(at), e


def _derivative(f: Function, mode: str, v: Arrays, c: Named) -> Function:
    if mode == "forward":
        return lambda xs: jvp(f, (xs,), (v,))[1]
    return lambda xs: {f"gradient {i}": g for i, g in enumerate(vjp(f, xs)[1](c)[0])}


def _differences(f: Function, x: Arrays, v: Arrays) -> Named:
    """Central differences for two steps, extrapolated (Richardson); the steps that agree best."""

    def slope(h: float) -> Named:
        ahead, behind = (f([a + s * h * d for a, d in zip(x, v, strict=True)]) for s in (1, -1))
        return {k: (np.asarray(ahead[k]) - behind[k]) / (2 * h) for k in ahead}

    best: Named = {}
    least = np.inf
    for h in STEPS:
        wide, narrow = slope(h), slope(h / 2)
        error = max((_gap(wide[k], narrow[k], 0.0) for k in wide), default=0.0)
        if not best or error < least:
            best, least = {k: (4 * narrow[k] - wide[k]) / 3 for k in wide}, error
    return best


def _complex_step(f: Function, x: Arrays, v: Arrays) -> Named:
    y = f([a + 1e-50j * d for a, d in zip(x, v, strict=True)])
    return {k: np.asarray(np.imag(a), np.float64) / 1e-50 for k, a in y.items()}


def _gap(a: Any, b: Any, noise: float) -> float:
    """The largest difference, relative to the largest of b and to noise; infinite for nan."""
    if not np.size(b):
        return 0.0
    gap, size = float(np.max(np.abs(a - b))), max(float(np.max(np.abs(b))), noise)
    if gap == 0:
        return 0.0
    return gap / size if size > 0 and gap == gap else np.inf


def _shown(at: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, at))}]" if at else ""
