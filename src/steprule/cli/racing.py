"""The race on the command line: read what is typed, run, print; the same for shards, for their merging, and as given."""

from __future__ import annotations

import json as json_
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steprule import races
from steprule.atomic import write_aside
from steprule.cli import cost, options, output
from steprule.cli.tables import table
from steprule.errors import DataError, InputError
from steprule.hyper import Search
from steprule.races import as_given
from steprule.races.results import interval
from steprule.races.spec import usual_space
from steprule.reports import html, race_page
from steprule.rules.load import load_object
from steprule.trainable import Trainable

SIZES = ("trials", "seeds", "fresh")
COMMAND = "command.json"
"""What was typed, beside the results: from it shards are merged."""
Asked = Mapping[str, Any]


@output.warnings_as_lines(races.CannotGoOn)
def race(
    asked: Asked, matters: float, how: Mapping[str, Any], shard: str | None, out: Path | None, typed: Sequence[str], *,
    json: bool, dry_run: bool, yes: bool,
) -> None:  # fmt: skip
    """`steprule race …`"""
    if asked.get("rules", [])[:1] == ["merge"]:
        _merge([Path(p) for p in asked["rules"][1:]], out, matters, typed, json=json)
        return
    if asked["trials"] == 0:
        _as_given(asked, out, typed, json=json, dry_run=dry_run, yes=yes)
        return
    part = _shard(shard)
    if part is not None and "budget" in asked:
        hint = "Each shard would measure for itself. Look at --budget --dry-run once, and give every shard the sizes that it says."
        raise InputError("--budget", expected="a race that is run whole", got=f"--shard {shard}", hint=hint)
    folder = out or Path("runs") / _folder_name(asked)
    asked = _within(asked, folder, how["workers"])
    sizes = f" with {' '.join(f'--{n} {asked[n]}' for n in SIZES)}" if "budget" in asked else ""
    chosen = {n: asked[n] for n in SIZES} if "budget" in asked else {}
    known = cost.known_first(f"race{sizes}", dry_run=dry_run, yes=yes, json=json, sizes=chosen)
    with known as told, output.progress("race") as advance:
        if dry_run:  # without a folder
            told(races.estimate(**_arguments(asked), out=folder, workers=how["workers"], shard=part))
        result = races.race(
            **_arguments(asked), matters=matters, **how, shard=part, out=folder,
            progress=advance, before=lambda: _keep(folder, asked), told=told,
        )  # fmt: skip
    if part is not None:
        done = {"lanes": result.lanes, "trained": result.trained, "kept": result.kept, "seconds": result.seconds}
        if json:
            output.as_json({**done, "out": str(folder)})
            return
        output.say(
            f"Shard {shard}: {result.lanes:,} lanes, {result.kept:,} were there already; {result.seconds:.1f} s."
        )
        output.say(f"When all are done: steprule race merge {folder} ... --out DIR")
        return
    _finish(result, folder, typed, json=json)


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
    return {**asked, **races.within(seconds, **_arguments(asked), workers=workers)}


def _merge(folders: Sequence[Path], out: Path | None, matters: float, typed: Sequence[str], *, json: bool) -> None:
    if not folders or out is None:
        raise InputError("race merge", expected="the shards' folders and --out DIR", got=" ".join(typed))
    path = folders[0] / COMMAND
    try:
        asked = json_.loads(path.read_text(encoding="utf-8"))
        arguments = _arguments(asked)
    except (OSError, ValueError, KeyError, TypeError) as error:
        got = "none" if not path.exists() else "a file that is damaged"
        raise DataError(str(path), expected="the command of a race", got=got) from error
    _finish(races.merge(folders, out, matters=matters, **arguments), out, typed, json=json)


