"""What is said about numbers that are made up for the purpose."""

import pytest
from tests.lab import fake

from fallline.lab.problem import ACCURACY
from fallline.lab.protocol import Budget
from fallline.lab.records import Record
from fallline.lab.study import describe, final_tasks, tune
from fallline.lab.summary import summarise
from fallline.lab.verdict import listed, scope, shown, shown_difference
from fallline.optim.space import Log

ONE = Budget("one", trials=1, seeds=5)
NAMES = ("a", "b", "c")


def comparison(scores, default=0.5, problem=None, names=NAMES):
    """A finished comparison in which the tuned runs score these; None for one that diverged."""
    problem = problem or fake.problem(120, 6)
    optimizers = [fake.FakeOptimizer(name, {"lr": 0.1}, {"lr": Log(1e-3, 1.0)}) for name in names]
    records = []
    for optimizer in optimizers[: len(scores)]:
        tuning = tune(optimizer.name, optimizer.space, ONE, 0, ACCURACY, {})
        (trial,) = tuning.tasks
        records.append(made(trial, 0.9, problem))
        tasks = final_tasks(optimizer.name, records[-1], ONE, 0)
        values = [*scores[len(records) // 11], *[default] * 5]
        records += [made(task, value, problem) for task, value in zip(tasks, values)]
    study = describe(problem, optimizers, ONE, 0)
    return summarise(study, records), study, records


def made(task, score, problem):
    return Record(
        optimizer=task.optimizer,
        phase=task.phase,
        index=task.index,
        seed=task.seed,
        hyper=task.hyper,
        status="diverged" if score is None else "ok",
        validation=score,
        test=None if score is None else {problem.metric.name: score},
    )


def test_a_winner_needs_every_interval_to_exclude_zero():
    best = [0.97, 0.98, 0.97, 0.98, 0.97]
    summary, *_ = comparison([best, [0.95] * 5, [0.94, 0.93, 0.94, 0.93, 0.94]])
    assert summary["winner"] == summary["best"] == "a"
    assert summary["verdict"]["headline"] == "a is ahead."
    assert "every other optimizer's paired difference" in summary["verdict"]["text"]
    words = {
        e["name"]: e["versus_best"] and e["versus_best"]["words"] for e in summary["optimizers"]
    }
    assert words == {"a": None, "b": "worse", "c": "worse"}


def test_within_noise_there_is_no_winner():
    best = [0.97, 0.98, 0.97, 0.98, 0.97]
    close = [0.98, 0.96, 0.97, 0.97, 0.96]
    summary, *_ = comparison([best, close, [0.90, 0.91, 0.90, 0.91, 0.90]])
    assert summary["winner"] is None and summary["best"] == "a"
    assert summary["verdict"]["headline"] == "a leads; b is within noise of it."
    assert "Behind it beyond noise: c (\N{MINUS SIGN}7.00 points)." in summary["verdict"]["text"]


def test_no_difference_at_all():
    summary, *_ = comparison([[0.97, 0.96, 0.97, 0.96, 0.97]] * 3)
    assert summary["winner"] is None
    assert summary["verdict"]["headline"] == "No difference beyond noise."


def test_a_run_that_diverged_counts_and_is_told():
    summary, *_ = comparison(
        [[0.97] * 5, [0.96, None, 0.96, 0.96, 0.96], [None, None, None, 0.99, 0.99]]
    )
    b, c = (next(e for e in summary["optimizers"] if e["name"] == name) for name in "bc")
    assert b["tuned"]["scores"] == [0.96, 0.0, 0.96, 0.96, 0.96] and b["tuned"]["diverged"] == 1
    assert b["versus_best"]["words"] == "runs diverged"  # one run of five says nothing yet
    assert c["versus_best"]["words"] == "runs diverged" and summary["winner"] is None
    assert (
        "Tuned runs diverged or failed: b in 1 of 5 and c in 3 of 5." in summary["verdict"]["text"]
    )


def test_when_nobody_comes_through():
    summary, *_ = comparison([[None] * 5] * 3)
    assert summary["best"] is None and summary["complete"]
    assert summary["verdict"]["headline"] == "No optimizer came through."


def test_for_a_loss_less_is_better_in_every_sentence():
    problem = fake.problem(120, 6, metric="loss")
    summary, *_ = comparison(
        [[0.20, 0.21, 0.20, 0.21, 0.20], [0.30] * 5, [0.20, 0.20, 0.21, 0.21, 0.21]],
        default=0.5,
        problem=problem,
    )
    assert [e["name"] for e in summary["optimizers"]] == ["a", "c", "b"]
    a, c, b = summary["optimizers"]
    assert c["versus_best"]["words"] == "within noise"
    assert b["versus_best"]["words"] == "worse" and b["versus_best"]["mean"] > 0
    assert b["versus_best"]["p_better"] == 0.0
    assert a["gain"]["words"] == "better" and a["gain"]["mean"] < 0


def test_a_run_that_diverged_hides_nobody_else():
    """Its score of 0 is far off, but lends the others no variance."""
    best, behind = [0.97, 0.971, 0.969, 0.97, 0.972], [0.951, 0.949, 0.95, 0.95, 0.948]
    summary, *_ = comparison([best, behind, [0.96, None, 0.96, None, 0.96]])
    words = {e["name"]: e["versus_best"]["words"] for e in summary["optimizers"][1:]}
    assert words == {"b": "worse", "c": "runs diverged"}


def test_an_unfinished_comparison_names_nobody():
    _, study, records = comparison([[0.97] * 5, [0.9] * 5, [0.9] * 5])
    for kept in range(len(records)):
        summary = summarise(study, records[:kept])
        assert not summary["complete"] and summary["winner"] is None
        assert summary["verdict"]["headline"] == "Not finished yet."
        for entry in summary["optimizers"]:
            assert entry["complete"] or (entry["gain"] is entry["versus_best"] is None)


def test_the_order_of_the_records_does_not_matter():
    summary, study, records = comparison([[0.97] * 5, [0.9, 0.91] * 2 + [0.9], [0.9] * 5])
    assert summarise(study, records[::-1]) == summary


def test_tuning_is_credited_only_beyond_noise():
    helped, *_ = comparison([[0.97] * 5, [0.96] * 5, [0.95] * 5], default=0.5)
    assert "Tuning helped a most (+47.00 points)." in helped["verdict"]["text"]
    not_helped, *_ = comparison([[0.97] * 5, [0.96] * 5, [0.95] * 5], default=0.98)
    assert "Tuning helped nobody beyond noise." in not_helped["verdict"]["text"]


def test_one_optimizer_is_alone():
    summary, *_ = comparison([[0.97] * 5], names=("a",))
    assert summary["winner"] is None and summary["verdict"]["headline"] == "a, alone."


def test_runs_of_another_setting_are_not_counted():
    """A record that an earlier range, say, left behind."""
    summary, study, records = comparison([[0.97] * 5, [0.9] * 5, [0.9] * 5])
    stray = Record("a", "tuned", 0, 1, {"lr": 123.0}, "ok", test={"accuracy": 0.0})
    with_stray = summarise(study, [*records, stray])
    assert with_stray["optimizers"] == summary["optimizers"]


@pytest.mark.parametrize(
    "names, text", [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")]
)
def test_lists_in_words(names, text):
    assert listed(names) == text


def test_the_size_of_what_the_intervals_leave_out():
    summary, *_ = comparison([[0.9] * 5, [0.8] * 5, [0.7] * 5])  # 40 examples to test on
    assert "(40 examples, 4.7 points of standard error for a single accuracy)" in scope(summary)
    perfect, *_ = comparison([[1.0] * 5, [0.8] * 5, [0.7] * 5])
    assert "(40 examples, 1.8 points" in scope(perfect)  # half an example short of it
    loss, *_ = comparison([[0.1] * 5] * 3, problem=fake.problem(120, 6, metric="loss"))
    assert "(40 examples)" in scope(loss)


def test_numbers_in_words():
    accuracy = {"problem": {"metric": "accuracy"}}
    loss = {"problem": {"metric": "loss"}}
    assert shown(0.97654, accuracy) == "97.65%" and shown(0.123456, loss) == "0.1235"
    assert shown_difference(-0.0123, accuracy) == "\N{MINUS SIGN}1.23"
    assert shown_difference(0.00001, accuracy) == "0.00"
    assert shown_difference(0.5, loss) == "+0.5"
    assert shown(None, loss) == shown_difference(None, loss) == "\N{EN DASH}"
