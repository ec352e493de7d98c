import json
import subprocess
import sys
import textwrap

import pytest
from rich.console import Console
from tests.lab import fake

import fallline.lab as lab
from fallline.lab.protocol import Budget

TINY = Budget("tiny", trials=6, seeds=5)


def compare(out=None, problem=None, optimizers=fake.TEN[5:8], budget=TINY, **more):
    problem = problem or fake.problem(240, 5)
    more = {"run": fake.train, "progress": False, **more}
    return lab.compare(problem, optimizers, budget, out=out, **more)


def without_time(summary):
    text = json.dumps(summary, sort_keys=True)
    return json.loads(text, object_hook=lambda d: {k: v for k, v in d.items() if k not in TIME})


TIME = ("seconds", "finished")


def test_out_receives_records_summary_and_report(tmp_path):
    comparison = compare(tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["records.jsonl", "report.html", "study.json", "summary.json"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == json.loads(json.dumps(comparison.summary))
    assert summary["schema"] == "fallline.comparison/1" and summary["complete"]
    lines = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    assert len(lines) == len(comparison.records) == summary["runs"]


def test_the_report_is_made_again_from_the_records_alone(tmp_path):
    compare(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("summary.json", "report.html")}
    for name in before:
        (tmp_path / name).unlink()
    lab.report(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_finished_comparison_runs_nothing_again(tmp_path):
    first = compare(tmp_path)

    def never(*args, **kwargs):
        pytest.fail("ran again")

    assert compare(tmp_path, run=never).summary == first.summary


def test_ctrl_c_returns_what_there_is_and_says_how_to_go_on(tmp_path, capsys):
    left = iter(range(20))

    def interrupted(*args, **kwargs):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return fake.train(*args, **kwargs)

    part = compare(tmp_path, run=interrupted)
    assert not part.complete and part.interrupted and len(part.records) == 20
    assert "Repeat the same command" not in part.summary["verdict"]["text"]
    said = capsys.readouterr().err
    assert f"Stopped after 20 runs; they are kept in {tmp_path}." in said and "continue" in said
    assert "Not finished yet." in (tmp_path / "report.html").read_text()
    whole = compare(tmp_path)
    assert whole.complete and not whole.interrupted
    assert without_time(whole.summary) == without_time(compare().summary)


@pytest.mark.parametrize("out", [None, "out"])
def test_ctrl_c_after_one_run(out, tmp_path, capsys):
    left = iter([1])

    def interrupted(*args, **kwargs):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return fake.train(*args, **kwargs)

    assert compare(out and tmp_path / out, run=interrupted).interrupted
    said = capsys.readouterr().err
    assert said.startswith(
        "Stopped after 1 run; it is kept" if out else "Stopped after 1 run. With"
    )


def test_ctrl_c_in_a_terminal_stops_the_workers_too(tmp_path):
    """The signal goes to the whole group of processes, as a terminal sends it."""
    script = textwrap.dedent(
        """
        import os, signal, sys, threading, time
        import fallline.lab as lab
        from tests.lab import fake

        def slow(*args, **kwargs):
            time.sleep(0.15)
            return fake.train(*args, **kwargs)

        class Watch:
            made = 0
            def begin(self, study): ...
            def epoch(self, task, epoch): ...
            def end(self): ...
            def record(self, record):
                Watch.made += 1
                if Watch.made == 4:
                    threading.Timer(0.05, os.killpg, (os.getpgid(0), signal.SIGINT)).start()

        budget = lab.Budget("tiny", trials=6, seeds=5)
        found = lab.compare(fake.problem(240, 5), fake.TEN[5:8], budget, jobs=2, out=sys.argv[1],
                            run=slow, progress=Watch())
        print("made", len(found.records), found.complete)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=50,
        start_new_session=True,
        env={**__import__("os").environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    made, complete = done.stdout.split()[1:]
    assert 4 <= int(made) < 20 and complete == "False"
    assert "Stopped after" in done.stderr and "Traceback" not in done.stderr
    assert compare(tmp_path).complete


def test_a_directory_of_another_study_is_refused(tmp_path):
    compare(tmp_path)
    another = lab.StudyMismatchError
    with pytest.raises(another, match="holds another study: batch_size is 32 there and 16 here"):
        compare(tmp_path, batch_size=16)
    with pytest.raises(another, match="budget"):
        compare(tmp_path, budget=Budget("other", trials=6, seeds=5))
    with pytest.raises(another, match=r"data_sha256"):
        compare(tmp_path, problem=fake.problem(241, 5))


def test_the_table_has_a_row_for_each(capsys):
    comparison = compare()
    table = comparison.table()
    assert table.row_count == 3 and "test accuracy" in [c.header for c in table.columns]
    text = str(comparison)
    assert all(o.name in text for o in fake.TEN[5:8])
    Console(width=160).print(comparison)
    assert comparison.summary["verdict"]["headline"] in capsys.readouterr().out
    assert repr(comparison).startswith("<Comparison of 3 optimizers on digits:")


def test_settings_of_the_call_replace_the_problems_own():
    comparison = compare(epochs=3, batch_size=16)
    problem = comparison.summary["problem"]
    assert (problem["epochs"], problem["batch_size"], problem["steps"]) == (3, 16, 45)


def test_the_report_goes_where_it_is_sent(tmp_path):
    path = compare().report(tmp_path / "mine.html")
    assert path.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"budget": "standart"}, r"no budget is called 'standart'\. Did you mean standard\?"),
        ({"jobs": 0}, "jobs must be at least 1; got 0"),
        ({"seed": -1}, "seed must not be negative"),
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"optimizers": []}, "no optimizers given"),
        ({"optimizers": [fake.TEN[0], fake.TEN[0]]}, "sgd is listed 2 times"),
        ({"problem": "mnits"}, r"no problem is called 'mnits'\. Did you mean mnist\?"),
        ({"model": "64-x"}, "a model is written as widths"),
    ],
)
def test_a_wrong_setting_is_answered(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        compare(**change)


def test_what_is_no_comparison_is_not_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no comparison"):
        lab.report(tmp_path)