def _finish(result: races.Race, folder: Path, typed: Sequence[str], *, json: bool) -> None:
    report = folder / "report.html"
    figures = race_page.write(result, report, command=["steprule", *typed])
    if json:
        output.as_json({**result.to_dict(), "report": str(report), "figures": [str(f) for f in figures]})
        return
    for cell in result.cells:
        heads = ("", cell.measure.loss, "95 %", "untuned", "lr", "against lowest")
        table(f"{cell.problem}, {cell.schedule} learning rate", heads, _rows(cell), left=(0, 5))
        if names := list(cell.standings[0].metrics):
            output.say(f"\nOn the {cell.measure.of} samples, means over the winners' runs:")
            table("", ("", *names), [(s.label, *map(_number, s.metrics.values())) for s in cell.standings])
        output.say()
    of = "" if all(cell.scale.ratios for cell in result.cells) else ", of the loss or of its fall"
    output.say(f"open: cannot be told apart. same: differs by less than {result.threshold}{of}. real: by more.\n")
    for paragraph in races.in_words(result):
        output.say(paragraph + "\n")
    kept = f", {result.kept:,} were there already" if result.kept else ""
    output.say(f"{result.lanes:,} trainings{kept}; {result.seconds:.1f} s.")
    output.say(f"Results: {result.results}\nReport:  {report}")


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _rows(cell: races.Cell) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    best = cell.standings[0].label
    for s in cell.standings:
        word = "lowest" if s.label == best else _against(cell, best, s.label)
        gone = f"{s.diverged:.0%} diverged" if s.diverged >= 0.005 else "some diverged" if s.diverged else ""
        rows.append(
            (
                s.label,
                f"{s.loss:.4g}",
                interval(s.low, s.high),
                f"{s.default:.4g}" if s.default is not None else "-",
                f"{s.lr:.3g}" if s.lr is not None else "-",
                "; ".join(filter(None, (word if s.learnt else "learnt nothing", gone))),
            )
        )
    return rows


def _against(cell: races.Cell, best: str, label: str) -> str:
    pair = cell.pair(best, label)
    if (verdict := pair.verdict()) == "real":
        return f"{pair.percent[0]:+.1f} %{cell.scale.of} real"
    return verdict


def _arguments(asked: Asked) -> dict[str, Any]:
    """What was typed as arguments of `steprule.race`."""
    found: dict[str, Any] = {
        n: asked[n] for n in ("trials", "seeds", "fresh", "epochs", "batch_size", "device") if n in asked
    }
    found["rules"] = _competitors(asked.get("rules"), asked.get("settings", []), asked.get("vary", []))
    found["problems"] = asked.get("on")
    if "schedule" in asked:
        found["schedules"] = asked["schedule"]
    return found


def _competitors(rules: Sequence[str] | None, settings: Sequence[str], vary: Sequence[str]) -> list[Any] | None:
    """Rules, classes and a file's own competitors, with what --vary searches, and what --set sets, which is then not searched."""
    if not rules:
        for option, texts in (("--set", settings), ("--vary", vary)):
            if texts:
                raise InputError(option, expected="rules to name", got="the whole catalogue", hint="Name the rules.")
        return None
    found = _typed(rules)
    takers = _takers(rules, found)
    hypers, searched = options.settings_for(takers, settings), options.searches_for(takers, vary)
    return [
        _competitor(own, set_, more) if set_ or more or own.label else name
        for name, own, set_, more in zip(rules, found, hypers, searched, strict=True)
    ]


def _competitor(own: races.Competitor, set_: Mapping[str, Any], more: Mapping[str, Search]) -> races.Competitor:
    if more:
        usual = usual_space(Trainable.of(own.optimizer).what) if own.space is None else own.space
        own = replace(own, space={**usual, **more})
    return replace(own, hypers={**own.hypers, **set_})


def _typed(rules: Sequence[str]) -> list[races.Competitor]:
    """What each name means. Two of one label, as a pupil's `adam` beside ours, are told apart by what was typed."""
    found = []
    for name in rules:
        own = load_object(name, kind="optimizer") if ":" in name and not name.endswith(".py") else None
        found.append(own if isinstance(own, races.Competitor) else races.Competitor(name))
    labels = [_label(own) for own in found]
    return [
        replace(own, label=name) if labels.count(label) > 1 and name != label else own
        for name, own, label in zip(rules, found, labels, strict=True)
    ]


def _label(own: races.Competitor) -> str:
    return own.label or Trainable.of(own.optimizer).name


def _takers(rules: Sequence[str], found: Sequence[races.Competitor]) -> list[options.Taker]:
    return [
        options.taker_of(Trainable.of(own.optimizer), name, _label(own)) for name, own in zip(rules, found, strict=True)
    ]


