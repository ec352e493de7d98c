import json
import re

import pytest
from click.testing import CliRunner
from tests.cli.running import run

from fallline import optim
from fallline.cli import main
from fallline.cli.optimizers import Entry

NAMES = list(optim.rules())


def test_the_list_has_a_line_for_each_where_lines_can_be_long():
    found = run("optimizers", COLUMNS="1000")
    assert found.exit_code == 0
    head, *lines = found.stdout.splitlines()
    assert head.split() == ["optimizer", "update", "defaults", "source"]
    assert [line.split()[0] for line in lines] == NAMES
    starts = [head.index(word) for word in ("update", "defaults", "source")]
    for line in lines:
        assert all(line[i - 1] == " " != line[i] for i in starts)
    adam = lines[NAMES.index("adam")]
    assert "m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr (m" in adam
    assert "lr=0.001, b1=0.9, b2=0.999, eps=1e-08" in adam
    assert adam.rstrip().endswith("Kingma & Ba 2015, algorithm 1")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_fits_a_terminal(columns):
    found = run("optimizers", COLUMNS=str(columns))
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert [line.split()[0] for line in lines if line[0].strip()] == NAMES
    assert re.search(
        r"^adagrad +G \+= g\^2;  p -= lr g / \(sqrt\(G\) \+ eps\)\s*$", found.stdout, re.M
    )


def test_the_list_in_a_pipe_is_no_wider_than_a_page(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = CliRunner().invoke(main, ["optimizers"]).stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line[:1].strip()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_explained(name):
    found = run("optimizers", name, COLUMNS="120")
    assert found.exit_code == 0
    entry = Entry.of(name)
    for line in entry.formula.splitlines():
        assert "    " + line in found.stdout
    words = " ".join(found.stdout.split())
    assert " ".join(entry.doc.split()) in words
    for hyper in entry.settings:
        assert re.search(rf"^{hyper} ", found.stdout, re.M)
    for dimension in optim.by_name(name).space.values():
        assert str(dimension) in found.stdout


@pytest.mark.parametrize("name", NAMES)
def test_each_names_its_source(name):
    """Names and a year: found in the docstring, without the sentence before it."""
    assert re.match(r"[A-Z][^.]* (et al\. )?(19|20)\d\d", Entry.of(name).source)


def test_an_explanation_fits_a_narrow_terminal():
    lines = run("optimizers", "momentum", COLUMNS="60").stdout.splitlines()
    assert max(map(len, lines)) <= 60


def test_as_json():
    found = json.loads(run("optimizers", "--json").stdout)
    assert [entry["name"] for entry in found] == NAMES
    adam = json.loads(run("optimizers", "adam", "--json").stdout)
    assert adam == found[NAMES.index("adam")]
    assert adam["settings"]["lr"] == 1e-3 and adam["options"]["bias_correction"] == [True, False]
    assert adam["space"]["b1"]["kind"] == "one-minus-log"
    assert adam["limits"]["b1"] == "[0, 1)"


def test_a_wrong_name():
    found = run("optimizers", "adamx")
    assert found.exit_code == 2 and "Did you mean adamax?" in found.stderr
