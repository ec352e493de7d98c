"""What predictions rest on: pieces of X, the network as it is now, memory, threads."""

from __future__ import annotations

import gc
import pickle
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import fallline as fl
from fallline import nn, ops, optim
from fallline.nn import inference
from fallline.nn.predict import outputs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1500, 40)).astype(np.float32)  # more bytes than are copied as a few


@pytest.fixture(autouse=True)
def same_threads():
    before = fl.get_threads()
    yield
    fl.set_threads(before)


def net(k=3, link="softmax", seed=1):
    made = nn.mlp([40, 16, k], seed=seed)
    made.link = link
    return made


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 29, 50, 1500])
@pytest.mark.parametrize("batch_size", [None, 1, 7, 64])
def test_every_row_has_its_result(n, batch_size):
    made = net()
    found = outputs(made, X[:n], batch_size)
    assert found.shape == (n, 3)
    np.testing.assert_allclose(found, made(X[:n]), rtol=1e-4, atol=1e-5)


def test_the_number_of_threads_changes_no_bit():
    made = net()
    fl.set_threads(1)
    expected = made.predict_proba(X, batch_size=70)
    for n_threads in (2, 3, 5):
        fl.set_threads(n_threads)
        np.testing.assert_array_equal(made.predict_proba(X, batch_size=70), expected)


class Scaled(nn.Module):
    def __init__(self):
        self.scales = [np.full(40, 2.0, np.float32)]
        self.by_name = {"shift": np.ones(40, np.float32)}
        self.power = 1

    def __call__(self, x, *, ctx=None):
        for scale in self.scales:
            x = x * scale
        return sum(self.by_name.values(), x) ** self.power


def in_place(made):
    made.scales[0][:] = 5


def set_field(made):
    made.power = 3


def set_array(made):
    made.by_name = {"shift": np.full(40, 7, np.float32)}


def replace_in_list(made):
    made.scales[0] = np.full(40, 3.0, np.float32)


def append_to_list(made):
    made.scales.append(np.full(40, 0.5, np.float32))


def add_to_dict(made):
    made.by_name["more"] = np.ones(40, np.float32)


def remove_from_dict(made):
    del made.by_name["shift"]


def gather(made):
    made.gather()[:] += 1


@pytest.mark.parametrize(
    "change",
    [
        *(in_place, set_field, set_array, replace_in_list, append_to_list),
        *(add_to_dict, remove_from_dict, gather),
    ],
)
@pytest.mark.parametrize("rows", [1, 1500])
def test_the_network_is_seen_as_it_is_now(change, rows):
    made = Scaled()
    part = np.ascontiguousarray(X[:rows])
    np.testing.assert_allclose(outputs(made, part), made(part), rtol=1e-6)
    before = made(part)
    change(made)
    found = outputs(made, part)
    np.testing.assert_allclose(found, made(part), rtol=1e-6)
    assert not np.array_equal(found, before)


def test_a_replaced_layer_is_seen():
    made = net()
    made.predict(X)
    setattr(made, "1", ops.tanh)
    np.testing.assert_allclose(outputs(made, X), made(X), rtol=1e-4, atol=1e-5)
    made[2].W = made[2].W[::-1]
    np.testing.assert_allclose(outputs(made, X), made(X), rtol=1e-4, atol=1e-5)


def test_the_link_is_seen():
    made = net()
    made.predict(X)
    made.link = "sigmoid"
    np.testing.assert_allclose(made.predict_proba(X), ops.sigmoid(made(X)), rtol=1e-4)


class Centred(nn.Module):
    buffers = ("mean",)

    def __init__(self):
        self.mean = np.ones(40, np.float32)
        self.scale = np.ones(40, np.float32)

    def __call__(self, x, *, ctx=None):
        return (x - self.mean) * self.scale


@pytest.mark.parametrize("rows", [1, 1500])
def test_what_is_kept_but_not_trained_is_seen(rows):
    made = Centred()
    for mean in (1, 2):
        made.mean = np.full(40, mean, np.float32)
        np.testing.assert_array_equal(outputs(made, X[:rows]), X[:rows] - mean)


class Transposed(nn.Module):
    def __init__(self):
        self.A = np.arange(120, dtype=">f4").reshape(3, 40).T
        self.b = np.ones(3, ">f4")

    def __call__(self, x, *, ctx=None):
        return x @ self.A + self.b


def test_parameters_may_lie_anyhow():
    made = Transposed()
    assert not made.A.flags.c_contiguous
    for _ in range(2):
        np.testing.assert_allclose(outputs(made, X), X @ made.A + made.b, rtol=1e-4, atol=1e-3)
        made.A[:] /= 2
        made.b[:] = 3


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "f2", "u1", "i1", "u2", "i4", "i8", "?"])
@pytest.mark.parametrize("parameters", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [2, 1500])
def test_types_of_x(dtype, parameters, rows):
    made = nn.Linear(40, 3, seed=0, dtype=parameters)
    whole = (X[:rows] * 10).astype(np.int8).astype(dtype)
    found = outputs(made, whole)
    assert found.dtype == parameters
    np.testing.assert_allclose(found, made(whole.astype(parameters)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]", "O"])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(TypeError, match="predict: X must hold real numbers; got"):
        net().predict(np.zeros((2, 40), dtype))


def test_what_is_no_plain_array_is_refused():
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match=r"dense array; got csr_array\. Did you mean X.toarray"):
        net().predict(csr_array(X))
    with pytest.raises(TypeError, match="must not be masked"):
        net().predict(np.ma.array(X))


