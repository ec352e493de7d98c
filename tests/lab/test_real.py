"""The comparison with nothing made up: real digits, the real `fit`, the real optimizers."""

import numpy as np
import pytest

import fallline.lab as lab
from fallline.lab import worker
from fallline.lab.contenders import TEN, contenders, known

BUDGET = lab.Budget("tiny", trials=3, seeds=5, extra=1, extensions=1)


@pytest.fixture(scope="module")
def comparison():
    return lab.compare("digits", ["sgd", "adam"], BUDGET, epochs=3, progress=False)


def test_the_usual_ten_are_there_with_spaces_and_defaults():
    assert [entry.name for entry in contenders(None)] == list(TEN)
    for entry in known().values():
        assert next(iter(entry.space)) == "lr"
        for name, dimension in entry.space.items():
            entry.bind(**{name: dimension.at(0.0)}), entry.bind(**{name: dimension.at(1.0)})
    with pytest.raises(ValueError, match=r"no optimizer is called 'adm'\. Did you mean adam\?"):
        contenders(["adm"])


def test_digits_are_learned(comparison):
    assert comparison.complete
    for entry in comparison.summary["optimizers"]:
        assert entry["tuned"]["median"] > 0.8 and entry["tuned"]["seconds"] > 0


def test_runs_of_one_seed_start_from_the_same_weights_and_batch(comparison):
    first = {}
    for record in comparison.records:
        first.setdefault(record.seed, set()).add(float(record.loss[0]))
    assert len(first) == 6 and all(len(losses) == 1 for losses in first.values())
    assert len(set.union(*first.values())) == 6  # and other seeds from others


def test_the_record_is_that_of_fit(comparison):
    record = next(r for r in comparison.records if r.phase == "tuned")
    assert len(record.loss) == comparison.study["problem"]["steps"] == 3 * 34
    assert [row["step"] for row in record.epochs] == [34, 68, 102]
    seconds = [row["seconds"] for row in record.epochs]
    assert seconds == sorted(seconds) and record.seconds == seconds[-1]
    assert record.validation == record.epochs[-1]["val_accuracy"]


def test_a_rate_that_is_too_large_diverges_or_learns_nothing():
    result = worker.run_one(lab.named("digits"), "sgd", {"lr": 1e30}, 1)
    assert result.status == "diverged" and "became" in result.message and result.test is None


def test_numbers_can_be_predicted_too():
    random = np.random.default_rng(0)
    X = random.standard_normal((300, 3)).astype(np.float32)
    y = X @ np.array([1.0, -2.0, 0.5], np.float32)
    found = lab.compare((X, y), ["sgd"], BUDGET, model="3-1", epochs=5, progress=False)
    assert found.summary["problem"]["metric"] == "loss"
    assert found.summary["optimizers"][0]["tuned"]["median"] < 0.01
