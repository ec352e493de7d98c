"""What is measured: one row a workload, with its peers and what is promised beside them."""

from __future__ import annotations

from .harness import OURS, Bound, Peer, Workload
from .peers.rules import SLOTS, traffic

OURS_MANY = "fallline, 200 steps a call"
STATED = ("adam", "adamw", "lion")  # rules whose update is also timed at one thread


def _mlp(problem: str) -> tuple[Peer, ...]:
    rows = [
        (OURS, "fallline", "step"),
        (OURS_MANY, "fallline", "many"),
        ("jax.jit", "jax", "step"),
        ("jax.jit, waits every 20", "jax", "stream"),
        ("jax lax.scan, 200 steps a call", "jax", "scan"),
        ("torch fused", "torch", "eager"),
        ("torch fused, torch.compile", "torch", "compile"),
        ("scikit-learn", "sklearn", "epoch"),
    ]
    return tuple(
        Peer(
            name,
            f"benchmarks.peers.mlp_{library}",
            (problem, mode),
            against=OURS_MANY if mode == "scan" else OURS,
        )
        for name, library, mode in rows
    )


def _update(rule: str, threads: int) -> Workload:
    user = " (written by a user)" if rule == "lion" else ""
    peers = (
        Peer(OURS, "benchmarks.peers.update_fallline", (rule,)),
        Peer("memory, in place", "benchmarks.peers.traffic", ("place", rule)),
        Peer("memory, copy", "benchmarks.peers.traffic", ("copy", rule)),
        Peer("torch", "benchmarks.peers.update_torch", (rule,)),
        Peer("optax, jax.jit", "benchmarks.peers.update_optax", (rule,)),
    )
    return Workload(
        name=f"update10m-{rule}-{threads}t",
        title=f"update of 10 million parameters, {rule}{user}, threads: {threads}",
        peers=peers,
        bounds=(Bound(1.5, "memory, in place"), Bound(1.5, "memory, copy")),
        threads=threads,
        samples=5,
        rounds=3,
        repeats=2,
        bytes_moved=traffic(rule),
        group="update10m",
    )


def _startup(what: str, title: str, at_most: float) -> Workload:
    libraries = (OURS, "torch", "jax", "sklearn")
    return Workload(
        name=f"startup-{what}",
        title=title,
        peers=tuple(Peer(lib, "benchmarks.peers.startup", (lib, what)) for lib in libraries),
        bounds=(Bound(at_most),),
        threads=2,
        rounds=3,
        repeats=1,
        group="startup",
    )


WORKLOADS = (
    Workload(
        name="mlp_small",
        title="step of MLP 64-100-10, batch 32, Adam, float32, 1 thread",
        peers=_mlp("mlp_small"),
        bounds=(Bound(0.40, "jax.jit"), Bound(0.15, "torch fused"), Bound(0.15, "scikit-learn")),
        samples=400,
    ),
    Workload(
        name="mlp_large",
        title="step of MLP 784-1000-1000-10, batch 128, Adam, float32, 2 threads",
        peers=_mlp("mlp_large"),
        bounds=(Bound(1.05, "jax.jit", "q1"), Bound(0.95, "torch fused", "q1")),
        threads=2,
        samples=40,
    ),
    *(_update(rule, threads=2) for rule in SLOTS),
    *(_update(rule, threads=1) for rule in STATED),
    _startup("import", "warm start: import", at_most=0.6),
    _startup("step", "warm start: first training step after the import", at_most=0.5),
    _startup("cold", "cold start: import and first epoch with an empty kernel store", at_most=15.0),
    Workload(
        name="compare_quick",
        title="fallline compare digits --budget quick, ten optimizers, warm",
        peers=(Peer(OURS, "benchmarks.peers.compare"),),
        bounds=(Bound(40.0),),
        threads=2,
        rounds=2,
        repeats=1,
    ),
)


def select(names: list[str]) -> list[Workload]:
    """The workloads with these names or groups, in their own order; all if there are none."""
    known = {key for w in WORKLOADS for key in (w.name, w.group) if key}
    for name in names:
        if name not in known:
            raise SystemExit(
                f"benchmarks: no workload {name!r}; there are {', '.join(sorted(known))}."
            )
    return [w for w in WORKLOADS if not names or w.name in names or w.group in names]
