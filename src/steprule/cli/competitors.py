"""A race as it is typed: its competitors, its settings, its shard, and the folder that is its own."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from steprule import races
from steprule.atomic import as_file_name
from steprule.cli import options
from steprule.errors import InputError
from steprule.hyper import Search
from steprule.races.competitor import usual_space
from steprule.rules.load import load_object
from steprule.sizes import TRIALS
from steprule.trainable import Trainable, is_by_kind
from steprule.tutorial.settings import BOOKS, TUTORIAL

Asked = Mapping[str, Any]
"""What was typed, by option."""
SAID = ("trials", "seeds", "fresh", "until", "epochs", "batch_size", "compile", "device")
"""Options that are arguments of `steprule.race` as they are."""


def arguments(asked: Asked) -> dict[str, Any]:
    """What was typed as arguments of `steprule.race`. Without rules settings as given are the tutorial's runs."""
    found: dict[str, Any] = {n: asked[n] for n in SAID if n in asked}
    if asked["trials"] == 0:
        _check_as_given(asked)
    found["rules"] = _competitors(asked.get("rules"), asked.get("settings", []), asked.get("vary", []))
    if found["rules"] is None and asked["trials"] == 0:
        of_the_book = asked.get("on", [BOOKS]) == [BOOKS]  # its classes begin with another model of its problem
        runs = [run.competitor for run in TUTORIAL]
        found["rules"] = runs if of_the_book else [replace(run, model=None) for run in runs]
    found["problems"] = asked.get("on")
    if "schedule" in asked:
        found["schedules"] = asked["schedule"]
    return found


def _check_as_given(asked: Asked) -> None:
    """Refuse what says how to tune."""
    if asked.get("settings") and not asked.get("rules"):
        raise InputError("--set", expected="rules to set it for", got="the tutorial's runs", hint="Name the rules.")
    if asked.get("vary"):
        raise InputError("--vary", expected="trials, which search", got="--trials 0", hint="Write --set NAME=VALUE.")
    if "compile" in asked:
        option = "--compile" if asked["compile"] else "--no-compile"
        raise InputError(
            option, expected="a race that tunes", got="--trials 0", hint="Settings as given train one by one."
        )
    if "until" in asked:
        raise InputError(
            "--until", expected="a race that tunes", got="--trials 0", hint="Settings as given have no verdict."
        )
    if "budget" in asked:
        raise InputError("--budget", expected="a race that tunes", got="--trials 0", hint="Give fewer --seeds.")


def _competitors(rules: Sequence[str] | None, settings: Sequence[str], vary: Sequence[str]) -> list[Any] | None:
    """Rules, classes and a file's own competitors, with what --vary searches, and what --set sets, which is then not searched."""
    if not rules:
        for option, texts in (("--set", settings), ("--vary", vary)):
            if texts:
                raise InputError(option, expected="rules to name", got="none", hint="Name the rules.")
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
        own = load_object(name, kind="optimizer") if _is_in_a_file(name) else None
        found.append(own if isinstance(own, races.Competitor) else races.Competitor(name))
    labels = [_label(own) for own in found]
    return [
        replace(own, label=name) if labels.count(label) > 1 and name != label else own
        for name, own, label in zip(rules, found, labels, strict=True)
    ]


def _is_in_a_file(name: str) -> bool:
    return ":" in name and not name.endswith(".py") and not is_by_kind(name)


def _label(own: races.Competitor) -> str:
    return own.label or Trainable.of(own.optimizer).name


def _takers(rules: Sequence[str], found: Sequence[races.Competitor]) -> list[options.Taker]:
    return [
        options.taker_of(Trainable.of(own.optimizer), name, _label(own)) for name, own in zip(rules, found, strict=True)
    ]


def shard(text: str | None) -> tuple[int, int] | None:
    """`1/4` as Python counts it."""
    if text is None:
        return None
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        index = count = 0
    if not 1 <= index <= count:
        raise InputError("--shard", expected="I/N with 1 <= I <= N", got=repr(text), hint="Write --shard 1/4.")
    return index - 1, count


def folder_name(asked: Asked) -> str:
    """The same command goes on in the same folder, and another begins one of its own; settings as given have one per problem."""
    named = "-".join(as_file_name(n) for n in asked.get("on", []))[:40]
    if asked["trials"] == 0:
        return named or BOOKS
    if "until" in asked:
        asked = {name: value for name, value in asked.items() if name != "budget"}  # it goes on with more time
    if asked == {"trials": TRIALS, "device": "cpu"}:
        return "race"
    digest = zlib.crc32(json.dumps(asked, sort_keys=True, default=str).encode())
    return "-".join(filter(None, ["race", named, f"{digest:08x}"]))
