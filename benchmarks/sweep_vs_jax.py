"""Thousands of trainings at once, beside JAX in the faster of two layouts, on the same numbers, in turn.

    pip install jax optax
    python benchmarks/sweep_vs_jax.py [--out benchmarks/results/sweep-vs-jax.json]

Work: Adam with a learning rate of its own in every lane; the tutorial's airfoil data, the same initial weights and batches.
`linear`: 5-1, batch 10, 2 epochs (300 steps). `mlp`: 5-64-1 tanh, batch 50, 5 epochs (150 steps). Both sides end with the
loss on all 1,500 samples, and no ratio is printed unless the losses agree. JAX: `vmap`, a model's parameters as in optax,
jit of one scan over all steps; and `lanes last`, the same by hand with the lane as the last axis. Compilation is timed
apart, steady time is the median of rounds in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

from steprule.benching import machine
from steprule.lanes.records import Trainings
from steprule.lanes.train import train_lanes
from steprule.problems import catalogue as problems
from steprule.problems.problem import Problem
from steprule.problems.source import batches
from steprule.rules import adam
from steprule.rules.parts import composed
from steprule.training.recipe import Recipe

AIRFOIL = problems.get("airfoil")
MODELS: dict[str, tuple[Callable[[], nn.Module], int, int, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 1), 10, 2, (256, 1_024, 16_384, 65_536)),
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 1)), 50, 5, (64, 1_024)),
}
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def task_of(kind: str) -> Problem:
    """The tutorial's data with one of the models."""
    make = MODELS[kind][0]
    return Problem(kind, "", AIRFOIL.features, AIRFOIL.targets, make, AIRFOIL.loss)


def forward(kind: str, params: Any, x: Any, *, last: bool) -> Any:
    """The model in JAX: parameters as torch has them, with the lane behind them if `last`."""
    if kind == "linear":
        w, b = params
        return jnp.einsum("bi,il->bl", x, w[0]) + b if last else x @ w[0] + b[0]
    w1, b1, w2, b2 = params
    if last:
        h = jnp.tanh(jnp.einsum("bi,oil->bol", x, w1) + b1)
        return jnp.einsum("bol,ol->bl", h, w2[0]) + b2
    return jnp.tanh(x @ w1.T + b1) @ w2[0] + b2[0]


def jax_side(kind: str, layout: str, lanes: int) -> Callable[[], Any]:
    """A function that trains every lane and gives their losses."""
    task = task_of(kind)
    _, size, epochs, _ = MODELS[kind]
    start = [p.detach().numpy() for p in task.initial_model(0).parameters()]
    order = np.stack([rows.numpy() for rows in batches(len(task.features), size, epochs, 0)])
    x, y = jnp.asarray(task.features.numpy()), jnp.asarray(task.targets.numpy())
    rates = jnp.asarray(rates_of(lanes), dtype=jnp.float32)
    last = layout == "lanes last"

    if last:

        def total(params: Any, rows: Any) -> Any:
            gap = forward(kind, params, x[rows], last=True) - y[rows][:, None]
            return (gap**2 / 2).mean(0).sum()

        def step(carry: Any, item: Any) -> Any:
            params, m, v, t = carry
            g = jax.grad(total)(params, item)
            t = t + 1
            m = jax.tree.map(lambda a, b: BETA1 * a + (1 - BETA1) * b, m, g)
            v = jax.tree.map(lambda a, b: BETA2 * a + (1 - BETA2) * b * b, v, g)
            c1, c2 = 1 - BETA1**t, 1 - BETA2**t
            params = jax.tree.map(lambda p, a, b: p - rates * (a / c1) / (jnp.sqrt(b / c2) + EPS), params, m, v)
            return (params, m, v, t), None

        @jax.jit
        def run() -> Any:
            params = [jnp.repeat(jnp.asarray(s)[..., None], lanes, -1) for s in start]
            zeros = [jnp.zeros_like(p) for p in params]
            (params, *_), _ = jax.lax.scan(step, (params, zeros, zeros, jnp.float32(0)), jnp.asarray(order))
            return ((forward(kind, params, x, last=True) - y[:, None]) ** 2 / 2).mean(0)

        return lambda: run().block_until_ready()

    def loss(params: Any, rows: Any) -> Any:
        return ((forward(kind, params, x[rows], last=False) - y[rows]) ** 2 / 2).mean()

    def train(rate: Any) -> Any:
        optimizer = optax.adam(rate, b1=BETA1, b2=BETA2, eps=EPS)
        params = [jnp.asarray(s) for s in start]

        def step(carry: Any, rows: Any) -> Any:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params, rows), state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.asarray(order))
        return ((forward(kind, params, x, last=False) - y) ** 2 / 2).mean()

    run_all = jax.jit(jax.vmap(train))
    return lambda: run_all(rates).block_until_ready()


