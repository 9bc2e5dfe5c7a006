"""What a race says on the command line: its tables and its words, tuned or as given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steprule import races
from steprule.cli import output
from steprule.cli.tables import table
from steprule.counts import counted
from steprule.races.cell import interval, known
from steprule.tutorial.settings import figures_of, floor_name

_INSIDE = {True: "in", False: "OUTSIDE", None: ""}


def as_plain(result: races.Race) -> dict[str, Any]:
    """A race as plain values, with the book's figures beside the settings that are its own."""
    found = result.to_dict()
    for own, setting in zip(found.get("settings", []), result.settings, strict=True):
        figures = figures_of(result, setting)
        own |= {"book": list(figures), "book_inside": [setting.holds(f) for f in figures]}
    return found


def say(result: races.Race, report: Path) -> None:
    """The tables, then the verdict in words."""
    if result.is_tuned:
        _say_cells(result)
    else:
        _say_settings(result)
    for paragraph in races.in_words(result):
        output.say(paragraph + "\n")
    kept = f", {result.kept:,} were there already" if result.kept else ""
    output.say(f"{counted(result.lanes, 'training')}{kept}; {result.seconds:.1f} s.")
    output.say(f"Results: {result.results}\nReport:  {report}")


def _say_cells(result: races.Race) -> None:
    for cell in result.cells:
        heads = ("", cell.measure.loss, "95 %", "untuned", "lr", "against lowest")
        table(f"{cell.problem}, {cell.schedule} learning rate", heads, _rows(cell), left=(0, 5))
        if names := list(cell.standings[0].metrics):
            output.say(f"\nOn the {cell.measure.of} samples, means over the winners' runs:")
            table("", ("", *names), [(s.label, *map(_number, s.metrics.values())) for s in cell.standings])
        output.say()
    of = "" if all(cell.scale.ratios for cell in result.cells) else ", of the loss or of its fall"
    output.say(f"open: cannot be told apart. same: differs by less than {result.threshold}{of}. real: by more.\n")


def _say_settings(result: races.Race) -> None:
    for (problem, schedule), settings in result.tables.items():
        figures = [figures_of(result, s) for s in settings]
        rows: list[Sequence[str]] = []
        for setting, own in zip(settings, figures, strict=True):
            gone = f" ({setting.diverged} of {setting.seeds} diverged)" if setting.diverged else ""
            row = [setting.label + gone, setting.spread, setting.middle, f"{setting.seconds:.3f}"]
            if any(figures):
                row.append("\n".join(f"{f:.6f} {_INSIDE[setting.holds(f)]}".strip() for f in own) or "-")
            rows.append(row)
        heads = ["", "mean ± sd", "95 % of seeds", "s a run", *(["book's figure"] if any(figures) else [])]
        seeds = counted(settings[0].seeds, "seed")
        where = problem if schedule == "constant" else f"{problem}, {schedule} learning rate"
        left = (0, len(heads) - 1) if any(figures) else (0,)
        table(f"{where}: final training loss over {seeds}", heads, rows, left=left)
        for setting in settings if settings[0].metrics else []:
            scores = ", ".join(f"{n} {_number(v)}" for n, v in setting.metrics.items())
            output.say(f"{setting.label}: {scores}")
        task = result.spec.problem(problem)
        output.say(f"\nThe {floor_name(task)}: {task.floor:.8g}." if task.floor is not None else "")


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _rows(cell: races.Cell) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    best = cell.standings[0].label
    for s in cell.standings:
        word = "lowest" if s.label == best else _against(cell, best, s.label)
        gone = "some diverged" if s.diverged else ""
        if s.diverged >= 0.005:
            gone = f"{s.diverged:.0%} diverged"
        rows.append(
            (
                s.label,
                f"{s.loss:.4g}",
                interval(s.low, s.high),
                known(s.default, ".4g"),
                known(s.lr, ".3g"),
                "; ".join(filter(None, (word if s.learnt else "learnt nothing", gone))),
            )
        )
    return rows


def _against(cell: races.Cell, best: str, label: str) -> str:
    pair = cell.pair(best, label)
    if (verdict := pair.verdict()) == "real":
        return f"{pair.percent[0]:+.1f} %{cell.scale.of} real"
    return verdict