def test_layouts_of_x(tmp_path):
    made, wide = net(), np.repeat(X, 2, axis=1)
    expected = outputs(made, X)
    np.save(tmp_path / "X.npy", X)
    read_only = X.copy()
    read_only.flags.writeable = False
    for other in (
        *(np.asfortranarray(X), wide[:, ::2], X[::-1][::-1], read_only, X.tolist()),
        np.load(tmp_path / "X.npy", mmap_mode="r"),
    ):
        np.testing.assert_allclose(outputs(made, other), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs(made, X[::2]), expected[::2], rtol=1e-4, atol=1e-5)


def test_results_are_fresh():
    made = net()
    for part in (X, X[:1]):
        first = made.predict_proba(part)
        kept = first.copy()
        made.predict_proba(part + 1)
        np.testing.assert_array_equal(first, kept)


def test_bytes_are_not_cast_as_a_whole():
    made = nn.Linear(1000, 3, seed=0)
    whole = RNG.integers(0, 255, (20_000, 1000), dtype=np.uint8)  # 80 MB as float32
    outputs(made, whole, 256)
    tracemalloc.start()
    try:
        outputs(made, whole, 256)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6


def test_data_are_not_kept():
    made, data = net(), X.copy()
    found = made.predict_proba(data)
    references = [weakref.ref(data), weakref.ref(found)]
    del data, found
    gc.collect()
    assert [r() for r in references] == [None, None]


@pytest.mark.parametrize("limits", [(1, 1 << 24), (3, 1 << 24), (256, 1), (256, 300_000)])
def test_what_is_kept_ready_is_limited(limits, monkeypatch):
    monkeypatch.setattr(inference, "MOST_PIECES", limits[0])
    monkeypatch.setattr(inference, "KEPT_BYTES", limits[1])
    made = net()
    expected = made(X)
    for n in (1, 2, 1500, 1, 3, 700, 2, 4, 1500):
        np.testing.assert_allclose(outputs(made, X[:n]), expected[:n], rtol=1e-4, atol=1e-5)
        ready = inference.inference_of(made)
        kept = list(ready._pieces.values())
        assert len(kept) <= limits[0]
        assert len(kept) == 1 or sum(p.nbytes for p in kept) <= limits[1]
        assert sum(p.nbytes for p in kept) == ready._bytes


def test_a_network_that_computes_nothing():
    class Same(nn.Module):
        def __call__(self, x, *, ctx=None):
            return x

    found = outputs(Same(), X, 64)
    np.testing.assert_array_equal(found, X)
    assert not np.may_share_memory(found, X)


def test_a_network_must_give_a_row_for_each():
    class Total(nn.Module):
        def __call__(self, x, *, ctx=None):
            return np.sum(x, axis=0)

    with pytest.raises(TypeError, match=r"a row for each of the 5 rows of X; got f32\[40\]"):
        outputs(Total(), X[:5])

    class Two(nn.Module):
        def __call__(self, x, *, ctx=None):
            return x, x

    with pytest.raises(TypeError, match="got tuple"):
        outputs(Two(), X[:5])


def test_a_traced_network_is_refused():
    made = net(1, "identity")
    with pytest.raises(TypeError, match=r"predict: 0\.W of the network must be an array"):
        fl.grad(lambda n: np.sum(n.predict(X[:2])))(made)


def test_copies_and_pickles():
    made = net()
    expected = made.predict_proba(X)
    for other in (pickle.loads(pickle.dumps(made)), made.copy()):
        np.testing.assert_array_equal(other.predict_proba(X), expected)
        other.gather()[:] = 0
    np.testing.assert_array_equal(made.predict_proba(X), expected)


def test_many_callers_at_once():
    nets = [net(seed=i) for i in range(2)]
    expected = [[n.predict_proba(part, batch_size=100) for part in (X, X[:1])] for n in nets]
    wrong = []

    def call(i):
        for _ in range(20):
            for part, right in zip((X, X[:1]), expected[i % 2], strict=True):
                found = nets[i % 2].predict_proba(part, batch_size=100)
                wrong.extend([i] * (not np.array_equal(found, right)))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_predictions_while_it_trains():
    made = net()
    y = RNG.integers(0, 3, len(X))
    made.predict(X)
    training = threading.Thread(
        target=lambda: fl.fit(
            made, (X, y), loss="cross_entropy", optimizer=optim.adam(lr=1e-3), epochs=3, seed=0
        )
    )
    training.start()
    sums = [made.predict_proba(X).sum(axis=1) for _ in range(20)]
    training.join()
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    np.testing.assert_allclose(outputs(made, X), made(X), rtol=1e-4, atol=1e-5)
