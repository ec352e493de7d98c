# name: team
# ruff: noqa: F722
# mypy: ignore-errors
"""The kernel with which a leader hands work to helpers that wait in it.

Work is a letter: a kernel's four bases, its address, its arguments. Each helper has a mailbox: its
state, and a letter. The state is a version and, in its low bits, ASLEEP or not and one of

    IDLE      the helper executes nothing; it looks into its mailbox, unless it is ASLEEP
    POSTED    the letter is there to be taken
    BUSY      the helper does what the last letter said
    RESERVED  the leader writes a letter

A helper that has waited for a while goes to sleep: it returns to Python. It never holds up the
leader, who may post a letter at any time: a helper that is busy finds it afterwards, one that is
asleep when Python wakes it. Every letter has its version. So a helper that has read a part of one
and a part of the next can tell, for the state is no longer what it was.
"""

from fallline.compiler.library.machine import (
    atomic_load,
    atomic_replace,
    atomic_store,
    call,
    pause,
    yield_processor,
)

LEAD = 0  # a mode; any other serves
IDLE, POSTED, BUSY, RESERVED = 0, 1, 2, 3
CODE, ASLEEP, VERSION = 3, 4, 8
LETTER_AT = 128  # where the letter lies in a mailbox, in bytes
FUNCTION, ARGS, LETTER = 4, 5, 20  # a letter, in words; bases come first
POLITE = 128  # spins after which a waiting helper lets others run, if there are any


def post(mailbox, letter, start):
    """Put a letter into a mailbox; whether the helper has to be woken."""
    while True:
        state = atomic_load(mailbox)
        if atomic_replace(mailbox, state, state | RESERVED):
            break
    for i in range(LETTER):
        atomic_store(mailbox + LETTER_AT + 8 * i, letter[start + i])
    asleep = state & ASLEEP
    atomic_store(mailbox, (state & ~(VERSION - 1)) + VERSION + asleep + POSTED)
    return asleep != 0


def lead(n_helpers, words):
    """Begin some work, let the helpers join in, and join in.

    words  [letter to begin with, letter to join with, sleepers, (mailbox, letter) of each helper]
    Where helpers sleep this says how many, and leaves it to Python to wake them and to join in.
    """
    call(words[FUNCTION], words, words, ARGS)
    sleepers = 0
    at = 2 * LETTER + 1
    for _ in range(n_helpers):
        if post(words[at], words, at + 1):
            sleepers += 1
        at += 1 + LETTER
    words[2 * LETTER] = sleepers
    if sleepers == 0:
        call(words[LETTER + FUNCTION], words, words, LETTER + ARGS)


def take(mailbox, state, letter):
    """Copy the letter; whether it is whole, and the helper's to do."""
    for i in range(LETTER):
        letter[i] = atomic_load(mailbox + LETTER_AT + 8 * i)
    return atomic_replace(mailbox, state, (state & ~(VERSION - 1)) | BUSY)


def serve(spins, mailbox, letter):
    """Do what the letters say, until there has been none for so many spins."""
    waited = 0
    while True:
        state = atomic_load(mailbox)
        code = state & CODE
        if code == POSTED:
            if take(mailbox, state, letter):
                call(letter[FUNCTION], letter, letter, ARGS)
                waited = 0
        elif code == BUSY:  # till now
            atomic_replace(mailbox, state, state - BUSY + IDLE)
        elif code == IDLE and state & ASLEEP:  # till now
            atomic_replace(mailbox, state, state - ASLEEP)
        elif code == IDLE and waited >= spins:
            if atomic_replace(mailbox, state, state + ASLEEP):
                return
        else:
            waited += 1
            if waited % POLITE == 0:
                yield_processor()
            else:
                pause()


def kernel(mode: "int", number: "int", mailbox: "int", words: "int64*"):
    if mode == LEAD:
        lead(number, words)
    else:
        serve(number, mailbox, words)
