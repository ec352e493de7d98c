"""Graphs: how they print, what are their inputs, that they run."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from fallline import ops
from fallline.core.autodiff import grad, jvp
from fallline.core.errors import TracingError
from fallline.core.graph import order, trace
from fallline.core.spec import array_spec

X = np.ones((4, 3), np.float32)
W = np.ones((3, 2), np.float32)


def text(graph):
    return "\n".join(line.rstrip() for line in repr(graph).splitlines())


def expected(s):
    return "\n".join(line[4:] for line in s.strip("\n").splitlines()[:-1])


def test_prints():
    def layer(x, p, scale):
        return np.tanh(x @ p["W"] + p["b"]) * scale

    p = {"W": W, "b": np.zeros(2, np.float32)}
    assert text(trace(layer, X, p, 0.5)) == expected("""
    layer(x: f32[4,3], p.W: f32[3,2], p.b: f32[2], scale: float)
      a: f32[4,2] = matmul(x, p.W)
      b: f32[4,2] = add(a, p.b)
      c: f32[4,2] = tanh(b)
      d: f32[4,2] = multiply(c, scale)
      return d
    """)


def test_prints_a_gradient():
    def loss(w, x):
        return np.sum((x @ w) ** 2)

    assert text(trace(grad(loss), W, X)) == expected("""
    loss(w: f32[3,2], x: f32[4,3])
      a: f32[3,4] = transpose(x, axes=(1, 0))
      b: f32[4,2] = matmul(x, w)
      c: f32[4,2] = multiply(2, b)
      d: f32[4,2] = multiply(<f32[4,2]>, c)
      e: f32[3,2] = matmul(a, d)
      return e
    """)


def test_prints_parameters_constants_and_several_results():
    def f(a, n):
        return np.max(a, axis=1, keepdims=True), a + np.array([1.0, 2.0]), 3 * n, a, np.pi

    assert text(trace(f, np.ones((2, 2)), 5)) == expected("""
    f(a: f64[2,2], n: int)
      b: f64[2,1] = max(a, axis=(1,), keepdims=True)
      c: f64[2,2] = add(a, <f64[2]>)
      d: int = multiply(3, n)
      return b, c, d, a, 3.141592653589793
    """)


def test_names():
    class Model:
        def __call__(self, x, p):
            return x + p[0]["a"]

        def method(self, x, *rest):
            return x + rest[0]

    def heading(f, *args):
        return repr(trace(f, *args)).splitlines()[0]

    assert heading(Model(), 1.0, [{"a": 2.0}]) == "graph(x: float, p.0.a: float)"
    assert heading(Model().method, 1.0, 2.0) == "method(x: float, x1: float)"
    assert heading(functools.partial(np.add, 1.0), X) == "graph(x2: f32[4,3])"
    assert heading(np.add, X, 2.0).startswith("add(x")
    assert repr(trace(lambda x: x * 1, 2.0, names=["lr"])).startswith("<lambda>(lr: float)")


def test_many_names_are_distinct():
    def f(b):
        for _ in range(800):
            b = b + 1.0
        return b

    lines = repr(trace(f, 1.0)).splitlines()[1:-1]
    names = [line.split(":")[0].strip() for line in lines]
    assert len(set(names)) == 800 and "b" not in names
    assert not {"if", "in", "is", "or", "as"} & set(names)


def test_printing_is_stable():
    f = lambda x: np.sum(np.where(x > 0, np.exp(x), x) * x[0])
    assert text(trace(f, X)) == text(trace(f, X))


def test_runs_on_arrays_and_tracers():
    def f(x, p):
        return {"y": x * p["s"], "t": (np.sum(x), None)}

    graph = trace(f, array_spec((2,), "float64"), {"s": 1.0})
    x = np.array([1.0, 2.0])
    result = graph(x, {"s": 3.0})
    assert result["y"].tolist() == [3, 6] and result["t"] == (3.0, None)
    assert grad(lambda x: graph(x, {"s": 3.0})["t"][0])(x).tolist() == [1, 1]
    assert jvp(lambda s: graph(x, {"s": s})["y"], (3.0,), (1.0,))[1].tolist() == [1, 2]
    assert text(trace(lambda x: graph(x, {"s": 2.0})["y"], x)).count("multiply(x, 2.0)") == 1


def test_of_another_structure():
    graph = trace(lambda x, p: x, 1.0, {"a": 1.0})
    with pytest.raises(TypeError, match="<lambda>: the arguments must have the structure of the"):
        graph(1.0, {"b": 1.0})


def test_static_arguments_shape_the_trace():
    def f(x, double, name, nothing):
        assert nothing is None and name == "f"
        return 2 * x if double else x

    graph = trace(f, X, True, "f", None)
    assert len(graph.inputs) == 1 and len(graph.nodes) == 1
    assert graph(X, True, "f", None).tolist() == (2 * X).tolist()
    with pytest.raises(TypeError, match="structure of the traced example"):
        graph(X, False, "f", None)


def test_numpy_bools_and_scalars_are_inputs():
    graph = trace(lambda x, m: np.where(m, x, 0.0), np.float32(2), np.bool_(True))
    assert [repr(n.spec) for n in graph.inputs] == ["f32[]", "bool[]"]
    assert graph(np.float32(5), np.bool_(False)) == 0


def test_only_what_is_needed():
    def f(x):
        np.exp(x)
        return x * 2

    assert [n.op.name for n in trace(f, X).nodes] == ["multiply"]


def test_constants_are_shared():
    c = np.array([1.0, 2.0, 3.0])
    graph = trace(lambda x: (x + c) * c, c)
    assert graph.nodes[0].args[1] is graph.nodes[1].args[1]
    assert graph.nodes[0].args[1].is_constant and graph.inputs[0].is_input


def test_order_and_deep_graphs():
    def f(x):
        for _ in range(3000):
            x = x + x
        return x

    graph = trace(f, np.float32(0))
    nodes = order(graph.outputs)
    place = {id(n): i for i, n in enumerate(nodes)}
    assert len(nodes) == 3001
    assert all(place[id(a)] < place[id(n)] for n in nodes for a in n.args)
    assert graph(np.float32(0)) == 0


def test_nodes_remember_the_users_line():
    graph = trace(lambda x: np.sum(ops.relu(x)), X)
    for node in graph.nodes:
        file, line, function = node.where
        assert file == __file__ and function == "<lambda>" and line > 100
    assert repr(graph.nodes[0]).endswith("relu: f32[4,3]")


def test_a_tracing_that_fails_leaves_nothing_behind():
    def f(x):
        raise KeyError("no")

    for _ in range(2):
        with pytest.raises(KeyError):
            trace(f, X)
    assert trace(lambda x: x + 1, X)(X).tolist() == (X + 1).tolist()


def test_numpys_random_numbers_are_refused_while_recording():
    with pytest.raises(TracingError, match=r"np\.random was used .* fl\.random and a key"):
        trace(lambda x: x + np.random.rand(3), np.ones(3))  # noqa: NPY002
