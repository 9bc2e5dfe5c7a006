"""What `diagnostics=True` costs: whole steps with and without, in turn.

    python benchmarks/diagnostics.py [--threads 2 1] [--rounds 41] [--out benchmarks/results/diagnostics.json]

Each work has two optimizers of one class on tensors of their own, in float32, and takes one step of each in turn; which goes first
changes from round to round. *Read* asks for the numbers of all tensors together behind each step. Times are medians over rounds, ratios the
medians of the rounds' ratios, with their quartiles. It fails where a parameter differs by a bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steprule import optim
from steprule.benching import machine

WORKS: dict[str, tuple[str, list[tuple[int, ...]], int]] = {
    "48 x (768 x 768), Adam": ("Adam", [(768, 768)] * 48, 1),
    "48 x (768 x 768), SGD with momentum": ("SGD", [(768, 768)] * 48, 1),
    "48 x (768 x 768), Lion": ("Lion", [(768, 768)] * 48, 1),
    "300 x 1,000, Adam": ("Adam", [(1000,)] * 300, 20),
    "2 tensors, 6 elements, Adam": ("Adam", [(2,), (4,)], 40),
}
"""By name the class, the shapes, and how many rounds take the place of one: steps are short."""
SETTINGS = {"SGD": {"momentum": 0.9}}
WARM = 4


def optimizer(name: str, shapes: list[tuple[int, ...]], *, diagnostics: bool) -> tuple[Any, list[torch.nn.Parameter]]:
    """An optimizer on parameters of its own, with a gradient each; the same numbers at each call."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)
    made = getattr(optim, name)(params, lr=1e-3, diagnostics=diagnostics, **SETTINGS.get(name, {}))
    return made, params


def seconds(step: Any) -> float:
    """Of one call."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def measured(work: str, rounds: int) -> dict[str, Any]:
    """The times of one work. Raises `SystemExit` where a parameter comes out otherwise."""
    name, shapes, times = WORKS[work]
    (plain, own), (diagnosed, others) = (optimizer(name, shapes, diagnostics=on) for on in (False, True))
    found: dict[str, list[float]] = {"without": [], "with": [], "read": []}
    for k in range(rounds * times + WARM):
        steps = [("without", plain.step), ("with", diagnosed.step)]
        for which, step in steps if k % 2 else steps[::-1]:
            found[which].append(seconds(step))
        found["read"].append(seconds(diagnosed.diagnostics))
    if not all(torch.equal(p, q) for p, q in zip(own, others, strict=True)):
        raise SystemExit(f"{work}: a parameter differs")
    kept = {which: np.array(t[WARM:]) for which, t in found.items()}
    ratios = kept["with"] / kept["without"]
    return {
        "work": work,
        "threads": torch.get_num_threads(),
        "microseconds": {which: statistics.median(t) * 1e6 for which, t in kept.items()},
        "ratio": float(np.median(ratios)),
        "quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
    }


def main() -> None:
    """Print a table, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        for work in WORKS:
            rows.append(measured(work, given.rounds))
            own, times = rows[-1], rows[-1]["microseconds"]
            low, high = own["quartiles"]
            print(
                f"{work:38} {threads} threads: {times['without']:9,.0f} us, with {times['with']:9,.0f} us, "
                f"{own['ratio']:.3f} ({low:.3f} to {high:.3f}), read {times['read']:7,.0f} us",
                flush=True,
            )
    if given.out:
        given.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
