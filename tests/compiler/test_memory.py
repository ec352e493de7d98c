"""Buffers that share memory: those that live at one time are apart."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from fallline.compiler import memory

LIVES = st.tuples(st.integers(0, 500), st.integers(0, 20), st.integers(0, 20))


@given(st.lists(LIVES, max_size=30))
def test_buffers_that_live_at_one_time_do_not_touch(lives):
    buffers = [(i, n, min(a, b), max(a, b)) for i, (n, a, b) in enumerate(lives)]
    offsets, size = memory.share(buffers)
    for i, n, first, last in buffers:
        assert offsets[i] % memory.ALIGNMENT == 0 and offsets[i] + n <= size
        for j, m, since, until in buffers[:i]:
            apart = last < since or until < first
            assert (
                apart or offsets[i] + n <= offsets[j] or offsets[j] + m <= offsets[i] or not n * m
            )


def test_memory_is_used_again():
    chain = [(i, 1000, i, i + 1) for i in range(10)]
    offsets, size = memory.share(chain)
    assert size == 2 * memory.aligned(1000) and len(set(offsets.values())) == 2


def test_bytes_begin_at_a_multiple_of_the_alignment():
    for n in (1, 64, 1000):
        found = memory.allocate(n)
        assert found.nbytes == n and memory.address(found) % memory.ALIGNMENT == 0
