import json
import math

import numpy as np
from tests.lab import fake, naive

from fallline.lab.curves import band, blocks, curves
from fallline.lab.protocol import Budget
from fallline.lab.study import Study


def test_band_is_the_quartiles_of_each_column():
    rows = np.random.default_rng(0).standard_normal((5, 7))
    found = band(rows)
    for key, q in (("lo", 0.25), ("m", 0.5), ("hi", 0.75)):
        expected = [float(f"{naive.quantile(column, q):.5g}") for column in rows.T]
        assert found[key] == expected


def test_a_run_that_is_gone_pushes_the_quartile_up():
    rows = np.array([[1.0], [2.0], [3.0], [np.nan], [np.nan]])
    assert band(rows) == {"lo": [2.0], "m": [3.0], "hi": [None]}
    mostly = np.array([[1.0], [2.0], [np.nan], [np.nan], [np.nan]])
    assert band(mostly)["m"] == [None]


def test_blocks_cover_all_steps_and_are_few():
    for steps in (1, 2, 59, 600, 680, 4690, 100_001):
        edges = blocks(steps)
        assert edges[0] == 0 and edges[-1] == steps and np.all(np.diff(edges) > 0)
        assert len(edges) - 1 <= 240


def finished(optimizers):
    study = Study(
        fake.problem(240, 5), optimizers, Budget("tiny", trials=3, seeds=5), run=fake.train
    )
    study.go()
    return study


def test_curves_of_a_study():
    study = finished([fake.TEN[0], fake.TEN[6]])
    found = curves(study.journal.study, study.records.values())
    json.dumps(found, allow_nan=False)
    assert [q["key"] for q in found["quantities"]] == ["val_accuracy", "val_loss", "loss"]
    assert found["steps_per_epoch"] == 8
    for kind in ("tuned", "default"):
        for name in ("sgd", "adam"):
            accuracy = found["series"][kind][name]["val_accuracy"]
            assert accuracy["x"] == [8, 16, 24, 32, 40]
            assert all(
                lo <= m <= hi for lo, m, hi in zip(accuracy["lo"], accuracy["m"], accuracy["hi"])
            )
            clock = found["clock"][kind][name]
            assert clock["x"][0] == clock["s"][0] == 0 and clock["s"] == sorted(clock["s"])


def test_the_final_point_is_the_median_of_the_records():
    study = finished([fake.TEN[6]])
    runs = [r for r in study.records.values() if r.phase == "tuned"]
    expected = naive.quantile([r.epochs[-1]["val_accuracy"] for r in runs], 0.5)
    found = curves(study.journal.study, study.records.values())
    last = found["series"]["tuned"]["adam"]["val_accuracy"]["m"][-1]
    assert math.isclose(last, expected, rel_tol=1e-4)


def test_there_is_something_to_draw_before_there_is_anything():
    study = Study(fake.problem(240, 5), fake.TEN[:1], Budget("tiny", 3, 5), run=fake.train)
    found = curves(study.journal.study, [])
    assert found["series"] == {"tuned": {}, "default": {}}
