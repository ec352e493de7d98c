"""The functions of kernels, beside NumPy: error in ulp, special values, types, vectorisation."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from numba.core import types
from numba.core.registry import cpu_target
from numba.np.numpy_support import as_dtype, from_dtype
from tests.compiler.running import run

from fallline.compiler.library import mathematics, value
from fallline.compiler.library.mathematics import arithmetic, counters
from fallline.compiler.native import optimised

IMPORT = "from fallline.compiler.library.mathematics import *\n"
FLOATS = ("float32", "float64")

# Oracles --------------------------------------------------------------------------------------


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0) + np.log1p(np.exp(-np.abs(x)))


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, x, 0) - np.log1p(np.exp(-np.abs(x)))


def erf(x: np.ndarray) -> np.ndarray:
    u = np.asarray(x, np.longdouble) * np.sqrt(np.longdouble(2))
    places = [np.abs(u) < 2.5, u >= 2.5, u <= -2.5]
    parts = (lambda v: 2 * around_zero(v), lambda v: 1 - 2 * tail(v), lambda v: 2 * tail(v) - 1)
    return np.piecewise(u, places, [*parts, np.nan])


def normal_cdf(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.longdouble)
    places = [np.abs(x) < 2.5, x >= 2.5, x <= -2.5]
    return np.piecewise(
        x, places, [lambda v: 0.5 + around_zero(v), lambda v: 1 - tail(v), tail, np.nan]
    )


def density(a: np.ndarray) -> np.ndarray:
    """e^(-a^2 / 2) / sqrt(2 pi), from a square without rounding and a rest."""
    head = np.rint(16 * a) / 16
    two_pi = np.longdouble("6.28318530717958647692528676655900577")
    return np.exp(-head * head / 2) * np.exp(-(a - head) * (a + head) / 2) / np.sqrt(two_pi)


def around_zero(x: np.ndarray) -> np.ndarray:
    """Phi(x) - 1/2 = density(x) (x + x^3 / 3 + x^5 / 3 5 + x^7 / 3 5 7 + ...)."""
    total = term = x
    for k in range(3, 120, 2):
        term = term * x * x / k
        total = total + term
    return density(x) * total


def tail(x: np.ndarray) -> np.ndarray:
    """Phi(-|x|) = density(x) / (a + 1 / (a + 2 / (a + 3 / ...))), a = |x| >= 2.5."""
    total = a = np.minimum(np.abs(x), 40)
    for k in range(160, 0, -1):
        total = a + k / total
    return density(a) / total


# Greatest error in ulp, of float32 and of float64. The oracle computes in the next wider type.
UNARY: dict[str, tuple[Callable, float, float]] = {
    "exp": (np.exp, 0.9, 0.95),
    "exp2": (np.exp2, 0.9, 1.0),
    "expm1": (np.expm1, 1.6, 1.9),
    "log": (np.log, 1.0, 1.2),
    "log2": (np.log2, 1.6, 1.6),
    "log10": (np.log10, 1.8, 1.7),
    "log1p": (np.log1p, 0.9, 0.9),
    "sigmoid": (sigmoid, 2.5, 2.5),
    "log_sigmoid": (log_sigmoid, 2.0, 2.2),
    "softplus": (softplus, 2.0, 2.2),
    "erf": (erf, 1.7, 1.6),
    "normal_cdf": (normal_cdf, 3.8, 3.8),
    "tanh": (np.tanh, 2.7, 2.7),
    "sin": (np.sin, 1.6, 1.1),
    "cos": (np.cos, 1.6, 1.1),
    "tan": (np.tan, 1.9, 1.4),
    "arcsin": (np.arcsin, 0.7, 0.7),
    "arccos": (np.arccos, 0.7, 0.7),
    "arctan": (np.arctan, 0.9, 0.9),
    "sinh": (np.sinh, 2.0, 1.7),
    "cosh": (np.cosh, 2.1, 1.7),
    "arcsinh": (np.arcsinh, 1.4, 1.4),
    "arccosh": (np.arccosh, 1.1, 1.1),
    "arctanh": (np.arctanh, 0.9, 0.9),
    "cbrt": (np.cbrt, 0.51, 0.51),
}
BINARY: dict[str, tuple[Callable, float, float]] = {
    "power": (np.power, 0.9, 0.9),
    "hypot": (np.hypot, 0.51, 1.0),
    "logaddexp": (np.logaddexp, 1.7, 1.8),
    "logaddexp2": (np.logaddexp2, 2.5, 2.7),
    "arctan2": (np.arctan2, 1.1, 1.0),
}
EXACT_UNARY = (
    *("negative", "square", "reciprocal", "sqrt", "absolute", "fabs", "sign", "signbit"),
    *("floor", "ceil", "trunc", "rint", "isnan", "isinf", "isfinite", "logical_not"),
    *("radians", "degrees"),
)
EXACT_BINARY = (
    *("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod"),
    *("maximum", "minimum", "fmax", "fmin", "copysign", "heaviside"),
    *("logical_and", "logical_or", "logical_xor"),
)
INTEGER_UNARY = ("negative", "square", "reciprocal", "absolute", "sign", "floor", "ceil", "trunc")
INTEGER_BINARY = (
    *("add", "subtract", "multiply", "floor_divide", "remainder", "fmod", "maximum", "minimum"),
    "power",
)
CASTS = tuple(name for name in arithmetic.__all__ if name[-1].isdigit() or name == "bool_")
ELSEWHERE = ("where", "fma", "reduce_add", "reduce_max", "reduce_min", "float_power")


def test_every_function_is_tested() -> None:
    tested = {*UNARY, *BINARY, *EXACT_UNARY, *EXACT_BINARY, *CASTS, *ELSEWHERE}
    assert tested == set(mathematics.__all__) - set(counters.__all__)


# Running ------------------------------------------------------------------------------------------


def evaluate(
    names: tuple[str, ...], *operands: np.ndarray, result: str = "", remark: str = ""
) -> list[np.ndarray]:
    """All these functions of the operands, in one kernel with a loop for each."""
    kind, n = operands[0].dtype.name, len(operands[0])
    result = result or kind
    parameters = ", ".join(f'x{k}: "{kind}*"' for k in range(len(operands)))
    arguments = ", ".join(f"x{k}[i]" for k in range(len(operands)))
    loops = "".join(
        f"    for i in range(n):\n        y[{k} * n + i] = {name}({arguments})\n"
        for k, name in enumerate(names)
    )
    text = f'{IMPORT}def kernel(n: "int", {parameters}, y: "{result}*"):{remark}\n{loops}'
    y = np.empty((len(names), n), result)
    run(text, n, *operands, y)
    return list(y)


def ulp_error(y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """|y - reference| in units of the last place that the type has at the reference."""
    info = np.finfo(y.dtype)
    with np.errstate(all="ignore"):
        rounded = reference.astype(y.dtype)
        size = np.maximum(np.abs(reference), np.asarray(info.smallest_normal, reference.dtype))
        ulp = np.ldexp(reference.dtype.type(1), np.frexp(size)[1] - 1 - info.nmant)
        error = np.abs(y.astype(reference.dtype) - reference) / ulp
    beyond = ~(np.isfinite(y) & np.isfinite(rounded))
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    return np.where(beyond, np.where(same, 0, np.inf), error)


def sweep(kind: str, n: int = 100_000) -> np.ndarray:
    """Random bit patterns, the magnitudes where functions bend, near 1, near multiples of pi/2."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 2 * n, np.uint32).view(kind)[:n]
    near_zero = rng.uniform(-1, 1, n) * np.exp2(rng.uniform(-30, 3, n))
    parts = (4 * rng.standard_normal(n), 40 * rng.standard_normal(n), near_zero)
    near_one = 1 + 0.1 * rng.standard_normal(n)
    quarters = np.arange(-n // 2, n // 2) * (math.pi / 2)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return np.concatenate([bits, *parts, near_one, -near_one, quarters]).astype(kind)


def special(kind: str) -> np.ndarray:
    info = np.finfo(kind)
    numbers = [0, 0.5, 1, 1.5, 2, 3, 1e3, 1e6 + 1, info.max, info.smallest_normal, info.tiny / 8]
    numbers += [info.smallest_subnormal, np.inf]
    return np.array([*numbers, *(-v for v in numbers), np.nan], kind)


def wider(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)


def slack(kind: str) -> float:
    """What is granted beside a bound, in ulp.

    To an oracle in float64 of a function in float64; to a processor without fused multiply-add.
    """
    exact = kind == "float32" or np.finfo(np.longdouble).nmant > 60
    return (0.0 if exact else 2.0) + (0.0 if value.fuses() else 0.5)


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FLOATS)
def test_unary_functions_are_within_their_bounds(kind: str) -> None:
    x = sweep(kind)
    wide = wider(x)
    for name, y in zip(UNARY, evaluate(tuple(UNARY), x)):
        oracle, *bounds = UNARY[name]
        with np.errstate(all="ignore"):
            error = ulp_error(y, np.asarray(oracle(wide)))
        worst = int(np.argmax(error))
        bound = bounds[FLOATS.index(kind)] + slack(kind)
        assert error[worst] <= bound, f"{name}({x[worst]!r}) = {y[worst]!r}: {error[worst]:.3g} ulp"


