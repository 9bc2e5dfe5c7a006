"""A page that shows how much of a ranking is luck, by training the tutorial's model with 200 seeds.

The book's figures stand among the dots. Then the page asks again with equal tuning, and ends at the command that answers: `steprule race`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steprule import rules
from steprule.atomic import write_text
from steprule.play import trainings, words
from steprule.play.dense import Network
from steprule.play.luck_chinese import CHINESE
from steprule.play.one_file import one_file
from steprule.problems import airfoil, catalogue as problems
from steprule.races.spaces import RATE
from steprule.reports.style import style_of
from steprule.rules.rule import Rule
from steprule.tutorial.settings import BOOKS, BOOKS_SETTINGS, TUTORIAL, BookRun, by_class

STYLES = ("style", "luck")
SCRIPTS = ("words", "pen", "frame", "training", "strip", "summary", "luck")
"""The page's scripts, in reading order."""

SEEDS = 200
"""The seeds of each button; the second button takes those after the first's."""
TUNINGS = 10
"""The tuning can be repeated this often, each time with a seed after all others."""
TRIALS = 16
"""The learning rates that each rule tries, evenly on a logarithmic grid over the range of a race."""
NETWORK = Network((len(airfoil.COLUMNS) - 1, 1))
"""Linear regression."""
RUNS = tuple(e for e in TUTORIAL if e.book and (e.form == "formula" or e.method == "AdaDelta"))
"""The book's four runs from the formula, and the one class whose printed figure is not reproduced."""
NO_LINKS: Mapping[str, str] = {}


def rule_of(entry: BookRun) -> Rule:
    """The rule of a run of the tutorial; for one of torch's classes, the catalogue's rule with its defaults."""
    return rules.resolve(entry.optimizer.removeprefix("torch.optim.").lower())


def page(links: Mapping[str, str] = NO_LINKS) -> str:
    """The page as text: one file without network.

    `links` says where the page finds the playground (`play`), the lesson (`lesson`), the documentation (`docs`) and how a race is run
    (`race`), where it stands beside them.
    """
    tuned = [e for e in RUNS if e.form == "formula"]
    task = problems.get(BOOKS)
    epochs, batch, _ = BOOKS_SETTINGS
    seeds = 2 * SEEDS + TUNINGS
    known: dict[str, Any] = {
        "chinese": {**words.CHINESE, **CHINESE},
        "links": dict(links),
        "epochs": epochs,
        "batch": batch,
        "floor": task.floor,
        "deviation": float(airfoil.load()[:, -1].std()),
        "seeds": SEEDS,
        "tunings": TUNINGS,
        "data": trainings.samples(task),
        "streams": trainings.streams(seeds),
        "beginnings": {
            "formula": trainings.beginnings(task, seeds),
            "class": trainings.beginnings(by_class(), SEEDS),
        },
        "runs": [_run(e) for e in RUNS],
        "tuned": [e.label for e in tuned],
        "rates": [RATE.at(k / (TRIALS - 1)) for k in range(TRIALS)],
        "command": f"steprule race {' '.join(e.optimizer for e in tuned)} --on airfoil-linear",
    }
    code = trainings.code(NETWORK, [(e.label, rule_of(e), e.hypers) for e in RUNS])
    data = f"const DATA = {json.dumps(known, ensure_ascii=False, allow_nan=False)};\n{code}"
    return one_file("luck", STYLES, SCRIPTS, data)


def _run(entry: BookRun) -> dict[str, Any]:
    rule = rule_of(entry)
    about = trainings.run(rule, entry.hypers)
    told = {"lr": entry.hypers["lr"]} if "lr" in entry.hypers else {n: about["hypers"][n] for n in entry.hypers}
    return {
        **about,
        "label": entry.label,
        "method": entry.method,
        "form": entry.form,
        "begins": entry.form,
        "book": entry.book,
        "colour": style_of(rule.name).colour,
        "told": told,
        "problem": "" if entry.model is None else "steprule.tutorial:by_class",
        "given": dict(entry.hypers),
        "optimizer": entry.optimizer,
    }


def write(path: Path, links: Mapping[str, str] = NO_LINKS) -> None:
    """Write the page. Raises `OutputError` where it cannot."""
    write_text(path, page(links))
