"""What a traced array cannot do: each has an error of its own, with the user's line and a cure."""

from __future__ import annotations

import inspect
import math
import re

import numpy as np
import pytest
from scipy import special

import fallline as fl
from fallline.core.autodiff import grad, jvp, vjp
from fallline.core.errors import TracingError, UnsupportedError
from fallline.core.graph import trace
from fallline.core.spec import array_spec

X = np.array([1.0, 2.0, 3.0])


def message(f, *args, error=TracingError, how=grad):
    """What is raised on the first line of f; the message must end with that line."""
    with pytest.raises(error) as caught:
        how(f)(*args) if how is grad else how(f, *args)
    text = str(caught.value)
    line = inspect.getsourcelines(f)[1]
    at = re.search(r"\n  at (.*):(\d+), in (.*)$", text)
    assert at, text
    assert at[1] == __file__ and line <= int(at[2]) <= line + 4, text
    return text


# In-place writes.


def test_setitem():
    def f(x):
        x[0] = 1.0

    assert message(f, X).startswith("a traced array cannot be written to (a[i] = x). Build the new")


def test_element_of_a_plain_array():
    def f(x):
        buffer = np.zeros(3)
        buffer[0] = x

    # NumPy raises its own error; ours, with line and cure, is the cause.
    with pytest.raises(ValueError) as caught:
        grad(f)(1.0)
    cause = caught.value.__cause__
    assert isinstance(cause, TracingError)
    assert "writing into a plain array (buf[i] = x)" in str(cause) and "np.stack" in str(cause)
    assert f":{inspect.getsourcelines(f)[1] + 2}, in f" in str(cause)


def test_slice_of_a_plain_array():
    def f(x):
        buffer = np.zeros(3)
        buffer[:] = x

    assert "np.stack" in message(f, X)


def test_in_place_operators():
    def f(x):
        total = np.zeros(3)
        total += x

    assert "in-place operator such as +=). Write a = a + b instead." in message(f, X)


@pytest.mark.parametrize(
    "write",
    [
        lambda x, buffer: np.add(x, 1, out=buffer),
        lambda x, buffer: np.add(x, 1, out=x),
        lambda x, buffer: np.add.at(buffer, [0, 1, 2], x),
        lambda x, buffer: np.copyto(buffer, x),
        lambda x, buffer: np.put(x, [0], 1.0),
        lambda x, buffer: np.place(x, X > 1, 1.0),
        lambda x, buffer: np.putmask(x, X > 1, 1.0),
        lambda x, buffer: np.fill_diagonal(np.reshape(x, (3, 1)), 0.0),
    ],
)
def test_functions_that_write(write):
    with pytest.raises(TracingError, match=r"cannot be written into an existing one[\s\S]*test_tr"):
        grad(lambda x: np.sum(write(x, np.zeros(3))))(X)


def test_out_of_a_reduction():
    with pytest.raises(UnsupportedError, match="np.sum: the argument out= is not supported"):
        grad(lambda x: np.sum(x, out=np.zeros(())))(X)


# Leaving NumPy.


@pytest.mark.parametrize(
    "leave, what",
    [
        (lambda x: np.array([x, x]), "np.stack"),
        (lambda x: np.array(x), "np.array(x)"),
        (lambda x: np.asarray([[x, 1.0]]), "np.stack"),
        (lambda x: [x, 2.0] + np.ones(2), "np.stack"),
        (lambda x: x + [x, x], "np.stack"),
        (lambda x: float(x), "float(x)"),
        (lambda x: math.exp(x), "use np.exp for math.exp"),
        (lambda x: int(x), "int(x)"),
        (lambda x: complex(x), "complex(x)"),
        (lambda x: x.item(), "x.item()"),
        (lambda x: [1, 2][x], "as an index or as a size"),
        (lambda x: np.ones(3)[x], "np.stack"),
        (lambda x: range(x), "as an index or as a size"),
    ],
)
def test_conversions(leave, what):
    text = message(leave, 1.0)
    assert what in text and "would lose the gradient of a traced array" in text


def test_an_unsupported_function():
    assert message(lambda x: np.linalg.svd(x), np.eye(2), error=UnsupportedError).startswith(
        "np.linalg.svd is not supported on traced arrays. Write it with supported functions, "
        "or declare it with fl.ops.primitive."
    )


def test_an_unsupported_function_with_a_neighbour():
    text = message(lambda x: np.median(x), X, error=UnsupportedError)
    assert "np.median is not supported on traced arrays. Did you mean mean?" in text


def test_a_ufunc_of_another_library():
    assert message(lambda x: special.expit(x), X).startswith("expit is not supported")