@pytest.mark.parametrize("kind", FLOATS)
def test_binary_functions_are_within_their_bounds(kind: str) -> None:
    x = sweep(kind)
    y = np.random.default_rng(1).permutation(x)
    for name, z in zip(BINARY, evaluate(tuple(BINARY), x, y)):
        oracle, *bounds = BINARY[name]
        with np.errstate(all="ignore"):
            reference = oracle(wider(x), wider(y))
            error = ulp_error(z, reference)
        if name.startswith("logaddexp"):  # near a result of 0 the two terms cancel
            error *= np.abs(reference) >= 0.5
        worst = int(np.argmax(error))
        bound = bounds[FLOATS.index(kind)] + slack(kind)
        assert error[worst] <= bound, f"{name}({x[worst]!r}, {y[worst]!r}) = {z[worst]!r}"


@pytest.mark.parametrize("kind", FLOATS)
def test_gelu_is_within_its_bound(kind: str) -> None:
    x = np.linspace(-40, 10, 100_000).astype(kind)
    cdf = normal_cdf(wider(x))
    y = x * evaluate(("normal_cdf",), x)[0]
    error = np.where(cdf > np.finfo(kind).smallest_normal, ulp_error(y, x * cdf), 0)
    assert error.max() <= 5 + slack(kind), x[np.argmax(error)]


