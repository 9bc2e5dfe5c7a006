"""What an ablation says on the command line: a table per problem and schedule, and its words."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steprule.atomic import as_file_name
from steprule.cli import output
from steprule.cli.tables import table
from steprule.races.ablation import Ablation, Panel, in_words
from steprule.races.ablation.words import SAID, effect_in_words, seen_from


def say(found: Ablation, report: Path) -> None:
    """The tables, then the verdicts in words."""
    for panel in found.panels:
        cell = panel.cell
        own = cell.standing(found.label)
        title = f"{cell.problem}, {cell.schedule} learning rate: {cell.measure.loss} {own.loss:.4g} with all parts"
        heads = ("part", "off", "loss without it, 95 %", "verdict", "found from")
        table(title, heads, _rows(found, panel), left=(0, 1, 3))
        output.say()
    output.say(
        f"helps, hurts: really higher or lower without it, by more than {found.race.threshold}. nothing measurable: the difference is"
        " smaller than that. found from: the smallest effect that so many studies find in four of five.\n"
    )
    for paragraph in in_words(found):
        output.say(paragraph + "\n")
    kept = f", {found.race.kept:,} were there already" if found.race.kept else ""
    output.say(f"{found.trainings:,} trainings{kept}; {found.race.seconds:.1f} s.")
    output.say(f"Results: {found.race.results}\nReport:  {report}")


def _rows(found: Ablation, panel: Panel) -> list[tuple[str, ...]]:
    return [
        (part.name, part.off, effect_in_words(effect), SAID[effect.verdict], seen_from(effect))
        for part, effect in zip(found.parts, panel.effects, strict=True)
    ]


def folder_name(asked: Mapping[str, Any]) -> str:
    """The same command goes on in the same folder, and another begins one of its own."""
    digest = zlib.crc32(json.dumps(asked, sort_keys=True, default=str).encode())
    return f"ablate-{as_file_name(asked['rule'])[:40]}-{digest:08x}"
