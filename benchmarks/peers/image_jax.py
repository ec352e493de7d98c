"""A training step of a network of images in JAX: jax.jit, parameters and state donated, Optax.

Images are (n, height, width, channels), which XLA's convolutions on a processor want; the batches
are put on the device beforehand. Arguments: problem, optionally `check`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.images import (
    CHECK_STEPS,
    IMAGES,
    MOMENTUM,
    NORM_EPS,
    NORM_RATE,
    Block,
    Conv,
    Dense,
    Flat,
    ImageProblem,
    Layer,
    Layers,
    Mean,
    Norm,
    Pool,
    Relu,
)
from benchmarks.problem import B1, B2, EPS
from benchmarks.worker import Measure, one_by_one, serve, serve_check

Arrays = dict[str, Any]


def build(problem: ImageProblem, batches: int | None = None) -> Callable[[], Any]:
    """A function that makes one step on the next batch, waits, and returns the loss."""
    import jax
    import optax

    if problem.optimizer == "adam":
        optimizer = optax.adam(problem.lr, b1=B1, b2=B2, eps=EPS)
    else:
        optimizer = optax.sgd(problem.lr, momentum=MOMENTUM)

    def loss_of(params: Arrays, running: Arrays, x, y):
        logits, running = network(problem.layers, params, running, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), running

    def step(carry, x, y):
        params, running, state = carry
        (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(params, running, x, y)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), running, state), loss

    compiled = jax.jit(step, donate_argnums=0)
    params, running = arrays(problem)
    carry = params, running, optimizer.init(params)
    feed = cycle(_batches(problem, batches))

    def advance():
        nonlocal carry
        carry, loss = compiled(carry, *next(feed))
        return loss.block_until_ready()

    return advance


def arrays(problem: ImageProblem) -> tuple[Arrays, Arrays]:
    """What is trained, and running statistics."""
    import jax.numpy as jnp

    found = {name: jnp.array(w) for name, w in problem.weights().items()}
    running = {name: w for name, w in found.items() if "running" in name}
    return {name: w for name, w in found.items() if name not in running}, running


def channels_behind(X: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(X.transpose(0, 2, 3, 1))


def _batches(problem: ImageProblem, batches: int | None) -> list[list]:
    import jax

    X, y = problem.data(batches)
    parts = [np.split(a, len(X) // problem.batch) for a in (channels_behind(X), y)]
    return [jax.device_put(pair) for pair in zip(*parts, strict=True)]


def network(
    layers: Layers, params: Arrays, running: Arrays, x, is_training: bool = True
) -> tuple[Any, Arrays]:
    """What the layers give, and the running statistics after it."""
    import jax

    for layer in layers:
        match layer:
            case Norm(name) if is_training:
                mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
                x = _normalised(x, mean, var, params, name)
                n = x.size // x.shape[-1]
                new = {"running_mean": mean, "running_var": var * (n / (n - 1))}
                running = running | {
                    f"{name}.{k}": (1 - NORM_RATE) * running[f"{name}.{k}"] + NORM_RATE * v
                    for k, v in new.items()
                }
            case Norm(name):
                mean, var = (running[f"{name}.running_{k}"] for k in ("mean", "var"))
                x = _normalised(x, mean, var, params, name)
            case Block(body):
                y, running = network(body, params, running, x, is_training)
                x = jax.nn.relu(y + _shortcut(layer, x))
            case _:
                x = _plain(layer, params, x)
    return x, running


def _normalised(x, mean, var, params: Arrays, name: str):
    scale = params[f"{name}.weight"] / (var + NORM_EPS) ** 0.5
    return (x - mean) * scale + params[f"{name}.bias"]


def _shortcut(block: Block, x):
    import jax.numpy as jnp

    if not block.new_channels:
        return x
    return jnp.pad(x[:, :: block.stride, :: block.stride], [(0, 0)] * 3 + [block.zeros])


def _plain(layer: Layer, params: Arrays, x):
    """A layer without statistics."""
    import jax

    match layer:
        case Conv(name, stride=s, padding=p, bias=bias):
            x = jax.lax.conv_general_dilated(
                x, params[f"{name}.weight"], (s, s), [(p, p)] * 2,
                dimension_numbers=("NHWC", "OIHW", "NHWC"),
            )  # fmt: skip
            return x + params[f"{name}.bias"] if bias else x
        case Relu():
            return jax.nn.relu(x)
        case Pool(kernel, stride):
            window, steps = (1, kernel, kernel, 1), (1, stride, stride, 1)
            return jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, steps, "VALID")
        case Mean():
            return x.mean((1, 2))
        case Flat():
            return x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        case Dense(name):
            return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]
    raise TypeError(layer)


def prepare(problem: ImageProblem) -> Measure:
    step = build(problem)
    step()
    return one_by_one(step, warm_up=2)


def check(problem: ImageProblem) -> list[float]:
    step = build(problem, batches=1)
    return [float(step()) for _ in range(CHECK_STEPS)]


if __name__ == "__main__":
    chosen = IMAGES[sys.argv[1]]
    if "check" in sys.argv:
        serve_check(lambda: check(chosen))
    else:
        serve(lambda: prepare(chosen))
