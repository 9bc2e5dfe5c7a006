"""What a shell offers at TAB: the names of rules, problems, surfaces, settings and the like.

A shell reads stdout, so anything that a user's file prints or raises meanwhile is kept from it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import typer

from steprule import rules as catalogue

if TYPE_CHECKING:
    from steprule.cli.options import Taker
    from steprule.hyper import Hyper

Offers = list[tuple[str, str]]
"""Pairs: what can be typed, and a word about it."""
Asked = ParamSpec("Asked")

CITED = ("markdown", "latex", "latex-pairs", "csv", "csv-standings", "csv-untuned", "bibtex", "methods")
"""In which a race or a judgement is printed."""
FORMS = ("text", "latex", "python", "javascript", "numba", "triton")
ENGINES = ("local", "ray")
TRAINING = ("train", "sweep", "race", "ablate")


def quietly(offers: Callable[Asked, Offers]) -> Callable[Asked, Offers]:
    """Offer nothing and print nothing where the words typed so far are wrong in any way."""

    @wraps(offers)
    def heard(*args: Asked.args, **named: Asked.kwargs) -> Offers:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            try:
                return offers(*args, **named)
            except BaseException:  # noqa: BLE001  (a file that is still being written, say, or one that exits)
                return []

    return heard


def _beginning(incomplete: str, offers: Mapping[str, str]) -> Offers:
    return [(text, _short(word)) for text, word in offers.items() if text.startswith(incomplete)]


def _short(word: str) -> str:
    """Cut a word to the terminal's width: fish would take a second line for another offer."""
    from rich.cells import cell_len, set_cell_size
    from rich.console import Console

    room = min(60, Console().width)
    if cell_len(word) <= room:
        return word
    return set_cell_size(word, room - 4).rstrip() + " ..."


def one_of(*names: str) -> Callable[[str], Offers]:
    """A completion to one of a few names."""

    def offered(incomplete: str) -> Offers:
        return _beginning(incomplete, dict.fromkeys(names, ""))

    return offered


@quietly
def rule_names(incomplete: str) -> Offers:
    """The catalogue's rules; the file's rules after `file.py:`; torch's optimizers after `torch.`."""
    file, colon, _ = incomplete.rpartition(":")
    if colon and file.endswith(".py"):
        from steprule.rules.load import rules_in

        return _beginning(incomplete, {f"{file}:{n}": r.summary for n, r in rules_in(Path(file)).items()})
    if incomplete.startswith("torch."):
        return class_names(incomplete)
    return _beginning(incomplete, {r.name: r.summary for r in catalogue.CATALOGUE.values()})


@quietly
def class_names(incomplete: str) -> Offers:
    """torch's optimizers."""
    import torch

    every = [n for n, v in vars(torch.optim).items() if isinstance(v, type) and n != "Optimizer"]
    return _beginning(incomplete, dict.fromkeys([f"torch.optim.{n}" for n in every], ""))


@quietly
def surface_names(incomplete: str) -> Offers:
    """The surfaces, by formula."""
    from steprule.surfaces import catalogue as surfaces

    return _beginning(incomplete, {s.name: s.formula for s in surfaces.SURFACES.values()})


@quietly
def story_names(incomplete: str) -> Offers:
    """The playground's stories, by title."""
    from steprule.play import stories

    return _beginning(incomplete, {story.name: story.title for story in stories.STORIES})


@quietly
def problem_names(incomplete: str) -> Offers:
    """The package's own problems, and the surfaces, which are problems too."""
    from steprule.problems.names import EMBEDDED
    from steprule.surfaces import catalogue as surfaces

    return _beginning(incomplete, EMBEDDED | dict.fromkeys(surfaces.names(), "a surface"))


@quietly
def schedule_names(incomplete: str) -> Offers:
    """The schedules."""
    from steprule import schedules

    return _beginning(incomplete, dict.fromkeys(schedules.names(), ""))


@quietly
def settings(context: typer.Context, incomplete: str) -> Offers:
    """`lr=` and `adam.lr=` for the rules that were typed; after the sign the default, or each value of a flag or a choice."""
    found: dict[str, str] = {}
    takers = list(_takers(context))
    for taker in takers:
        for name in taker.who.known:
            hyper = taker.who.hypers.get(name)
            word = hyper.meaning if hyper else ""
            values = _values(hyper, signed="=" in incomplete)
            for text in [f"{name}={value}" for value in values] or [f"{name}="]:
                found.setdefault(text, word)
    return _of_all_or_one(incomplete, found, takers)


def _values(hyper: Hyper | None, *, signed: bool) -> Sequence[object]:
    """The values to offer of one hyperparameter; its default only once the sign `=` is typed."""
    if hyper is None:
        return ()
    if hyper.is_flag:
        return (False, True)
    if hyper.choices:
        return hyper.choices
    return (hyper.default,) if signed else ()


@quietly
def ranges(context: typer.Context, incomplete: str) -> Offers:
    """What can be varied of the rules that were typed: `lr`, which has a range, and `NAME=`, which needs one."""
    found: dict[str, str] = {}
    takers = list(_takers(context))
    for taker in takers:
        for name in taker.who.known:
            hyper = taker.who.hypers.get(name)
            if hyper is not None and (hyper.is_flag or hyper.choices):
                continue
            if hyper is not None and hyper.search is not None:
                found.setdefault(name, f"{hyper.search.low:g}..{hyper.search.high:g} if not given")
            else:
                found.setdefault(f"{name}=", "LOW..HIGH")
    return _of_all_or_one(incomplete, found, takers)


@quietly
def parts(context: typer.Context, incomplete: str) -> Offers:
    """What can be taken off the rule that was typed: by name, or as `NAME=` where the value at which it is off is not known."""
    found: dict[str, str] = {}
    for taker in _takers(context):
        for name in taker.who.known:
            hyper = taker.who.hypers.get(name)
            known = hyper is not None and hyper.off is not None
            found[name if known else f"{name}="] = hyper.meaning if hyper else ""
        what = taker.who.what
        found |= {own.name: own.summary for own in getattr(what, "parts", ()) if own.name not in found}
    return _beginning(incomplete, found)


def _of_all_or_one(incomplete: str, found: Mapping[str, str], takers: list[Taker]) -> Offers:
    """Offers for all rules and, once something is typed, for one rule of several: `adam.lr=`."""
    every = dict(found)
    if incomplete and len(takers) > 1:
        for taker in takers:
            for text, word in found.items():
                if taker.who.accepts(text.partition("=")[0]):
                    every[f"{taker.names[0]}.{text}"] = word
    return _beginning(incomplete, every)


def _takers(context: typer.Context) -> Iterator[Taker]:
    """The rules, classes and factories that were typed so far; other words are passed over."""
    from steprule.cli import options
    from steprule.errors import StepruleError
    from steprule.trainable import Trainable

    trains = context.command.name in TRAINING
    for typed in _rules_typed(context):
        try:
            if trains:
                yield options.taker_of(Trainable.of(typed), typed)
            else:
                yield options.walker_of(catalogue.resolve(typed), typed)
        except StepruleError:
            continue


def _rules_typed(context: typer.Context) -> list[str]:
    """The words in the place of RULE.

    They are left over in `context.args` where an option after them still waits for its value. bash hands over `mine.py:rule` as three
    words, which are joined again here.
    """
    typed = context.params.get("rule") or context.params.get("rules") or []
    words = [typed] if isinstance(typed, str) else list(typed)
    return re.sub(r" ?([:=]) ?", r"\1", " ".join(words + context.args)).split()
