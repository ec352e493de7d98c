import json

import numpy as np
import pytest

from fallline.lab import records
from fallline.lab.records import Journal, Record, decode, encode


def record(index=0, **changes):
    fields = {
        "optimizer": "adam",
        "phase": "trial",
        "index": index,
        "seed": 7,
        "hyper": {"lr": 0.1 + 0.2, "b1": 0.9},
        "status": "ok",
        "loss": np.array([2.3, 0.1, np.nan, np.inf], np.float32),
        "epochs": [{"epoch": 1, "step": 2, "loss": 0.5, "val_loss": float("nan"), "seconds": 0.25}],
        "validation": np.float64(0.975),
        "test": {"accuracy": 0.97},
        "seconds": 0.25,
        "message": 'a "quoted" message\nof two lines',
        "versions": {"numpy": "2.1"},
        "finished": "2025-01-01T00:00:00+00:00",
    }
    return Record(**{**fields, **changes})


STUDY = {
    "schema": records.SCHEMA,
    "problem": {"name": "digits", "epochs": 20, "fingerprint": "a"},
    "protocol": {"budget": "quick", "seed": 0},
    "optimizers": {"adam": {"defaults": {"lr": 1e-3}, "space": {}}},
}


def same(a, b):
    fields = lambda r: {k: v for k, v in vars(r).items() if k != "loss"}
    return fields(a) == fields(b) and np.array_equal(a.loss, b.loss, equal_nan=True)


def test_a_record_survives_its_line():
    line = encode(record())
    assert "\n" not in line
    back = decode(line)
    assert back.hyper == {"lr": 0.1 + 0.2, "b1": 0.9} and back.key == record().key
    assert back.loss.dtype == np.float32 and np.array_equal(
        back.loss, record().loss, equal_nan=True
    )
    assert back.epochs[0]["val_loss"] is None  # JSON has no nan
    assert same(decode(encode(back)), back)


def test_a_line_is_strict_json():
    json.loads(encode(record()), parse_constant=lambda _: pytest.fail("not JSON"))


@pytest.mark.parametrize("line", ["", "{", "[]", '{"v": 99}', '{"v": 1}', '{"v": 1, "loss": ""}'])
def test_what_is_not_a_record_is_refused(line):
    with pytest.raises(ValueError):
        decode(line)


def test_a_journal_gives_back_what_was_appended(tmp_path):
    with Journal(tmp_path / "new" / "out") as journal:
        journal.begin(STUDY)
        journal.append(record(0))
        journal.append(record(1, status="diverged"))
    again = Journal(tmp_path / "new" / "out")
    assert again.study == STUDY
    assert [r.status for r in again.records.values()] == ["ok", "diverged"]
    assert all(same(a, b) for a, b in zip(again.records.values(), journal.records.values()))


def test_a_journal_without_a_directory_stays_in_memory():
    with Journal() as journal:
        journal.begin(STUDY)
        journal.append(record())
        assert len(journal.records) == 1


def test_every_line_is_on_the_disk_before_append_returns(tmp_path):
    with Journal(tmp_path) as journal:
        journal.begin(STUDY)
        for k in range(3):
            journal.append(record(k))
            assert len((tmp_path / records.RECORDS).read_bytes().splitlines()) == k + 1


@pytest.mark.parametrize("keep", [1, 10, -2, -1])
def test_a_torn_last_line_is_cut_off(tmp_path, keep):
    with Journal(tmp_path) as journal:
        journal.begin(STUDY)
        journal.append(record(0))
        journal.append(record(1))
    path = tmp_path / records.RECORDS
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + (second + b"\n")[:keep])
    with Journal(tmp_path) as journal:
        assert len(journal.records) == 1
        journal.begin(STUDY)
        journal.append(record(2))
    assert [r.index for r in Journal(tmp_path).records.values()] == [0, 2]


def test_a_broken_line_in_the_middle_is_left_out_with_a_warning(tmp_path):
    with Journal(tmp_path) as journal:
        journal.begin(STUDY)
        for k in range(3):
            journal.append(record(k))
    path = tmp_path / records.RECORDS
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:20] + b"\xff" + lines[1][40:]
    path.write_bytes(b"\n".join(lines))
    with pytest.warns(UserWarning, match="line 2 is left out"):
        journal = Journal(tmp_path)
    assert [r.index for r in journal.records.values()] == [0, 2]


def test_another_study_is_refused_and_says_what_differs(tmp_path):
    with Journal(tmp_path) as journal:
        journal.begin(STUDY)
    other = {**STUDY, "problem": {"name": "digits", "epochs": 30, "fingerprint": "b"}}
    with (
        Journal(tmp_path) as journal,
        pytest.raises(ValueError, match=r"another study: epochs is 20 there and 30 here\. Choose"),
    ):
        journal.begin(other)
    changed = {**STUDY, "optimizers": {"adam": {"defaults": {"lr": 1e-2}, "space": {}}}}
    with (
        Journal(tmp_path) as journal,
        pytest.raises(ValueError, match="adam defaults lr is 0.001 there and 0.01 here"),
    ):
        journal.begin(changed)


def test_an_optimizer_may_join_later(tmp_path):
    with Journal(tmp_path) as journal:
        journal.begin(STUDY)
    with Journal(tmp_path) as journal:
        journal.begin({**STUDY, "optimizers": {"sgd": {"defaults": {"lr": 0.1}, "space": {}}}})
    assert list(Journal(tmp_path).study["optimizers"]) == ["adam", "sgd"]


def test_two_comparisons_do_not_write_to_one_directory(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path) as first:
        first.begin(STUDY)
        with Journal(tmp_path) as second, pytest.raises(ValueError, match="another comparison"):
            second.begin(STUDY)
    with Journal(tmp_path) as third:
        third.begin(STUDY)  # the lock ended with its owner


def test_a_foreign_study_file_is_refused(tmp_path):
    (tmp_path / records.STUDY).write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="not a study of this version"):
        Journal(tmp_path)
    (tmp_path / records.STUDY).write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        Journal(tmp_path)
    (tmp_path / records.STUDY).unlink()
    (tmp_path / records.RECORDS).write_text("")
    with pytest.raises(ValueError, match="records but no"):
        Journal(tmp_path)


def test_the_machine_is_described_without_naming_it():
    import getpass
    import socket

    said = json.dumps(records.machine())
    assert socket.gethostname() not in said and f'"{getpass.getuser()}"' not in said
    assert set(records.machine()) == {"system", "architecture", "processor", "cores"}
