"""`fallline train`: one network, one optimizer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fallline.cli import options, problems, terminal
from fallline.cli.command import INTERRUPTED, Command
from fallline.cli.errors import asked_for

if TYPE_CHECKING:
    from fallline.data import Dataset
    from fallline.lab import Problem
    from fallline.nn import Module
    from fallline.optim import Optimizer
    from fallline.train import History

ROWS = 10  # of the table of epochs


def _optimizers() -> list[str]:
    from fallline import optim

    return list(optim.rules())


@click.command(
    cls=Command,
    short_help="Train one network.",
    epilog="""
    fallline train digits
    fallline train digits --optimizer nesterov --lr 0.05 --set b=0.95 --epochs 50
    fallline train fashion-mnist --model 784-256-10 --save net.safetensors
    """,
)
@options.problem
@options.data
@click.option(
    "--optimizer",
    metavar="NAME",
    type=options.Name("optimizer", _optimizers),
    default="adam",
    help="As `fallline optimizers` lists them; adam by default.",
)
@click.option("--lr", metavar="X", type=options.Number(), help="The learning rate.")
@click.option(
    "--set",
    "settings",
    metavar="NAME=X",
    type=options.Setting(),
    multiple=True,
    help="Another hyperparameter of the optimizer; may be repeated.",
)
@options.model
@options.epochs
@options.batch_size
@options.seed
@click.option(
    "--validation",
    metavar="N",
    type=options.Part(),
    help="Hold out so many training examples, or such a share; 0 for none.",
)
@click.option("--save", metavar="FILE", type=options.NewFile(), help="Save the network there.")
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context,
    problem: str,
    data: Path | None,
    optimizer: str,
    lr: float | None,
    settings: tuple[tuple[str, Any], ...],
    model: tuple[int, ...] | None,
    epochs: int | None,
    batch_size: int | None,
    seed: int,
    validation: int | float | None,
    save: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a network on PROBLEM: digits, mnist or fashion-mnist.

    Shows the epochs and the accuracy on the test examples. Ctrl-C ends the training and keeps what
    was learned.
    """
    from fallline import nn
    from fallline.train import fit

    bound = _bound(optimizer, lr, settings)
    settled = problems.load(problem, data, model=model, epochs=epochs, batch_size=batch_size)
    examples = settled.data if validation is None else _held_out(settled.data, validation)
    network = settled.network(seed)
    history = fit(
        network,
        examples.train,
        loss=settled.loss,
        optimizer=bound,
        epochs=settled.epochs,
        batch_size=settled.batch_size,
        validation=examples.validation,
        seed=seed,
        progress=False if quiet else None,
    )
    if save is not None:
        nn.save(network, save)
    outcome = Outcome(settled, examples, network, bound, history, seed, save)
    if as_json:
        terminal.print_json(outcome.as_data())
    else:
        outcome.show()
    if history.stopped:
        ctx.exit(INTERRUPTED)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A training run: what was trained, how, and what came of it."""

    problem: Problem
    data: Dataset
    network: Module
    optimizer: Optimizer
    history: History
    seed: int
    saved: Path | None

    def as_data(self) -> dict[str, Any]: ...
