"""`steprule problems` and `steprule surfaces` list the names for --on and --surface."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from steprule.cli.arguments import JsonOption

if TYPE_CHECKING:
    from steprule.surfaces.surface import Point


def problems(json: JsonOption = False) -> None:
    """List the problems to train, with their data and usual training.

    Every surface is a problem too: steprule surfaces. Your own is file.py:name.
    """
    from steprule.cli import output
    from steprule.cli.tables import table
    from steprule.problems.names import EMBEDDED, USUAL

    heads = ("problem", "train", "validation", "test", "batch", "epochs", "what it is")
    records, rows = [], []
    for name, summary in EMBEDDED.items():
        usual = USUAL[name]
        records.append({"name": name, "summary": summary, **asdict(usual)})
        parts = [str(usual.samples.get(part, "-")) for part in ("train", "validation", "test")]
        rows.append([name, *parts, str(usual.batch_size), str(usual.epochs), summary])
    if json:
        output.as_json(records)
        return
    table("", heads, rows, left=(0, 6))
    output.say("\ntrain, validation, test: numbers of samples; -: nothing is held out.")
    output.say("Every surface is a problem too (steprule surfaces). Your own is file.py:name.")


def surfaces(json: JsonOption = False) -> None:
    """List the surfaces: formula, start, minima.

    A formula in x and y is a surface too: --surface "x^2/10 + 2*y^2".
    """
    from steprule.cli import output
    from steprule.cli.tables import table
    from steprule.surfaces.catalogue import SURFACES

    records, rows = [], []
    for s in SURFACES.values():
        records.append(
            {
                "name": s.name, "formula": s.formula, "start": s.start, "minima": s.minima, "minimum": s.minimum,
                "window": s.window, "noise": s.noise,
            }
        )  # fmt: skip
        rows.append((s.name, s.formula, _points([s.start]), _points(s.minima), f"{s.noise:g}" if s.noise else "-"))
    if json:
        output.as_json(records)
        return
    table("", ("surface", "formula", "start", "minima", "noise"), rows, left=(0, 1, 2, 3))
    output.say("\nnoise: standard deviation of the noise on the gradient.")
    output.say('A formula in x and y is a surface too: --surface "x^2/10 + 2*y^2".')


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"({x:.4g},{y:.4g})" for x, y in points)
