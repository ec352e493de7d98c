"""Which name was meant, and which line is the user's."""

from __future__ import annotations

import pytest

import fallline.cli
from fallline.core.errors import did_you_mean, nearest, user_frame

NAMES = ["adagrad", "adam", "adamax", "adamw", "sgd", "rmsprop"]


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("adma", "adam"),  # two letters that changed places are one slip, not two
        ("daam", "adam"),
        ("admaw", "adamw"),
        ("adamm", "adam"),
        ("adm", "adam"),
        ("Adam", "adam"),
        ("SGD", "sgd"),
        ("sdg", "sgd"),
        ("rmsprob", "rmsprop"),
        ("adamax ", "adamax"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_nearest(typed, meant):
    assert nearest(typed, NAMES) == meant


def test_the_first_of_equally_near_ones():
    assert nearest("b", ["b1", "b2"]) == "b1"


def test_how_alike_is_the_callers_choice():
    assert nearest("interp", ["inner"]) == "inner"
    assert nearest("interp", ["inner"], alike=0.8) == ""


def test_the_end_of_a_sentence():
    assert did_you_mean("adma", NAMES) == "Did you mean adam?"
    assert did_you_mean("zzz", ["a", "b"]) == "There are a, b."
    assert did_you_mean("zzz", []) == "There are none."


def test_the_innermost_line_of_the_user():
    assert user_frame()[2] == "test_the_innermost_line_of_the_user"


def test_under_the_command_line_no_line_is_the_users():
    inside = fallline.cli.__file__.replace("__init__", "made_up")
    space = {"user_frame": user_frame}
    exec(compile("found = user_frame()", inside, "exec"), space)
    assert space["found"] is None
