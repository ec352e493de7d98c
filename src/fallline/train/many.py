"""`fit_many`: train several networks at the same time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from fallline.core import tree
from fallline.core.errors import did_you_mean
from fallline.nn.module import Module
from fallline.train import arguments
from fallline.train.errors import DivergedError
from fallline.train.fit import fit, prepared
from fallline.train.history import History
from fallline.train.progress import Silent, Whole, display
from fallline.train.run import Run
from fallline.train.together import together

OF_ALL = ("net", "progress")  # arguments of `fit` that no run has of its own


def fit_many(
    nets: Sequence[Module],
    data: tuple[Any, Any] | None = None,
    *,
    each: Sequence[Mapping[str, Any]] | None = None,
    at_once: int | None = None,
    progress: bool | Silent | None = None,
    **settings: Any,
) -> list[History]:
    """Train several networks in place, side by side: other seeds, other rates, other networks.

        histories[i] = fit(nets[i], data, **{**settings, **each[i]})    bit for bit

    nets      as many networks as there are runs, none twice. They may differ in everything
    settings  what `fit` takes, for all runs: epochs, batch_size, validation, callbacks, ...
    each      what only one run is given, a dict for each: {"optimizer": optim.adam(lr=0.01)},
              "seed", "callbacks", ..., also "data" of its own
    at_once   how many are on their way at a time; by default eight for each thread
    progress  None: a bar on a terminal, plain lines elsewhere; False: silent

    Each run takes its steps on one thread, and every thread has a run. That is worth it where the
    threads could not share a step: on networks like 64-100-10 in batches of 32. From about six
    million parameters times examples in a batch on, `fit` for one after the other is as fast (see
    docs/performance.md). Each run needs parameters, optimizer state and, while it is on its way,
    workspace; the data are there once.

    Returns the histories in the order of the networks. `seconds` is each one's share. A run whose
    loss becomes nan or infinite does not disturb the others: its history has stopped = "diverged"
    and says why in `message`, its network holds the parameters before that step. A callback is
    called with the trainer and the history of its run, in this thread; one in `settings` is called
    for all runs, so what remembers anything belongs in `each`. Any other exception ends all runs.
    Ctrl-C does too, and returns what was learned so far.

    >>> import numpy as np
    >>> from fallline import nn, optim
    >>> X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> nets = [nn.mlp([1, 1], seed=0).copy() for _ in range(3)]
    >>> rates = [{"optimizer": optim.sgd(lr=lr)} for lr in (0.01, 0.1, 10.0)]
    >>> settings = {"loss": "squared_error", "epochs": 20, "progress": False}
    >>> found = fit_many(nets, (X, 3 * X), each=rates, **settings)
    >>> [history.stopped for history in found], bool(found[1].loss[-1] < found[0].loss[-1])
    (['', '', 'diverged'], True)
    """
    nets = list(nets)
    _check_nets(nets)
    if at_once is not None:
        arguments.check_count("at_once", at_once, 1)
    given = _settings(nets, each, {"data": data, **settings})
    _convert_once(nets, given)
    whole = Whole(display(progress))
    plans: dict[Any, Any] = {}
    runs = [
        run_of(net, own, plans=plans, progress=whole.part())
        for net, own in zip(nets, given, strict=True)
    ]
    whole.expect(len(runs), sum(run.epochs for run in runs), sum(run.steps for run in runs))
    try:
        _train(runs, at_once)
    finally:
        whole.close()
    return [run.history for run in runs]


def run_of(
    net: Module,
    settings: Mapping[str, Any],
    *,
    plans: dict[Any, Any],
    progress: Silent | None = None,
) -> Run:
    """The run that `fit(net, **settings)` would make, for `together` to drive; plans  see there."""
    return prepared(net, **{**_usual(), **settings}, progress=progress or Silent(), plans=plans)


@functools.cache
def _usual() -> dict[str, Any]:
    """The arguments that `fit` has for a run, with their defaults."""
    parameters = inspect.signature(fit).parameters.items()
    return {name: p.default for name, p in parameters if name not in OF_ALL}


def _train(runs: list[Run], at_once: int | None) -> None:
    """Until all have ended, or Ctrl-C."""
    left = set(runs)
    with suppress(KeyboardInterrupt):
        for run in together(runs, at_once):
            left.discard(run)
            run.trainer.rest()
            if run.error is not None and not isinstance(run.error, DivergedError):
                raise run.error
    for run in left:  # some have not begun, some may just have ended
        if len(run.history.epochs) < run.epochs and not run.history.stopped:
            run.history.stopped = "interrupted"


def _settings(
    nets: list[Module], each: Sequence[Mapping[str, Any]] | None, common: dict[str, Any]
) -> list[dict[str, Any]]:
    """The arguments of `fit` for every run."""
    entries = [{} for _ in nets] if each is None else list(each)
    if len(entries) != len(nets):
        raise ValueError(
            f"fit_many: each must hold a dict for each of {len(nets)} networks; got {len(entries)}."
        )
    for name in dict.fromkeys(name for entry in (common, *entries) for name in entry):
        if name not in _usual():
            of_all = name in OF_ALL or name == "at_once"
            hint = "It is one for all." if of_all else did_you_mean(name, _usual())
            raise TypeError(f"fit_many: a run takes no {name!r}. {hint}")
    return [{**common, **entry} for entry in entries]


def _convert_once(nets: list[Module], settings: list[dict[str, Any]]) -> None:
    """Examples in the type of the networks: one copy for all runs, not one for each."""
    found: dict[Any, Any] = {}
    for net, own in zip(nets, settings, strict=True):
        for name, what in (("data", ""), ("validation", "validation ")):
            given = own.get(name)
            if name == "data" or given is not None:
                key = id(given), net.dtype
                if key not in found:
                    found[key] = given, arguments.as_pair(given, net, what)  # which keeps the id
                own[name] = found[key][1]


def _check_nets(nets: list[Module]) -> None:
    if not nets:
        raise ValueError("fit_many: nets must hold at least one network; got none.")
    owner: dict[int, int] = {}
    for i, net in enumerate(nets):
        if not isinstance(net, Module):
            raise TypeError(f"fit_many: nets must be networks; got {type(net).__name__}.")
        for leaf in tree.leaves(net, whole=True):
            if owner.setdefault(id(leaf), i) != i:
                raise ValueError(
                    f"fit_many: networks {owner[id(leaf)]} and {i} have an array in common. Give "
                    "each its own: net.copy()."
                )