def our_side(kind: str, lanes: int) -> Callable[[], Any]:
    """The same by steprule."""
    task, rule = task_of(kind), composed(adam)
    _, size, epochs, _ = MODELS[kind]
    hypers = {h.name: np.full(lanes, h.default) for h in rule.hypers}
    hypers |= {"lr": rates_of(lanes), "eps": np.full(lanes, EPS)}
    full, recipe = Trainings(hypers, np.zeros(lanes, dtype=np.int64)), Recipe(epochs, size)

    def run() -> Any:
        parts = [full.take(slice(low, low + 16_384)) for low in range(0, lanes, 16_384)]
        return np.concatenate([train_lanes(task, rule, part, recipe).train for part in parts])

    return run


def rates_of(lanes: int) -> np.ndarray:
    """Learning rates from 1e-4 to 1e-1."""
    return np.geomspace(1e-4, 1e-1, lanes)


def measure(kind: str, lanes: int, rounds: int) -> dict[str, Any]:
    """Steady and first-call seconds of each side."""
    sides = {
        "steprule": our_side(kind, lanes),
        "jax vmap": jax_side(kind, "vmap", lanes),
        "jax lanes last": jax_side(kind, "lanes last", lanes),
    }
    first, losses = {}, {}
    for name, run in sides.items():
        began = time.perf_counter()
        losses[name] = np.asarray(run())
        first[name] = time.perf_counter() - began
    gap = max(float(np.abs(losses[n] / losses["steprule"] - 1).max()) for n in sides)
    if not gap < 1e-3:
        raise SystemExit(f"{kind}, {lanes} lanes: the losses differ by {gap:.1e}; nothing is compared")
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    best = [min(a, b) for a, b in zip(times["jax vmap"], times["jax lanes last"], strict=True)]
    return {
        "work": kind,
        "lanes": lanes,
        "lanes_per_second": {name: lanes / statistics.median(t) for name, t in times.items()},
        "first_call_seconds": first,
        "over_best_jax": statistics.median(b / a for a, b in zip(times["steprule"], best, strict=True)),
        "largest_gap_of_losses": gap,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Sweeps beside JAX.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(MODELS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(2)
    found = []
    print(f"{'work':7} {'lanes':>7} {'steprule':>10} {'jax vmap':>10} {'jax last':>10} {'over best jax':>14}   lanes/s")
    for kind, (_, _, _, sizes) in MODELS.items():
        for lanes in sizes if args.only in (None, kind) else ():
            row = measure(kind, lanes, args.rounds)
            found.append(row)
            pace = row["lanes_per_second"]
            shown = " ".join(f"{pace[n]:10,.0f}" for n in ("steprule", "jax vmap", "jax lanes last"))
            print(f"{kind:7} {lanes:7,} {shown} {row['over_best_jax']:13.2f}x")
    if args.out:
        versions = {"jax": jax.__version__, "optax": optax.__version__}
        args.out.write_text(json.dumps({"machine": machine() | versions, "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