@pytest.mark.parametrize("kind", FLOATS)
def test_powers_of_every_magnitude(kind: str) -> None:
    """Bases of all exponents to powers whose results are spread over all exponents, and beyond."""
    info, rng, n = np.finfo(kind), np.random.default_rng(2), 200_000
    low, high = info.minexp - info.nmant, info.maxexp
    x = np.ldexp(rng.uniform(1, 2, n), rng.integers(low, high, n)).astype(kind)
    x = np.where(np.arange(n) % 2 == 0, x, rng.uniform(0.5, 2, n).astype(kind))
    with np.errstate(all="ignore"):
        y = (rng.uniform(low - 5, high + 5, n) / np.log2(wider(x))).astype(kind)
        reference = np.power(wider(x), wider(y))
    (z,) = evaluate(("power",), x, y)
    error = ulp_error(z, reference)
    worst = int(np.argmax(error))
    bound = BINARY["power"][1 + FLOATS.index(kind)] + slack(kind)
    assert error[worst] <= bound, f"power({x[worst]!r}, {y[worst]!r}) = {z[worst]!r}"


def test_the_number_nearest_to_a_multiple_of_half_pi() -> None:
    """6381956970095103 2^797: the cosine is less than 2^-60. Muller 2016, Elementary functions."""
    x = np.array([math.ldexp(6381956970095103, 797)])
    (y,) = evaluate(("cos",), x)
    np.testing.assert_allclose(y, -4.687165924254628e-19, rtol=2e-16)


