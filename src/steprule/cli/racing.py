"""The race on the command line: run and print; the same for shards, and for their merging."""

from __future__ import annotations

import json as json_
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steprule import races
from steprule.atomic import write_text
from steprule.cli import cost, output, race_tables
from steprule.cli.competitors import Asked, arguments, folder_name, shard
from steprule.counts import counted
from steprule.errors import DataError, InputError
from steprule.per_kind import NoMatrices
from steprule.reports import race_page

SIZES = ("trials", "seeds", "fresh")
COMMAND = "command.json"
"""What was typed, beside the results: from it shards are merged."""


@dataclass(frozen=True)
class Typed:
    """A race's command line."""

    asked: Asked
    """What decides its results, by option."""
    how: Mapping[str, Any]
    """How it runs: engine, workers, address."""
    matters: float
    shard: str | None
    out: Path | None
    words: Sequence[str]
    """The command as it was typed, for the page that repeats it."""
    json: bool
    dry_run: bool
    yes: bool


@output.warnings_as_lines(races.CannotGoOn, NoMatrices)
def race(typed: Typed) -> None:
    """`steprule race …`"""
    if typed.asked.get("rules", [])[:1] == ["merge"]:
        _merge(typed)
        return
    part = shard(typed.shard)
    if part is not None and "budget" in typed.asked:
        hint = "Each shard would measure for itself. Look at --budget --dry-run once, and give every shard the sizes that it says."
        raise InputError("--budget", expected="a race that is run whole", got=f"--shard {typed.shard}", hint=hint)
    folder = typed.out or Path("runs") / folder_name(typed.asked)
    workers = typed.how["workers"]
    asked = _within(typed.asked, folder, workers)
    chosen = {n: asked[n] for n in SIZES} if "budget" in asked else {}
    sizes = f" with {' '.join(f'--{n} {v}' for n, v in chosen.items())}" if chosen else ""
    known = cost.known_first(f"race{sizes}", dry_run=typed.dry_run, yes=typed.yes, json=typed.json, sizes=chosen)
    with known as told, output.progress("race") as advance:
        given = arguments(asked)
        if typed.dry_run:  # without a folder
            told(races.estimate(**given, out=folder, workers=workers, shard=part))
        result = races.race(
            **given, matters=typed.matters, **typed.how, shard=part, out=folder, progress=advance,
            before=lambda: _keep(folder, asked), told=told,
        )  # fmt: skip
    if part is None:
        _finish(result, folder, typed)
    else:
        _say_shard(result, folder, typed)


def _say_shard(result: races.Race, folder: Path, typed: Typed) -> None:
    done = {"lanes": result.lanes, "trained": result.trained, "kept": result.kept, "seconds": result.seconds}
    if typed.json:
        output.as_json({**done, "out": str(folder)})
        return
    there = f"{counted(result.lanes, 'lane')}, {result.kept:,} were there already; {result.seconds:.1f} s."
    output.say(f"Shard {typed.shard}: {there}")
    output.say(f"When all are done: steprule race merge {folder} ... --out DIR")


def _within(asked: Asked, folder: Path, workers: int | None) -> Asked:
    """What was asked for, cut to its budget: a race that goes on keeps the sizes with which it began."""
    if "budget" not in asked:
        return asked
    seconds = cost.seconds_of(asked["budget"])
    try:
        begun = json_.loads((folder / COMMAND).read_text(encoding="utf-8"))
        if begun["budget"] == asked["budget"]:
            return {**asked, **{n: begun[n] for n in SIZES}}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none has begun here; what else the folder holds is looked at when the race begins
    return {**asked, **races.within(seconds, **arguments(asked), workers=workers)}


def _merge(typed: Typed) -> None:
    folders = [Path(p) for p in typed.asked["rules"][1:]]
    if not folders or typed.out is None:
        raise InputError("race merge", expected="the shards' folders and --out DIR", got=" ".join(typed.words))
    path = folders[0] / COMMAND
    try:
        given = arguments(json_.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        got = "none" if not path.exists() else "a file that is damaged"
        raise DataError(str(path), expected="the command of a race", got=got) from error
    _finish(races.merge(folders, typed.out, matters=typed.matters, **given), typed.out, typed)


def _finish(result: races.Race, folder: Path, typed: Typed) -> None:
    report = folder / "report.html"
    figures = race_page.write(result, report, command=["steprule", *typed.words])
    if typed.json:
        found = race_tables.as_plain(result)
        output.as_json({**found, "report": str(report), "figures": [str(f) for f in figures]})
    else:
        race_tables.say(result, report)


def _keep(folder: Path, asked: Asked) -> None:
    write_text(folder / COMMAND, json_.dumps(dict(asked), indent=1) + "\n")