def test_an_unsupported_method_of_a_ufunc():
    assert message(lambda x: np.add.accumulate(x), X).startswith("np.add.accumulate is not")


@pytest.mark.parametrize(
    "f, argument",
    [
        (lambda x: np.add(x, 1, where=X > 1), "np.add: the argument where="),
        (lambda x: np.exp(x, dtype=np.float32), "np.exp: the argument dtype="),
        (lambda x: np.max(x, initial=0.0), "np.max: the argument initial="),
        (lambda x: np.mean(x, where=X > 1), "np.mean: the argument where="),
        (lambda x: np.cumsum(x, dtype=np.float32), "np.cumsum: the argument dtype="),
        (lambda x: np.var(x, mean=2.0), "np.var: the argument mean="),
        (lambda x: np.diff(x, prepend=0), "np.diff: the argument prepend="),
    ],
)
def test_unsupported_arguments(f, argument):
    assert argument in message(f, X, error=UnsupportedError)


@pytest.mark.parametrize(
    "f, words",
    [
        (lambda x: np.where(x > 1), "np.where: with a traced condition, give both"),
        (lambda x: np.reshape(x, (3, 1), order="F"), "np.reshape: order='F'"),
        (lambda x: np.pad(x, 1, mode="edge"), "np.pad: on traced arrays only mode='constant'"),
        (lambda x: np.take(x, [0], mode="clip"), "np.take: only mode='raise'"),
        (lambda x: np.einsum(x, [0]), "np.einsum: on traced arrays write the subscripts"),
        (lambda x: np.linalg.norm(x, 3), "np.linalg.norm: ord=3"),
        (lambda x: np.linalg.norm(x[:, None], 2), "np.linalg.norm: ord=2"),
        (lambda x: x[True], "x[True]: a single bool"),
        (lambda x: np.average(x, returned=True), "np.average: returned=True"),
    ],
)
def test_unsupported_uses(f, words):
    if "np.where" in words:  # a concrete condition has its hits
        assert message(f, X, how=trace).startswith(words)
    else:
        assert message(f, X, error=UnsupportedError).startswith(words)


def test_an_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'reshap'. Did you mean reshape?"):
        grad(lambda x: x.reshap(3))(X)
    assert not hasattr(_tracer(), "shap")


def _tracer():
    kept = []
    vjp(lambda x: kept.append(x) or x, X)
    return kept[0]


# Shapes and indices: NumPy's errors, in words.


@pytest.mark.parametrize("how", [vjp, trace])
@pytest.mark.parametrize(
    "f, error, words",
    [
        (
            lambda x: np.ones((2, 3)) @ x.reshape(1, 3),
            ValueError,
            r"matmul: inner dimensions differ: \(2, 3\) @ \(1, 3\). Did you mean x @ y.T?",
        ),
        (
            lambda x: x.reshape(3, 1) @ np.ones((3, 2)),
            ValueError,
            r"\(3, 1\) @ \(3, 2\). Did you mean x.T @ y?",
        ),
        (lambda x: x @ np.ones(4), ValueError, r"matmul: inner dimensions differ: \(3,\) @ \(4,\)"),
        (lambda x: np.vecdot(x, np.ones(2)), ValueError, "vecdot: lengths differ"),
        (lambda x: np.diag(x.reshape(1, 3, 1)), ValueError, "diag: the argument must have 1 or 2"),
        (lambda x: x @ 2.0, ValueError, "matmul: .* Did you mean x \\* y?"),
        (lambda x: x + np.ones(4), ValueError, "broadcast"),
        (lambda x: x.reshape(2, 2), ValueError, "reshape: 3 elements of shape"),
        (lambda x: np.split(x, 2), ValueError, "Did you mean np.array_split?"),
        (lambda x: np.stack([x, x[:2]]), ValueError, "stack: all arrays must have one shape"),
        (lambda x: np.concatenate([x, x[:, None]]), ValueError, "concatenate: shapes must agree"),
        (lambda x: np.concatenate([x[0], x[1]]), ValueError, "Did you mean np.stack?"),
        (lambda x: np.squeeze(x, 0), ValueError, "squeeze: an axis must have size 1"),
        (lambda x: np.transpose(x, (0, 0)), ValueError, "permutation|axes"),
        (lambda x: np.broadcast_to(x, (2, 4)), ValueError, "does not broadcast|broadcast"),
        (lambda x: np.pad(x, -1), ValueError, "pad: widths must not be negative"),
        (lambda x: np.sum(x, axis=1), ValueError, "axis 1 is out of bounds"),
        (lambda x: np.einsum("ij,j", x, x), ValueError, "einsum: the term 'ij' has 2 subscripts"),
        (lambda x: np.einsum("i,i,i", x, x), ValueError, "names 3 operands; got 2"),
        (lambda x: np.einsum("i,i", x, np.ones(2)), ValueError, "'i' has sizes 3 and 2"),
        (lambda x: np.tensordot(x, np.ones(2), 1), ValueError, "tensordot: summed axes differ"),
        (lambda x: x[3], IndexError, "index 3 is out of bounds for axis 0 with size 3"),
        (lambda x: x[[0, -4]], IndexError, "index -4 is out of bounds"),
        (lambda x: x[0, 0], IndexError, "too many indices"),
        (lambda x: x[..., ...], IndexError, "only one Ellipsis"),
        (lambda x: x[np.array([True])], IndexError, "a boolean index must have the shape"),
        (lambda x: x[np.array([0.5])], IndexError, "an index must be an integer"),
        (lambda x: np.take(x, 0.5), TypeError, "take: indices must be integers; got float64"),
        (lambda x: len(x[0]), TypeError, "len"),
    ],
)
def test_mistakes(f, error, words, how):
    with pytest.raises(error, match=words):
        how(f, X)


