"""Constants that a kernel and the Python around it both have.

A kernel's text stands by itself, so it cannot import them: here both sides are read and compared.
"""

from __future__ import annotations

from fallline.compiler import helpers, memory, walker
from fallline.compiler.library import team, walk

WORD = 8  # bytes


def test_the_walk_and_the_walker_agree() -> None:
    assert walk.PRIVATE == memory.PRIVATE
    assert (walk.ALONE, walk.BEGIN) == (walker.ALONE, walker.BEGIN)
    assert walker.JOIN not in (walk.ALONE, walk.BEGIN)
    assert walk.STATUS == walker.STATUS * WORD
    assert walk.STEPS_DONE == walker.STEPS_DONE * WORD
    assert walk.END + WORD <= walker.CONTROL_WORDS * WORD
    assert walker.MAX_JOBS + 1 < 1 << walk.JOB_BITS  # a ticket of one beyond the last still fits


def test_what_threads_contend_for_lies_apart() -> None:
    places = [walk.STATUS, walk.TICKET, walk.DONE, walk.FIRST]
    assert [place % memory.LINE for place in places] == [0] * 4
    assert len(set(places)) == 4
    assert team.LETTER_AT % memory.LINE == 0


def test_the_team_and_the_helpers_agree() -> None:
    assert (team.LEAD, team.IDLE) == (helpers.LEAD, helpers.IDLE)
    assert helpers.SERVE != team.LEAD
    assert (team.CODE, team.ASLEEP) == (helpers.CODE, helpers.ASLEEP)
    assert (team.ARGS, team.LETTER) == (helpers.ARGS, helpers.LETTER)
    assert team.FUNCTION == helpers.ARGS - 1
    assert team.LETTER_AT == helpers.WORDS_BEFORE * WORD
    assert helpers.SLEEPERS == 2 * team.LETTER
