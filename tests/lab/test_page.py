"""The report as a file: whole, harmless, small, and the same from the same records."""

import dataclasses
import html.parser
import json
import re

import pytest
from tests.lab import fake

from fallline.lab.comparison import Comparison
from fallline.lab.page import embedded, page, results_table
from fallline.lab.protocol import Budget
from fallline.lab.study import Study

HOSTILE = "</script><script>alert('&\"\u2028')</script><!--"
VOID = {"meta", "link", "input", "br"}


class Checker(html.parser.HTMLParser):
    """Every element is closed, and nothing is loaded."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.seen.append((tag, attrs))
        assert not attrs.get("src") and not any(name.startswith("on") for name in attrs)
        if tag in ("a", "link"):
            assert attrs.get("href", "data:,") == "data:,"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append((self.open[-1] if self.open else "", data))


def checked(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


TINY = Budget("tiny", trials=6, seeds=5)


def finished(optimizers=fake.TEN, budget=TINY, **more):
    study = Study(fake.problem(240, 5, **more), optimizers, budget, run=fake.train)
    study.go()
    return study.journal.study, list(study.records.values())


@pytest.fixture(scope="module")
def ten():
    return finished()


def test_the_report_is_whole_small_and_loads_nothing(ten):
    text = page(*ten)
    checked(text)
    assert len(text.encode()) < 1_500_000
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|\bfetch\(|XMLHttpRequest|sendBeacon", text)
    assert "The MIT License" in text and "Leon Sorokin" in text  # uPlot's


def test_a_full_size_report_is_small_enough_to_mail():
    records = finished(budget=Budget("wide", trials=20, seeds=10))
    assert len(page(*records).encode()) < 1_500_000


def test_the_same_records_make_the_same_page(ten):
    study, records = ten
    assert page(study, records) == page(study, list(records))


def test_the_report_says_what_the_intervals_cover(ten):
    said = "Intervals cover the seeds only: not the finite test set (80 examples, "
    for text in (page(*ten), results_table(*ten), str(Comparison(*ten)).replace("\n", " ")):
        assert said in text and "points of standard error for a single accuracy" in text
    assert "multiple comparisons with the best" in page(*ten)


def test_every_optimizer_is_in_the_table_the_forest_and_the_panels(ten):
    checker = checked(page(*ten))
    rows = [attrs for tag, attrs in checker.seen if tag == "th" and attrs.get("scope") == "row"]
    assert len(rows) == 20  # results and search spaces
    labels = [attrs["aria-label"] for tag, attrs in checker.seen if attrs.get("role") == "img"]
    for optimizer in fake.TEN:
        assert sum(label.startswith(optimizer.name + ":") for label in labels) >= 2


def test_a_hostile_name_stays_a_name():
    evil = dataclasses.replace(fake.TEN[6], name=HOSTILE)
    text = page(*finished([evil, fake.TEN[0]], name=HOSTILE))
    checker = checked(text)
    assert HOSTILE not in text
    assert sum(tag == "script" for tag, _ in checker.seen) == 3
    (data,) = (t for tag, t in checker.text if tag == "script" and t.startswith("{"))
    assert HOSTILE in json.loads(data)["order"]
    checked(results_table(*finished([evil, fake.TEN[0]])))


def test_embedded_json_is_json_and_closes_nothing():
    text = embedded({"name": HOSTILE, "x": [1.5, None]})
    assert json.loads(text) == {"name": HOSTILE, "x": [1.5, None]}
    assert not set("<>&\u2028") & set(text)


@pytest.mark.parametrize("kept", [0, 1, 7, 60, 100])
def test_an_unfinished_comparison_has_a_report_too(ten, kept):
    study, records = ten
    text = page(study, records[:kept])
    checked(text)
    assert "Not finished yet." in text


def test_a_loss_and_diverged_runs_have_a_report_too():
    wild = [dataclasses.replace(o, peak=o.peak / 100, width=0.5) for o in fake.TEN[:4]]
    checked(page(*finished(wild, metric="loss")))


def test_a_notebook_shows_the_verdict_and_the_table(ten):
    text = Comparison(*ten)._repr_html_()
    checker = checked(text)
    assert not any(tag == "script" for tag, _ in checker.seen)
    assert sum(tag == "table" for tag, _ in checker.seen) == 1


def test_eleven_optimizers_have_colours_too():
    many = [dataclasses.replace(fake.TEN[0], name=f"sgd {k}") for k in range(11)]
    checked(page(*finished(many, budget=Budget("tiny", trials=2, seeds=2))))
