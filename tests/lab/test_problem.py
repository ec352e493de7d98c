import numpy as np
import pytest
from tests.lab import fake

from fallline.data import Dataset, Examples, from_arrays
from fallline.lab.problem import ACCURACY, LOSS, PROBLEMS, Metric, Problem, as_problem, named
from fallline.ops.loss import cross_entropy

random = np.random.default_rng(0)
X = random.standard_normal((60, 4)).astype(np.float32)
y = np.arange(60) % 3
NET = fake.FakeNetwork((4, 8, 3))


def test_arrays_are_split_in_three():
    problem = as_problem((X, y), model=NET)
    sizes = [
        len(part.X) for part in (problem.data.train, problem.data.validation, problem.data.test)
    ]
    assert sizes == [36, 12, 12]
    assert problem.metric is ACCURACY and problem.loss == "cross_entropy"


def test_three_pairs_stay_as_they_are():
    problem = as_problem(((X[:30], y[:30]), (X[30:40], y[30:40]), (X[40:], y[40:])), model=NET)
    assert np.array_equal(problem.data.train.X, X[:30])
    assert np.array_equal(problem.data.validation.y, y[30:40])
    assert np.array_equal(problem.data.test.X, X[40:])


def test_numbers_to_predict_are_compared_by_their_loss():
    problem = as_problem((X, X[:, 0]), model=NET)
    assert problem.metric is LOSS and problem.loss == "squared_error"
    assert problem.metric.good(0.5) == -0.5 and problem.metric.good(None) == -np.inf
    with pytest.raises(ValueError, match="accuracy needs labels"):
        as_problem((X, X[:, 0]), model=NET, metric="accuracy")


def test_missing_parts_are_split_off_with_a_fixed_seed():
    data = Dataset("own", Examples(X, y), classes=("a", "b", "c"))
    first, second = (Problem(data, NET) for _ in range(2))
    assert len(first.data.test.X) == 12 and len(first.data.validation.X) == 10
    assert np.array_equal(first.data.test.X, second.data.test.X)


def test_arrays_need_a_model():
    with pytest.raises(ValueError, match=r'Pass for example model="4-100-3"'):
        as_problem((X, y))
    with pytest.raises(TypeError, match="a problem is a name"):
        as_problem(3)


def test_steps_count_the_last_smaller_batch():
    assert as_problem((X, y), model=NET, epochs=3, batch_size=32).steps == 6


def test_a_network_is_initialised_afresh_for_every_seed():
    problem = as_problem((X, y), model=NET)
    assert [problem.network(seed).seed for seed in (1, 2)] == [1, 2] and NET.seed == 0
    made = as_problem((X, y), model=lambda seed: fake.FakeNetwork((4, 3), seed))
    assert made.network(7).seed == 7


def test_a_network_that_initialises_in_place_is_not_touched():
    class InPlace:
        seed = 0

        def init(self, seed):
            self.seed = seed

    net = InPlace()
    assert as_problem((X, y), model=net).network(5).seed == 5 and net.seed == 0


def fingerprint(**changes):
    return as_problem((X, y), **{"model": NET, **changes}).describe()["fingerprint"]


def test_the_fingerprint_knows_what_matters():
    base = fingerprint()
    assert fingerprint() == base
    changes = [
        {"epochs": 3},
        {"batch_size": 8},
        {"model": fake.FakeNetwork((4, 9, 3))},
        {"loss": "hinge"},
        {"metric": "loss"},
    ]
    assert len({base, *(fingerprint(**change) for change in changes)}) == 6
    other = X.copy()
    other[3, 2] += 1
    assert as_problem((other, y), model=NET).describe()["fingerprint"] != base


def test_an_address_in_a_repr_is_no_difference():
    class Plain:
        def init(self, seed):
            return self

    assert "0x" not in as_problem((X, y), model=Plain()).describe()["network"]


def test_widths_may_be_written_in_three_ways():
    data = from_arrays(X, y)
    models = {Problem(data, model).model for model in ("4-8-3", [4, 8, 3], (4, 8, 3))}
    assert models == {(4, 8, 3)}
    with pytest.raises(TypeError, match="a model is a network"):
        Problem(data, 3)


def test_a_metric_of_ones_own():
    worst = Metric("distance", lambda outputs, y: 0.0, higher_is_better=False)
    assert worst.good(2.0) == -2.0 and worst.bounded(None) == np.inf
    assert Metric("score").bounded(float("nan")) == -np.inf
    with pytest.raises(ValueError, match="Did you mean accuracy"):
        Problem(from_arrays(X, y), NET, metric="acuracy")


def test_digits_are_real():
    problem = named("digits")
    assert problem.model == (64, 100, 10) and problem.data.feature_shape == (64,)
    assert problem.steps == 20 * 34


class Columns:
    """Outputs are the inputs; the prediction is the largest."""

    def __call__(self, X):
        return X

    def predict(self, X):
        return X.argmax(axis=1)


def test_a_score_is_that_of_the_metric():
    held = Examples(X[:, :3], y[:60])
    right = float((held.X.argmax(1) == held.y).mean())
    score = lambda **more: as_problem((X, y), model=NET, **more).score(Columns(), held)
    assert score() == right
    assert score(metric="loss") == pytest.approx(np.mean(cross_entropy(held.X, held.y)))
    assert score(metric=Metric("first", lambda z, y: z[0, 0])) == pytest.approx(held.X[0, 0])


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_names_are_those_that_can_be_named(name, tmp_path):
    try:
        assert named(name, folder=tmp_path).name == name
    except OSError as error:  # known, but its files are not in this folder
        assert str(tmp_path) in str(error)