@pytest.mark.parametrize("kind", FLOATS)
def test_without_fused_multiply_add(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the formulas are on a processor that lacks it."""
    monkeypatch.setattr(value, "fuses", lambda: False)
    names = ("exp", "log1p", "tanh", "sin", "arctan", "erf", "cbrt")
    x = sweep(kind, 5000)
    for name, y in zip(names, evaluate(names, x, remark="  # without fma")):
        oracle, *bounds = UNARY[name]
        with np.errstate(all="ignore"):
            error = ulp_error(y, np.asarray(oracle(wider(x))))
        worst = int(np.argmax(error))
        bound = bounds[FLOATS.index(kind)] + slack(kind)
        assert error[worst] <= bound, f"{name}({x[worst]!r}) = {y[worst]!r}: {error[worst]:.3g} ulp"


@pytest.mark.parametrize("kind", FLOATS)
def test_special_values_are_numpys(kind: str) -> None:
    x = special(kind)
    for name, y in zip(UNARY, evaluate(tuple(UNARY), x)):
        with np.errstate(all="ignore"):
            expected = np.asarray(UNARY[name][0](x)).astype(kind)
        same_special(name, y, expected)
    pairs = np.array(list(itertools.product(x, x)), kind).T.copy()
    for name, y in zip(BINARY, evaluate(tuple(BINARY), *pairs)):
        with np.errstate(all="ignore"):
            same_special(name, y, BINARY[name][0](*pairs))


def same_special(name: str, y: np.ndarray, expected: np.ndarray) -> None:
    """NaN, infinities and zeros with their signs are equal, all else is nearly."""
    wrong = np.isnan(y) != np.isnan(expected)
    wrong |= ~np.isnan(y) & (np.signbit(y) != np.signbit(expected))
    np.testing.assert_array_equal(wrong, False, err_msg=name)
    info = np.finfo(y.dtype)
    atol = 0 if value.fuses() else info.smallest_subnormal
    np.testing.assert_allclose(y, expected, rtol=8 * info.eps, atol=atol, err_msg=name)


@pytest.mark.parametrize("kind", FLOATS)
def test_exact_functions_have_numpys_bits(kind: str) -> None:
    x = np.concatenate([sweep(kind, 20_000), special(kind)])
    y = np.random.default_rng(1).permutation(x)
    few = special(kind)
    pairs = np.array(list(itertools.product(few, few)), kind).T
    x2, y2 = (np.concatenate([a, b]) for a, b in zip((x, y), pairs))
    results = zip(EXACT_UNARY, evaluate(EXACT_UNARY, x))
    for name, got in results:
        with np.errstate(all="ignore"):
            same_bits(name, got, getattr(np, name)(x))
    for name, got in zip(EXACT_BINARY, evaluate(EXACT_BINARY, x2, y2)):
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(x2, y2)
        if name in ("maximum", "minimum", "fmax", "fmin"):  # of -0 and 0 NumPy takes either
            got, expected = np.where(got == 0, 0, got), np.where(expected == 0, 0, expected)
        same_bits(name, got, expected)


def same_bits(name: str, y: np.ndarray, expected: np.ndarray) -> None:
    expected = expected.astype(y.dtype)
    wrong = ~np.isnan(expected) & (y.view(f"u{y.itemsize}") != expected.view(f"u{y.itemsize}"))
    assert not wrong.any(), f"{name}: {y[wrong][:3]} should be {expected[wrong][:3]}"
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected), err_msg=name)


@pytest.mark.parametrize("kind", ["int8", "int64", "uint8", "uint32"])
def test_integers_are_numpys(kind: str) -> None:
    """By zero, by -1 and beyond the range as well."""
    info, rng = np.iinfo(kind), np.random.default_rng(0)
    few = np.unique([info.min, info.min + 1, max(info.min, -1), 0, 1, 2, 7, info.max]).astype(kind)
    pairs = np.array(list(itertools.product(few, few)), kind).T
    more = rng.integers(info.min, info.max, (2, 2000), kind, endpoint=True)
    more[1, :1000] = rng.integers(0, 12, 1000).astype(kind)
    x, y = np.concatenate([pairs, more], axis=1)
    for name, got in zip(INTEGER_UNARY, evaluate(INTEGER_UNARY, x)):
        valid = x != 0 if name == "reciprocal" else np.ones(len(x), bool)
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(x[valid])
        np.testing.assert_array_equal(got[valid], expected, err_msg=f"{name} {kind}")
    for name, got in zip(INTEGER_BINARY, evaluate(INTEGER_BINARY, x, y)):
        valid = y >= 0 if name == "power" else np.ones(len(y), bool)
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(x[valid], y[valid])
        np.testing.assert_array_equal(got[valid], expected, err_msg=f"{name} {kind}")


def test_negative_powers_of_integers() -> None:
    x = np.array([-2, -1, -1, 0, 1, 2, 7])
    y = np.array([-1, -3, -4, -1, -9, -1, -2])
    assert evaluate(("power",), x, y)[0].tolist() == [0, -1, 1, 0, 1, 0, 0]


def test_literal_exponents_are_exact_and_weak() -> None:
    text = IMPORT + (
        'def kernel(n: "int", x: "float32*", y: "float32*"):\n'
        "    for i in range(n):\n"
        "        y[4 * i] = power(x[i], 0)\n        y[4 * i + 1] = power(x[i], 1)\n"
        "        y[4 * i + 2] = power(x[i], 2)\n        y[4 * i + 3] = power(x[i], -1)\n"
    )
    x = sweep("float32", 1000)
    y = np.empty((len(x), 4), np.float32)
    run(text, len(x), x, y)
    with np.errstate(all="ignore"):
        for got, expected in zip(y.T, (np.ones_like(x), x, x * x, 1 / x)):
            same_bits("power", got.copy(), expected)
    assert resolved("power", np.dtype("float32"), 2) == np.dtype("float32")


# Greatest error in ulp of both types, and the text that a compiled graph has for the exponent
LITERALS = {3: (1.0, "{kind}(3.0)"), 4: (1.0, "4"), -0.5: (1.5, "{kind}(-0.5)"), 2.5: (0.9, "2.5")}


@pytest.mark.parametrize("kind", FLOATS)
def test_literal_exponents_are_within_their_bounds(kind: str) -> None:
    info = np.finfo(kind)
    magnitudes = np.exp2(np.linspace(info.minexp, info.maxexp - 1, 100_000))
    x = np.concatenate([sweep(kind, 20_000), special(kind), magnitudes]).astype(kind)
    y = np.empty_like(x)
    for exponent, (bound, written) in LITERALS.items():
        loop = f"    for i in range(n):\n        y[i] = power(x[i], {written.format(kind=kind)})\n"
        run(f'{IMPORT}def kernel(n: "int", x: "{kind}*", y: "{kind}*"):\n{loop}', len(x), x, y)
        with np.errstate(all="ignore"):
            expected = np.power(x, np.full_like(x, exponent))
            error = ulp_error(y, np.power(wider(x), np.full_like(wider(x), exponent)))
        worst = int(np.argmax(error))
        assert error[worst] <= bound + slack(kind), f"{x[worst]!r}**{exponent} = {y[worst]!r}"
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(y)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("kind", ["float32", "float64", "int32", "uint8", "bool"])
def test_casts_are_astype(kind: str) -> None:
    x = np.array([0, 1, 2.75, 100, 127]).astype(kind)
    if kind.startswith("float"):
        x = np.concatenate([x, -x])
    for name in CASTS:
        if name.startswith("u") and not kind.startswith("u"):
            x = x[x >= 0]  # elsewhere C defines nothing
        got = evaluate((name,), x, result=np.dtype(name).name)[0]
        np.testing.assert_array_equal(got, x.astype(name), err_msg=f"{kind} to {name}")


def test_where_and_fma() -> None:
    rng = np.random.default_rng(0)
    c, x, y = rng.standard_normal((3, 1000))
    c = np.where(c < 0, 0, c)
    got, fused = evaluate(("where", "fma"), c, x, y)
    np.testing.assert_array_equal(got, np.where(c, x, y))
    exact = c.astype(np.longdouble) * x + y
    if np.finfo(np.longdouble).nmant > 60:  # but that rounds too: half an ulp and a little
        assert ulp_error(fused, exact).max() < 0.51


def test_float_power_is_in_float64() -> None:
    x, y = np.float32([1.1, 2, 0.5]), np.float32([0.3, 0.5, -3])
    got = evaluate(("float_power",), x, y, result="float64")[0]
    np.testing.assert_allclose(got, np.float_power(x, y), rtol=1e-15)


# Types --------------------------------------------------------------------------------------------


def resolved(name: str, *arguments: np.dtype | int) -> np.dtype:
    """The dtype that Numba gives a call; an int is a literal."""
    typing = cpu_target.typing_context
    typing.refresh()
    function = typing.resolve_value_type(getattr(mathematics, name))
    kinds = [types.literal(a) if isinstance(a, int) else from_dtype(a) for a in arguments]
    return as_dtype(typing.resolve_function_type(function, tuple(kinds), {}).return_type)


def test_types_are_those_of_the_ufuncs() -> None:
    f4, f8, i4, i8 = map(np.dtype, ("f4", "f8", "i4", "i8"))
    for name in mathematics.__all__:
        ufunc = getattr(np, name, None)
        if not isinstance(ufunc, np.ufunc) or name in CASTS:
            continue
        cases = (
            [(f4,), (f8,), (i8,)] if ufunc.nin == 1 else [(f4, f4), (f4, f8), (i4, f4), (i8, i8)]
        )
        cases += [] if ufunc.nin == 1 else [(f4, 2)]
        for case in cases:
            weak = [int if isinstance(c, int) else c for c in case]
            expected = ufunc.resolve_dtypes((*weak, None))[-1]
            assert resolved(name, *case) == expected, (name, case)
    for name in ("sigmoid", "log_sigmoid", "softplus", "erf", "normal_cdf"):
        assert resolved(name, f4) == f4 and resolved(name, f8) == resolved(name, i8) == f8
    assert resolved("where", np.dtype(bool), f4, 0) == resolved("fma", f4, f4, 1) == f4


# Vectors ------------------------------------------------------------------------------------------


def instructions(body: str, kind: str = "float32") -> str:
    """The LLVM instructions of a loop over x that has this body."""
    text = f'{IMPORT}def kernel(n: "int", x: "{kind}*", y: "{kind}*"):\n{body}'
    return str(optimised(text, "kernel"))


@pytest.mark.parametrize("kind", FLOATS)
def test_all_functions_vectorise(kind: str) -> None:
    """As maximum does; and none of them calls the C library."""
    element = {"float32": "float", "float64": "double"}[kind]
    for name in (*UNARY, *BINARY, "maximum"):
        arguments = "x[i]" if name in UNARY else "x[i], y[i]"
        body = f"    for i in range(n):\n        y[i] = {name}({arguments})\n"
        code = instructions(body, kind)
        assert re.search(rf"store <\d+ x {element}>", code), name
        assert not re.search(r"call (float|double) @(?!llvm)", code), name


def test_no_fast_math() -> None:
    for name in ("exp", "tanh", "sigmoid"):
        code = instructions(f"    for i in range(n):\n        y[i] = {name}(x[i])\n")
        assert not value.fuses() or re.search(r"@llvm\.fma\.v\d+f32", code)
        assert "fast" not in code and "contract" not in code and "reassoc" not in code


REDUCE = """\
    total = float32(0)
    largest = smallest = x[0]
    for i in range(n):
        total = reduce_add(total, x[i])
    for i in range(n):
        largest = reduce_max(largest, x[i])
    for i in range(n):
        smallest = reduce_min(smallest, x[i])
    y[0] = total
    y[1] = largest
    y[2] = smallest
"""
REDUCTIONS = f'{IMPORT}def kernel(n: "int", x: "float32*", y: "float32*"):\n{REDUCE}'


def test_reductions_vectorise() -> None:
    code = instructions(REDUCE)
    assert re.search(r"fadd reassoc <(4|8|16) x float>", code)
    assert re.search(r"@llvm\.maximum\.v(4|8|16)f32", code)
    assert re.search(r"@llvm\.minimum\.v(4|8|16)f32", code)
    flags = set(re.findall(r"\b(?:nnan|ninf|arcp|contract|afn|fast)\b", code))
    assert not flags


def test_reductions_are_right_and_let_nan_and_inf_through() -> None:
    x = np.random.default_rng(0).standard_normal(1003).astype(np.float32)
    y = np.empty(3, np.float32)
    run(REDUCTIONS, len(x), x, y)
    assert y[0] == pytest.approx(x.sum(dtype=np.float64), abs=1e-4)
    assert y[1:].tolist() == [x.max(), x.min()]
    for place in (0, 1, 500, 1002):
        for spoiler in (np.nan, np.inf):
            spoiled = x.copy()
            spoiled[place] = spoiler
            run(REDUCTIONS, len(x), spoiled, y)
            expected = [spoiled.sum(), spoiled.max(), spoiled.min()]
            np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
            np.testing.assert_array_equal(np.isinf(y), np.isinf(expected))
