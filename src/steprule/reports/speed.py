"""The figure of a bench: the time of a step per class, workload and form, beside the limit of memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steprule import extras
from steprule.atomic import write_aside, write_text

with extras.needed():
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's colours, and markers that differ without colour.
FORMS = {
    "steprule": ("#D55E00", "D", "steprule"),
    "for-loop": ("#56B4E9", "o", "torch, for-loop"),
    "foreach": ("#0072B2", "^", "torch, foreach"),
    "fused": ("#009E73", "s", "torch, fused"),
    "torch.compile": ("#CC79A7", "P", "torch.compile of torch's step"),
    "function": ("#0072B2", "X", "the rule's own function on tensors"),
    "in a row": ("#0072B2", "v", "torch, one function after the other"),
    "in a row, grads to None": ("#56B4E9", "<", "torch, in a row, gradients set to None"),
}


def save(found: dict[str, Any], folder: Path) -> None:
    """Write bench.json, bench.svg and bench.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "bench.json", json.dumps(found, indent=1) + "\n")
    figure = draw(found)
    with mpl.rc_context({"svg.hashsalt": "steprule"}):
        for ending, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            with write_aside(folder / f"bench{ending}") as aside:
                figure.savefig(aside, dpi=150, metadata=metadata)


def draw(found: dict[str, Any]) -> Figure:
    """One panel per workload, one row per class, one mark per form, on a logarithmic axis of milliseconds."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for row in found["steps"]:
        panels.setdefault(row["workload"], []).append(row)
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    most = max(len(rows) for rows in panels.values())
    figure = Figure(figsize=(5.6 * columns, lines * (1.3 + 0.27 * most) + 0.9), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    used: set[str] = set()
    for axes, (workload, rows) in zip(grid.flat, panels.items(), strict=False):
        used |= _draw_workload(axes, workload, rows)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    handles = [
        Line2D([], [], color=colour, marker=marker, ls="", label=label)
        for form, (colour, marker, label) in FORMS.items()
        if form in used
    ]
    if any(r["share_of_bandwidth"] is not None for r in found["steps"]):
        handles.append(Line2D([], [], color="black", marker="|", ls="", ms=10, label="only moving the same bytes"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    machine = found["machine"]
    where = machine.get("device", machine["hardware"])
    figure.suptitle(f"Whole optimizer steps, float32. {where}; torch {machine['torch']}; {machine['date']}", fontsize=9)
    return figure


def _draw_workload(axes: Any, workload: str, rows: list[dict[str, Any]]) -> set[str]:
    """One panel; gives the forms that are in it."""
    used = set()
    for height, row in enumerate(reversed(rows)):
        times = {form: us / 1e3 for form, us in row["microseconds"].items()}
        axes.plot([min(times.values()), max(times.values())], [height] * 2, color="#CCCCCC", lw=1, zorder=1)
        for form, ms in times.items():
            colour, marker, _ = FORMS[form]
            used.add(form)
            size = 58 if form == "steprule" else 34
            axes.scatter([ms], [height], s=size, color=colour, marker=marker, zorder=3 if form == "steprule" else 2)
        if row["share_of_bandwidth"] is not None:
            limit = times["steprule"] * row["share_of_bandwidth"]
            axes.plot([limit] * 2, [height - 0.36, height + 0.36], color="black", lw=1.4, zorder=2)
    axes.set_yticks(range(len(rows)), [_label(r["optimizer"]) for r in reversed(rows)], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", which="both", color="#EEEEEE", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_title(workload, fontsize=10, loc="left")
    axes.set_xlabel("ms per step, lower is better", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return used


def _label(optimizer: str) -> str:
    return optimizer.replace(" + clip", "\n+ clip").replace(" + EMA", "\n+ EMA")
