"""The page of a race as one HTML file, its figures as SVG beside it; users' names are escaped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from steprule.counts import counted
from steprule.problems.credits import credits_of
from steprule.races import Race, headline
from steprule.races.verdict import sentence
from steprule.reports import setting_parts, tuned_parts
from steprule.reports.document import Part, document, facts, formulas, write_beside
from steprule.reports.race_matrix import matrix


def write(race: Race, path: Path, *, command: Sequence[str] = ()) -> list[Path]:
    """Write the page to `path` and each figure as SVG beside it. Raises `OutputError` where it cannot."""
    parts = _parts(race, command)
    return write_beside(path, parts, _page(race, parts))


def page(race: Race, command: Sequence[str] = ()) -> str:
    """The page as text; `command` is what repeats the race."""
    return _page(race, _parts(race, command))


def _page(race: Race, parts: Sequence[Part]) -> str:
    names = ", ".join(p.name for p in race.spec.problems)
    title = f"{len(race.spec.entrants)} optimizers on {names}"
    head = [f'<p class="kicker">{escape(title)}</p>', f'<h1 class="said">{escape(sentence(race))}</h1>', matrix(race)]
    if not race.is_tuned:
        head = [f"<h1>{escape(title)}</h1>", f'<p class="lede">{escape(headline(race))}</p>']
    body = [*head, *(part.html() for part in parts)]
    return document(title, "".join(body))


def _parts(race: Race, command: Sequence[str]) -> list[Part]:
    own = tuned_parts if race.is_tuned else setting_parts
    cards = formulas((e.label, e.what, e.shown) for e in race.spec.entrants if e.has_formula)
    made = facts(_made(race, own.made(race), command))
    return [*own.parts(race), Part("What each does", cards), Part("How this was made", made)]


def _made(race: Race, protocol: dict[str, str], command: Sequence[str]) -> dict[str, str]:
    """How the results came about: problems, protocol, versions, machine, credits."""
    spec, plans = race.spec, []
    for task in spec.problems:
        config = spec.configs[task.name]
        plans.append(
            f"{task.name}: {task.summary}; batch {config.batch_size}, {counted(config.epochs, 'epoch')}, {config.engine}"
        )
    return {
        "Problems": "; ".join(plans),
        **protocol,
        "Made": race.made.in_words(),
        "Versions": ", ".join(f"{k} {v}" for k, v in spec.stated["versions"].items()),
        "Hardware": race.hardware,
        "Trainings": f"{race.lanes:,}" + (f", {race.kept:,} of them were there already" if race.kept else ""),
        "Wall time": f"{race.seconds:.1f} s; {race.train_seconds:.1f} s of training, added over workers",
        "Repeat with": shlex.join(command) if command else "",
        "Data": credits_of(p.name for p in spec.problems),
    }
