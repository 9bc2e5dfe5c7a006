"""The race on the command line: run and print; the same for shards, and for their merging."""

from __future__ import annotations

import json as json_
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steprule import races
from steprule.atomic import write_text
from steprule.cli import cited, cost, output, race_tables
from steprule.cli.competitors import Asked, arguments, folder_name, shard
from steprule.counts import counted
from steprule.errors import DataError, InputError
from steprule.per_kind import NoMatrices
from steprule.races.citing.citable import check_ending
from steprule.reports import race_page
from steprule.sizes import MATTERS

SIZES = ("trials", "seeds", "fresh")
COMMAND = "command.json"
"""What was typed, beside the results: from it shards are merged."""
PARTS = 4
"""Into how many parts a budget is cut, of which a race until decided has one for its first stage."""


@dataclass(frozen=True)
class Typed:
    """A race's command line."""

    asked: Asked
    """What decides its results, by option."""
    how: Mapping[str, Any]
    """How it runs: engine, workers, address."""
    matters: float | None
    shard: str | None
    out: Path | None
    words: Sequence[str]
    """The command as it was typed, for the page that repeats it."""
    json: bool
    dry_run: bool
    yes: bool
    form: str = ""
    """In which the result is printed; "" for tables and words."""

    @property
    def share(self) -> float:
        """The smallest difference that matters."""
        return MATTERS if self.matters is None else self.matters


@output.warnings_as_lines(races.CannotGoOn, NoMatrices)
def race(typed: Typed) -> None:
    """`steprule race …`"""
    if typed.asked.get("rules", [])[:1] == ["merge"]:
        _merge(typed)
        return
    if typed.asked.get("rules", [])[:1] == ["cite"]:
        _cite(typed)
        return
    part = shard(typed.shard)
    if part is not None and "budget" in typed.asked:
        hint = "Each shard would measure for itself. Look at --budget --dry-run once, and give every shard the sizes that it says."
        raise InputError("--budget", expected="a race that is run whole", got=f"--shard {typed.shard}", hint=hint)
    if part is not None and typed.form:
        hint = "Merge all shards first."
        raise InputError("--as", expected="a race that is run whole", got=f"--shard {typed.shard}", hint=hint)
    folder = typed.out or Path("runs") / folder_name(typed.asked)
    workers = typed.how["workers"]
    asked = _within(typed.asked, folder, workers)
    chosen = {n: asked[n] for n in SIZES if n in asked} if "budget" in asked else {}
    time: dict[str, Any] = (
        {"budget": cost.seconds_of(asked["budget"])} if "budget" in asked and "until" in asked else {}
    )
    sizes = f" with {' '.join(f'--{n} {v}' for n, v in chosen.items())}" if chosen else ""
    known = cost.known_first(f"race{sizes}", dry_run=typed.dry_run, yes=typed.yes, json=typed.json, sizes=chosen)
    with known as told, output.progress("race") as advance:
        given = arguments(asked)
        if typed.dry_run:  # without a folder
            told(races.estimate(**given, out=folder, matters=typed.share, workers=workers, shard=part))
        result = races.race(
            **given, **time, matters=typed.share, **typed.how, shard=part, out=folder, progress=advance,
            before=lambda: _keep(folder, asked, typed.share), told=told,
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
    """What was asked for, cut to its budget: a race that goes on keeps the sizes with which it began.

    Of a race until decided the first stage is cut, to a part of the budget, so that others can follow; with more time it goes on later.
    """
    own = "until" in asked
    typed = {n: asked.get(n) for n in SIZES}
    begun = _begun(folder)
    if own and begun.get("typed") == typed:
        return {**asked, "typed": typed, **{n: begun[n] for n in SIZES if n in begun}}
    if own:
        asked = {**asked, "typed": typed}
    if "budget" not in asked:
        return asked
    if begun.get("budget") == asked["budget"] and not own:
        return {**asked, **{n: begun[n] for n in SIZES}}
    seconds, given = cost.seconds_of(asked["budget"]), arguments(asked)
    if own:
        with suppress(InputError):  # where not even the smallest takes so little, it has all of the time
            return {**asked, **races.within(seconds / PARTS, **given, workers=workers)}
    return {**asked, **races.within(seconds, **given, workers=workers)}


def _begun(folder: Path) -> dict[str, Any]:
    """What was typed for the race in a folder; {} where none has begun there, or what began there had no sizes."""
    try:
        found = json_.loads((folder / COMMAND).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # what else the folder holds is looked at when the race begins
    if not isinstance(found, dict) or ("budget" in found and not all(n in found for n in SIZES)):
        return {}
    return found


def _merge(typed: Typed) -> None:
    folders = [Path(p) for p in typed.asked["rules"][1:]]
    if not folders or typed.out is None:
        raise InputError("race merge", expected="the shards' folders and --out DIR", got=" ".join(typed.words))
    kept = _kept(folders[0])
    matters = _share(kept, typed)
    result = races.merge(folders, typed.out, matters=matters, **arguments(kept))
    _keep(typed.out, kept, matters)
    _finish(result, typed.out, typed)


def _cite(typed: Typed) -> None:
    """`steprule race cite DIR`: a finished race in one form, printed or as a file; nothing is trained."""
    folders = [Path(p) for p in typed.asked["rules"][1:]]
    if len(folders) != 1:
        raise InputError("race cite", expected="the folder of one race", got=" ".join(typed.words))
    if typed.out is not None:
        check_ending(typed.out)
    kept = _kept(folders[0])
    result = races.finished(folders[0], matters=_share(kept, typed), **arguments(kept))
    if typed.out is not None:
        result.save(typed.out)
    if typed.json:
        output.as_json(race_tables.as_plain(result))
    elif typed.form or typed.out is None:
        cited.say(result, typed.form or "markdown")
    else:
        output.say(f"Written: {typed.out}")


def _share(kept: Mapping[str, Any], typed: Typed) -> float:
    """What matters: as typed now, else as for the race in a folder."""
    return float(kept.get("matters", MATTERS) if typed.matters is None else typed.matters)


def _kept(folder: Path) -> dict[str, Any]:
    """What was typed for the race in a folder. Raises `DataError` where that is not known."""
    path = folder / COMMAND
    try:
        found = json_.loads(path.read_text(encoding="utf-8"))
        found["trials"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        got = "none" if not path.exists() else "a file that is damaged"
        hint = "A race from Python is cited there: Race.save, Race.latex." if got == "none" else ""
        raise DataError(str(path), expected="the command of a race", got=got, hint=hint) from error
    return dict(found)


def _finish(result: races.Race, folder: Path, typed: Typed) -> None:
    report = folder / "report.html"
    figures = race_page.write(result, report, command=["steprule", *typed.words])
    if typed.json:
        found = race_tables.as_plain(result)
        output.as_json({**found, "report": str(report), "figures": [str(f) for f in figures]})
    elif typed.form:
        cited.say(result, typed.form)
    else:
        race_tables.say(result, report)


def _keep(folder: Path, asked: Asked, matters: float) -> None:
    write_text(folder / COMMAND, json_.dumps({**asked, "matters": matters}, indent=1) + "\n")
