"""Pictures of paths: everyone's way over the surface, and how the value fell; PNG, SVG, GIF, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from steprule.atomic import write_aside
from steprule.errors import InputError
from steprule.paths import Trace
from steprule.reports.path_svg import svg

FORMATS = (".png", ".svg", ".gif", ".json")


def save(traces: Sequence[Trace], path: Path) -> None:
    """Write a picture of `traces`, or their points, by the ending of `path`: one of `FORMATS`.

    Raises `InputError` for another ending, `OutputError` where the file cannot be written, `MissingPackageError`
    where its kind needs a package that is not installed.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        expected, hint = "a name that ends in " + ", ".join(FORMATS), "steprule trace --out x.html writes a page."
        raise InputError(f"{path}", expected=expected, got=repr(path.suffix), hint=hint)
    with write_aside(path) as aside:
        if ending == ".json":
            aside.write_text(json.dumps([t.to_dict() for t in traces], indent=1, allow_nan=False) + "\n")
        elif ending == ".svg":
            aside.write_text(svg(traces), encoding="utf-8")
        else:
            from steprule.reports import path_figure  # matplotlib, which the other formats need not load

            write = path_figure.save_gif if ending == ".gif" else path_figure.save_png
            write(traces, aside)