_INSIDE = {True: "in", False: "OUTSIDE", None: ""}


def _as_given(asked: Asked, out: Path | None, typed: Sequence[str], *, json: bool, dry_run: bool, yes: bool) -> None:
    rules, settings, on = asked.get("rules"), asked.get("settings", []), asked.get("on", ["airfoil"])
    if settings and not rules:
        raise InputError("--set", expected="rules to set it for", got="the tutorial's runs", hint="Name the rules.")
    if asked.get("vary"):
        raise InputError("--vary", expected="trials, which search", got="--trials 0", hint="Write --set NAME=VALUE.")
    planned = asked.get("schedule", ["constant"])
    if len(planned) != 1:
        raise InputError("--schedule", expected="one with --trials 0", got=" and ".join(planned))
    entries = None
    if rules:
        found = _typed(rules)
        hypers = options.settings_for(_takers(rules, found), settings)
        entries = [
            as_given.Entry(_label(own), Trainable.of(own.optimizer).what, {**own.hypers, **set_})
            for own, set_ in zip(found, hypers, strict=True)
        ]
    folder = out or Path("runs") / _plain(on[0])
    if "budget" in asked:
        raise InputError("--budget", expected="a race that tunes", got="--trials 0", hint="Give fewer --seeds.")
    how: dict[str, Any] = {"epochs": asked.get("epochs"), "batch_size": asked.get("batch_size"), "schedule": planned[0]}
    known = cost.known_first("race", dry_run=dry_run, yes=yes, json=json)
    with known as told, output.progress("race") as advance:
        result = as_given.compare(
            entries, on, asked.get("seeds", 20), folder, **how, progress=advance, told=told, measure=dry_run
        )
    report = folder / "report.html"
    html.write_report(result, report, command=["steprule", *typed])
    if json:
        output.as_json({**result.to_dict(), "report": str(report)})
        return
    rows: list[Sequence[str]] = []
    books = any(row.book for row in result.rows)
    for row in result.rows:
        book = (f"{b:.6f} {_INSIDE[i]}".strip() for b, i in row.beside_book)
        label = row.label + (f" ({row.diverged} of {row.seeds} diverged)" if row.diverged else "")
        own = (label, row.spread, row.middle, f"{row.seconds:.3f}")
        rows.append((*own, "\n".join(book) or "-") if books else own)
    heads = ("", "mean ± sd", "95 % of seeds", "s a run", *(["book's figure"] if books else []))
    count = f"{len(result.seeds)} seed{'s' if len(result.seeds) > 1 else ''}"
    table(
        f"{result.problem.name}: final training loss over {count}",
        heads,
        rows,
        left=(0, len(heads) - 1) if books else (0,),
    )
    for row in result.rows if result.rows[0].metrics else []:
        output.say(f"{row.label}: " + ", ".join(f"{n} {_number(v)}" for n, v in row.metrics.items()))
    floor = f"The {result.floor_name}: {result.floor:.8g}. " if result.floor is not None else ""
    kept = f", {result.kept} runs were there already" if result.kept else ""
    output.say(f"\n{floor}{result.seconds:.1f} s{kept}.")
    output.say(as_given.in_words(result.rows))
    output.say(f"\nResults: {result.results}\nReport:  {report}")


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        index = count = 0
    if not 1 <= index <= count:
        raise InputError("--shard", expected="I/N with 1 <= I <= N", got=repr(text), hint="Write --shard 1/4.")
    return index - 1, count


def _keep(folder: Path, asked: Asked) -> None:
    with write_aside(folder / COMMAND) as aside:
        aside.write_text(json_.dumps(dict(asked), indent=1) + "\n", encoding="utf-8")


def _folder_name(asked: Asked) -> str:
    """The same command goes on in the same folder, and another begins one of its own."""
    if asked == {"trials": 64, "fresh": 30, "device": "cpu"}:
        return "race"
    names = "-".join(_plain(n) for n in asked.get("on", []))[:40]
    return (
        f"race-{names}{'-' if names else ''}{zlib.crc32(json_.dumps(asked, sort_keys=True, default=str).encode()):08x}"
    )


def _plain(name: str) -> str:
    """A name as a file system takes it."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
