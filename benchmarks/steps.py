"""Whole steps of Adam and others: alone (a block of steps of one form, then of the next) and in turn (one step of each form).

    python benchmarks/steps.py [--out benchmarks/results/steps.json] [--threads 2 1]
    python benchmarks/steps.py --table benchmarks/results/steps.json [--picture docs/images/steps.png]

Every row names its form, its threads and microseconds; ratios are the other form's over ours, medians over rounds. Warm-up and
compilation come before. The look by Python (`STEPRULE_SCAN=python`) is printed beside, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from steprule import optim
from steprule.benching.steps import machine
from steprule.optim.scan import refusal

MANY = "300 x 1,000"
WORK: dict[str, tuple[str, list[tuple[int, ...]], int, int]] = {
    MANY: ("Adam", [(1000,)] * 300, 15, 40),
    "300 x 1,000, fresh gradients": ("Adam", [(1000,)] * 300, 15, 20),
    "2 tensors, 6 elements": ("Adam", [(1, 5), (1,)], 15, 1000),
    "48 x (768 x 768 + 768), RMSprop": ("RMSprop", [(768, 768), (768,)] * 48, 5, 3),
    "48 x (768 x 768 + 768), Adamax": ("Adamax", [(768, 768), (768,)] * 48, 5, 3),
    "1 x 32M, Adagrad": ("Adagrad", [(32 * 2**20,)], 5, 2),
    "20,000 x 8": ("Adam", [(8,)] * 20_000, 5, 3),
    "1,000 groups of one": ("Adam", [(8,)] * 1000, 5, 5),
}
"""Class, shapes, rounds, steps in a block."""


def sides(name: str, shapes: list[tuple[int, ...]], label: str) -> dict[str, Callable[[], float]]:
    """A function for each form that takes one step and gives its seconds."""
    forms: dict[str, tuple[Any, dict[str, Any]]] = {
        "steprule": (getattr(optim, name), {}),
        "default": (getattr(torch.optim, name), {}),
        "foreach": (getattr(torch.optim, name), {"foreach": True}),
    }
    if name in ("Adam", "AdamW", "SGD", "Adagrad"):
        forms["fused"] = (getattr(torch.optim, name), {"fused": True})
    found = {}
    for form, (kind, flags) in forms.items():
        generator = torch.Generator().manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
        groups = [{"params": [p]} for p in params] if "groups" in label else params
        optimizer = kind(groups, **flags)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator) * 0.01
        found[form] = _stepper(optimizer, params, fresh="fresh" in label)
    return found


def _stepper(optimizer: Any, params: list[torch.nn.Parameter], *, fresh: bool) -> Callable[[], float]:
    def step() -> float:
        if fresh:
            for p in params:
                g = p.grad.clone()  # type: ignore[union-attr]
                p.grad = None
                p.grad = g
                del g
        began = time.perf_counter()
        optimizer.step()
        return time.perf_counter() - began

    return step


def measure(label: str) -> dict[str, Any]:
    """One row: microseconds alone and in turn, by form, and the ratios."""
    name, shapes, rounds, block = WORK[label]
    steps = sides(name, shapes, label)
    for step in steps.values():
        for _ in range(3):
            step()
    alone: dict[str, list[float]] = {form: [] for form in steps}
    turn: dict[str, list[float]] = {form: [] for form in steps}
    for _ in range(rounds):
        for form, step in steps.items():
            step()
            alone[form].append(statistics.median(step() for _ in range(block)))
    for _ in range(rounds * 3):
        for form, step in steps.items():
            turn[form].append(step())
    row: dict[str, Any] = {"work": label, "class": name, "threads": torch.get_num_threads()}
    for how, times in (("alone", alone), ("in turn", turn)):
        ours = times["steprule"]
        row[f"{how}, us"] = {form: round(statistics.median(t) * 1e6, 1) for form, t in times.items()}
        row[f"{how}, x"] = {
            form: round(statistics.median(b / a for a, b in zip(ours, t, strict=True)), 2)
            for form, t in times.items()
            if form != "steprule"
        }
    return row


def table(found: dict[str, Any]) -> str:
    """The rows in Markdown: of each form of torch's its time over ours, alone / in turn, and its microseconds alone."""
    forms = ("default", "foreach", "fused")
    lines = [f"| work | threads | steprule, µs | {' | '.join(forms)} |", "|---|---|---|---|---|---|"]
    for row in found["rows"]:
        work = row["work"] if row["class"] in row["work"] else f"{row['work']}, {row['class']}"
        work += ", every look by Python" if row["look"] == "Python" else ""
        alone, turn = row["alone, us"], row["in turn, us"]
        cells = [work, str(row["threads"]), f"{alone['steprule']:,.0f} / {turn['steprule']:,.0f}"]
        for form in forms:
            ratios = f"{row['alone, x'][form]:.2f}x / {row['in turn, x'][form]:.2f}x" if form in alone else ""
            cells.append(f"{ratios} ({alone[form]:,.0f} µs)" if ratios else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


SAID = {
    "300 x 1,000": "300 tensors of 1,000 numbers",
    "300 x 1,000, fresh gradients": "the same, gradients made anew",
    "2 tensors, 6 elements": "2 tensors, 6 numbers in all",
    "48 x (768 x 768 + 768), RMSprop": "48 layers of 768 x 768, RMSprop",
    "48 x (768 x 768 + 768), Adamax": "48 layers of 768 x 768, Adamax",
    "1 x 32M, Adagrad": "1 tensor of 32 million, Adagrad",
    "20,000 x 8": "20,000 tensors of 8 numbers",
    "1,000 groups of one": "1,000 groups of one tensor",
}
"""The works in a reader's words; Adam where no class is named."""
FORMS = {"fused": ("#009E73", "s"), "foreach": ("#0072B2", "^"), "default": ("#56B4E9", "o")}
"""Okabe and Ito's colours, and markers that differ without colour."""


def picture(found: dict[str, Any], out: Path) -> None:
    """PyTorch's time over ours, for each work a line from in turn to alone; with the most threads that were measured."""
    threads = max(row["threads"] for row in found["rows"])
    rows = [r for r in found["rows"] if r["threads"] == threads and r["look"] == "records"]
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for y, row in enumerate(rows):
        for k, form in enumerate(FORMS):
            colour, marker = FORMS[form]
            if form in row["alone, x"]:
                ends = sorted((row["in turn, x"][form], row["alone, x"][form]))
                label = f"PyTorch's {form} form" if y == 0 else None
                axes.plot(ends, [y + 0.2 * (k - 1)] * 2, color=colour, marker=marker, ms=6, lw=2, label=label)
    axes.axvline(1, color="black", lw=1)
    axes.set_xscale("log")
    ticks = (1, 2, 5, 10, 20, 50)
    axes.set_xticks(ticks, [f"{t}x" for t in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [SAID[r["work"]] for r in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("PyTorch's time of a step over steprule's\n(right of 1x steprule is faster)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(out, dpi=150, metadata={"Software": None})


def by_python(label: str, threads: int) -> dict[str, Any]:
    """The same row with every look taken by Python, in a process of its own."""
    command = [sys.executable, __file__, "--inner", "--threads", str(threads), "--only", label]
    done = subprocess.run(
        command, env={**os.environ, "STEPRULE_SCAN": "python"}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    """Print the rows, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, nargs="*", default=[torch.get_num_threads()])
    parser.add_argument("--only", nargs="*", default=list(WORK))
    parser.add_argument("--table", type=Path, help="print a file's rows as a table, measure nothing")
    parser.add_argument("--picture", type=Path, help="with --table: draw the rows as a PNG too")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.table:
        found = json.loads(args.table.read_text(encoding="utf-8"))
        print(table(found))
        if args.picture:
            picture(found, args.picture)
        return
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for label in args.only:
            rows.append({**measure(label), "look": "records" if refusal() is None else "Python"})
            print(json.dumps(rows[-1]), flush=True)
        if not args.inner and refusal() is None and MANY in args.only:
            rows.append(by_python(MANY, threads))
            print(json.dumps(rows[-1]), flush=True)
    if args.out:
        own = machine("cpu")
        # Without the threads: each row says its own.
        named = ", ".join(part for part in own["hardware"].split(", ") if "threads" not in part)
        found = {"machine": {**own, "hardware": named}, "rows": rows}
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
