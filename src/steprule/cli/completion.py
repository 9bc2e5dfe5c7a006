"""What a shell offers at TAB: names, and the ways to say what several commands take.

A shell reads stdout, so what a user's file prints or raises meanwhile does not get there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import typer

from steprule import rules as catalogue

if TYPE_CHECKING:
    from steprule.cli.options import Taker

Offers = list[tuple[str, str]]
"""What can be typed, and a word on each."""
Asked = ParamSpec("Asked")

FORMS = ("text", "latex", "python", "javascript", "numba", "triton")
ENGINES = ("local", "ray")
TRAINING = ("train", "sweep", "race")


def quietly(offers: Callable[Asked, Offers]) -> Callable[Asked, Offers]:
    """Whatever is wrong with what was typed so far: nothing is offered, and nothing is printed."""

    @wraps(offers)
    def heard(*args: Asked.args, **named: Asked.kwargs) -> Offers:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            try:
                return offers(*args, **named)
            except BaseException:  # noqa: BLE001  (of a file that is being written, say, or that exits)
                return []

    return heard


def _beginning(incomplete: str, offers: Mapping[str, str]) -> Offers:
    return [(text, _short(word)) for text, word in offers.items() if text.startswith(incomplete)]


def _short(word: str) -> str:
    """No wider than the terminal, which would break it: to fish a second line is an offer of its own."""
    from rich.cells import cell_len, set_cell_size
    from rich.console import Console

    room = min(60, Console().width)
    return word if cell_len(word) <= room else set_cell_size(word, room - 4).rstrip() + " ..."


def one_of(*names: str) -> Callable[[str], Offers]:
    """Completes to one of a few names."""

    def offered(incomplete: str) -> Offers:
        return _beginning(incomplete, dict.fromkeys(names, ""))

    return offered


@quietly
def rule_names(incomplete: str) -> Offers:
    """The catalogue's rules; behind `file.py:` those of that file; behind `torch.` its optimizers."""
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
    """The problems that travel with the package, and the surfaces, which are problems too."""
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
    """`lr=` and `adam.lr=`, of the rules that were typed; behind the sign the default; of a flag or a choice each value."""
    found: dict[str, str] = {}
    takers = list(_takers(context))
    for taker in takers:
        for name in taker.who.known:
            hyper = taker.who.hypers.get(name)
            word = hyper.meaning if hyper else ""
            choices = (False, True) if hyper and hyper.is_flag else hyper.choices if hyper else ()
            if hyper and not choices and "=" in incomplete:
                choices = (hyper.default,)
            for text in [f"{name}={value}" for value in choices] or [f"{name}="]:
                found.setdefault(text, word)
    return _of_all_or_one(incomplete, found, takers)


@quietly
def ranges(context: typer.Context, incomplete: str) -> Offers:
    """What can be varied, of the rules that were typed: `lr`, which has a range, and `NAME=`, where one must be given."""
    found: dict[str, str] = {}
    takers = list(_takers(context))
    for taker in takers:
        for name in taker.who.known:
            hyper = taker.who.hypers.get(name)
            if hyper is None or not (hyper.is_flag or hyper.choices):
                own = hyper.search if hyper else None
                found.setdefault(
                    name if own else f"{name}=", f"{own.low:g}..{own.high:g} if not given" if own else "LOW..HIGH"
                )
    return _of_all_or_one(incomplete, found, takers)


def _of_all_or_one(incomplete: str, found: Mapping[str, str], takers: list[Taker]) -> Offers:
    """Once something is typed, also for one rule of several: `adam.lr=`."""
    every = dict(found)
    if incomplete and len(takers) > 1:
        for taker in takers:
            every |= {
                f"{taker.names[0]}.{text}": word
                for text, word in found.items()
                if taker.who.accepts(text.partition("=")[0])
            }
    return _beginning(incomplete, every)


def _takers(context: typer.Context) -> Iterator[Taker]:
    """The rules, classes and factories that were typed so far; what is none, or not yet, is passed over."""
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
    """The words in the place of RULE; they are left over where an option behind them still waits for its value.

    bash hands `mine.py:rule` over as three words.
    """
    typed = context.params.get("rule") or context.params.get("rules") or []
    words = [*([typed] if isinstance(typed, str) else typed), *context.args]
    return re.sub(r" ?([:=]) ?", r"\1", " ".join(words)).split()
