"""`steprule.ablate`: take each part off a rule in turn, tune all alike, and judge what each of them does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from steprule.errors import check_arguments
from steprule.hyper import Search
from steprule.keywords import shows
from steprule.lanes.choose import Compile
from steprule.races.ablation.parts import Chosen, Taken, taken_off
from steprule.races.ablation.result import Ablation
from steprule.races.ablation.trials import same_trials
from steprule.races.competitor import Competitor, competitor_of, usual_space
from steprule.races.entry import estimate as estimate_of_race, race
from steprule.races.runner import EngineName, Progress
from steprule.races.spec import Problems
from steprule.schedules import Given
from steprule.sizes import MATTERS, TRIALS
from steprule.sweeps.estimate import Estimate
from steprule.trainable import Optimizable, Trainable

PROBLEM = "airfoil-mlp"
"""Of an ablation that names none."""
SCHEDULE = "linear"
"""The same: where the learning rate falls to zero, losses at the end vary least from seed to seed."""


class Sizes(TypedDict, total=False):
    """What decides an ablation's results beside its rule, problems and parts; `steprule.ablate` explains each."""

    hypers: Mapping[str, Any] | None
    vary: Mapping[str, Search] | None
    trials: int
    seeds: int | None
    fresh: int | None
    schedules: Sequence[Given] | Given | None
    epochs: int | None
    batch_size: int | None
    compile: Compile
    device: str
    first_seed: int | None


class AblateSettings(Sizes, total=False):
    """What `steprule.ablate` takes by keyword, and explains: what decides its results, and how it runs."""

    matters: float
    out: str | Path | None
    engine: EngineName
    workers: int | None
    address: str | None
    progress: Progress | None
    before: Callable[[], None] | None
    told: Callable[[Estimate], None] | None


SIZES: Sizes = {
    "hypers": None, "vary": None, "trials": TRIALS, "seeds": None, "fresh": None, "schedules": None, "epochs": None, "batch_size": None,
    "compile": "auto", "device": "cpu", "first_seed": None,
}  # fmt: skip
DEFAULTS: AblateSettings = {
    **SIZES, "matters": MATTERS, "out": None, "engine": "local", "workers": None, "address": None, "progress": None, "before": None,
    "told": None,
}  # fmt: skip
_OF_THE_RACE = ("epochs", "batch_size", "compile", "device")


@dataclass(frozen=True)
class _Planned:
    """An ablation before it is run, as arguments of a race."""

    taken: Taken
    race: dict[str, Any]


@shows(AblateSettings, DEFAULTS)
def ablate(
    rule: Optimizable | Competitor,
    problems: Problems = None,
    parts: Chosen = None,
    **settings: Unpack[AblateSettings],
) -> Ablation:
    """Take each part off `rule` in turn, tune the rule with and without it alike, and say what the part does.

    Parts are flags that are on, numbers that are searched or set away from the value at which they do nothing (0 of a number that is off
    at zero, the value in `Neutral`), and what `before`, `behind` and the like put around the rule. The rule and the rule without a part
    train the same Sobol points with the same seeds in every study, and their winners the same fresh seeds. The difference is taken
    study by study, so that the luck which both share falls out. Holm's method keeps the chance of any wrong "helps" or "hurts" on a
    problem with a schedule at 5 %.

    Args:
        rule: a rule, an Optimizer class, a factory or a `Competitor`.
        problems: problems or their names; None for airfoil-mlp.
        parts: names; or a mapping from names to the values at which they are off, None for the value that is known. None for all that
            are known. Those of a class must be given with their values.
        settings: by keyword, any of these:

            - `hypers=None`: what is set, by name, and not searched.
            - `vary=None`: what is searched beside the rule's own numbers, by name: `{"weight_decay": Search(1e-5, 1)}`.
            - `trials=64`: trainings of a study.
            - `seeds=None`: studies of each; if not given as many as 20 tuned rules of a race of the usual size allow for all together, 30
              at most.
            - `fresh=None`: seeds on which winners are compared (15).
            - `schedules=None`: of the learning rate, one or several; linear.
            - `epochs=None`, `batch_size=None`, `compile="auto"`, `device="cpu"`, `first_seed=None`, `engine="local"`, `workers=None`,
              `address=None`, `progress=None`, `before=None`, `told=None`: as in `steprule.race`.
            - `matters=0.01`: the smallest effect that matters, as a share of the loss, 0 or more.
            - `out=None`: a folder. An ablation that was interrupted goes on there, with the same bits.

    Raises:
        StepruleError: a rule without a part that can be taken off; a part that is unknown, is off already or changes nothing; else as
            `steprule.race` does.

    >>> found = ablate("sgd", "airfoil-linear", "momentum", trials=4, seeds=2, fresh=2, epochs=1)
    >>> [(part.name, part.off) for part in found.parts], found.panels[0].effect("momentum").verdict
    ([('momentum', 'momentum=0')], 'open')
    """
    check_arguments(settings, AblateSettings, "ablate")
    asked: Any = {**DEFAULTS, **settings}
    planned = _planned(rule, problems, parts, asked)
    how = {n: asked[n] for n in ("matters", "out", "engine", "workers", "address", "progress", "before", "told")}
    found = race(**planned.race, **how)
    taken = planned.taken
    return Ablation(found, taken.whole.label, taken.parts, taken.idle)


@shows(Sizes, SIZES)
def estimate(
    rule: Optimizable | Competitor,
    problems: Problems = None,
    parts: Chosen = None,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    **settings: Unpack[Sizes],
) -> Estimate:
    """What an ablation of these arguments will take on this machine, measured on a few steps; arguments are those of `ablate`.

    >>> estimate("sgd", "airfoil-linear", ["momentum"], trials=8, seeds=2, fresh=3).trainings
    44
    """
    check_arguments(settings, Sizes, "an ablation's estimate")
    planned = _planned(rule, problems, parts, {**SIZES, **settings})
    return estimate_of_race(**planned.race, out=out, workers=workers)


def _planned(rule: Optimizable | Competitor, problems: Problems, parts: Chosen, asked: Mapping[str, Any]) -> _Planned:
    own = competitor_of(rule)
    if asked["vary"]:
        usual = usual_space(Trainable.of(own.optimizer).what) if own.space is None else own.space
        own = replace(own, space={**usual, **asked["vary"]})
    if asked["hypers"]:
        own = replace(own, hypers={**own.hypers, **asked["hypers"]})
    taken = taken_off(own, parts)
    sizes = {n: asked[n] for n in ("trials", "seeds", "fresh", "first_seed")}
    protocol = same_trials(taken.entrant, len(taken.parts), **sizes)
    schedules = SCHEDULE if asked["schedules"] is None else asked["schedules"]
    return _Planned(
        taken,
        {
            "rules": [taken.whole, *(part.competitor for part in taken.parts)],
            "problems": PROBLEM if problems is None else problems,
            "schedules": schedules,
            "protocol": protocol,
            **{n: asked[n] for n in _OF_THE_RACE},
        },
    )