# What is not known while recording.


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x if x[0] > 0 else -x,
        lambda x: x[0] > 0 and x,
        lambda x: max(x[0], x[1]),
        lambda x: bool(x[0]),
        lambda x: not x[0],
    ],
)
def test_branches_while_recording(f):
    text = message(f, X, how=trace)
    assert text.startswith("a branch (if, while, and, or, not) on a traced value cannot be")
    assert "np.where(condition, a, b)" in text


def test_branches_while_recording_below_a_derivative():
    def f(x):
        return x * x if x > 0 else x

    with pytest.raises(TracingError, match=r"np.where[\s\S]*in f$"):
        trace(grad(f), 1.0)


def test_masks_while_recording():
    text = message(lambda x: x[x > 1], X, how=trace)
    assert text.startswith("indexing with a boolean array cannot be compiled")
    assert "np.where(mask, x, 0)" in text


def test_masks_that_are_known():
    assert trace(lambda x: x[X > 1], X)(X).tolist() == [2, 3]
    assert grad(lambda x: np.sum(x[x > 1] ** 2))(X).tolist() == [0, 4, 6]


def test_iterating_while_recording():
    assert trace(lambda x: sum(x), X)(X) == 6  # the length is known


# A tracer that outlives its transformation.


@pytest.mark.parametrize("how", [vjp, lambda f, x: jvp(f, (x,), (x,)), trace])
def test_leaks(how):
    kept = []
    how(lambda x: kept.append(x * 2) or x, X)
    for use in (lambda: kept[0] + 1, lambda: np.sin(kept[0]), lambda: grad(_times(kept[0]))(1.0)):
        with pytest.raises(
            TracingError, match="after the transformation that made it .* had ended"
        ):
            use()
    with pytest.raises(TracingError, match="had ended"):
        trace(lambda y: y + kept[0], X)


def _times(leaked):
    return lambda y: np.sum(y * leaked)


def test_recording_cannot_close_over_a_traced_array():
    def loss(w):
        return trace(lambda x: np.sum(x * w), X)(X)

    with pytest.raises(TracingError, match="Pass it as an argument instead of closing over it"):
        grad(loss)(2.0)


# What works.


def test_a_tracer_looks_like_an_array():
    def f(x):
        assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((3,), 1, 3, np.float64, 3)
        assert f"{x[0]:.2f}" == "1.00"
        assert repr(x[1]) in ("Tracer(np.float64(2.0))", "Tracer(2.0)", "Tracer(array(2.))")
        assert bool(x[0] > 0) and x[0] and hash(x) == hash(x)
        a, b, c = x
        return np.sum(x.T) + a * b * c

    assert grad(f)(X).tolist() == [7, 4, 3]


def test_formatting_while_recording():
    shown = []
    trace(lambda x: shown.append(f"{x}") or x, array_spec((2,), "float32"))
    assert shown == ["f32[2]"]


@pytest.mark.parametrize("transform", [fl.grad, fl.compile])
def test_in_place_changes_of_arguments_are_refused_and_of_results_are_new_arrays(transform):
    def changes_argument(x):
        y = x
        y += 1
        return np.sum(x * y)

    def changes_view(x):
        z = x * 2
        part = z[1:]
        part *= 3
        return np.sum(z)

    def changes_result(x):
        h = x * x
        h += x
        total = np.sum(h)
        total += 1
        return total

    for f in (changes_argument, changes_view):
        with pytest.raises(TracingError, match=r"in place .*a = a [+*] b"):
            transform(f)(np.ones(3))
    transform(changes_result)(np.ones(3))
