"""A first sweep from nothing: a new process, no kernel cache, imports and compilation and all, beside the same in JAX.

    pip install jax optax
    python benchmarks/cold_sweep.py [--rounds N] [--out FILE]

Work: airfoil, a linear model, Adam, batch 10, 2 epochs, a learning rate of its own in each of 1,024 lanes, the loss of each
at the end. JAX's process imports neither torch nor steprule: its numbers come from a file. It runs `vmap`, the layout that
compiles faster. The losses are compared before a ratio is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

OURS = """
import sys, numpy as np, steprule
found = steprule.sweep("adam", "airfoil", {"lr": np.geomspace(1e-4, 1e-1, 1024)})
np.save(sys.argv[2], found.train[:, 0])
"""
JAX = """
import sys, numpy as np, jax, jax.numpy as jnp, optax
given = np.load(sys.argv[1])
x, y, order = (jnp.asarray(given[n]) for n in ("x", "y", "order"))
def loss(params, x, y):
    return ((x @ params[0] + params[1] - y) ** 2 / 2).mean()
def train(rate):
    optimizer = optax.adam(rate)
    params = [jnp.asarray(given["w"]), jnp.asarray(given["b"])]
    def step(carry, rows):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, x[rows], y[rows]), state)
        return (optax.apply_updates(params, updates), state), None
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), order)
    return loss(params, x, y)
rates = jnp.asarray(np.geomspace(1e-4, 1e-1, 1024), dtype=jnp.float32)
np.save(sys.argv[2], np.asarray(jax.jit(jax.vmap(train))(rates)))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="A first sweep from nothing, beside JAX.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        numbers = Path(folder) / "numbers.npz"
        np.savez(numbers, **_numbers())
        seconds: dict[str, list[float]] = {"steprule": [], "jax": []}
        for round_ in range(options.rounds):
            losses = {}
            for name, code in (("steprule", OURS), ("jax", JAX)):
                out = Path(folder) / f"{name}.npy"
                empty = {"STEPRULE_CACHE": str(Path(folder) / f"kernels-{round_}")}
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", code, str(numbers), str(out)], check=True, env=os.environ | empty)
                seconds[name].append(time.perf_counter() - began)
                losses[name] = np.load(out)
            gap = float(np.abs(losses["jax"] / losses["steprule"] - 1).max())
            if not gap < 1e-3:
                raise SystemExit(f"the losses differ by {gap:.1e}; nothing is compared")
    ratio = statistics.median(a / b for a, b in zip(seconds["steprule"], seconds["jax"], strict=True))
    for name, found in seconds.items():
        print(f"{name:9s} {statistics.median(found):5.2f} s")
    print(f"steprule takes {ratio:.2f} of JAX's time")
    if options.out:
        options.out.write_text(json.dumps({"seconds": seconds, "ratio": ratio, **_about()}, indent=1) + "\n")


def _numbers() -> dict[str, Any]:
    from steprule.problems import catalogue
    from steprule.problems.source import batches

    task = catalogue.get("airfoil")
    model = task.initial_model(0)
    order = np.stack([rows.numpy() for rows in batches(len(task.features), 10, 2, 0)])
    weights = {"w": model.weight.detach().numpy()[0], "b": model.bias.detach().numpy()[0]}
    return {"x": task.features.numpy(), "y": task.targets.numpy().reshape(-1), "order": order, **weights}


def _about() -> dict[str, Any]:
    from importlib.metadata import version

    from steprule.provenance import hardware, versions

    names = {"jax": version("jax"), "optax": version("optax")}
    return {"hardware": hardware(), "versions": versions() | names, "date": time.strftime("%Y-%m-%d")}


if __name__ == "__main__":
    main()
