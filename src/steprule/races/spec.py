"""A race before it runs: entrants, problems, schedules, protocol; they decide every bit of its results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

import torch

from steprule.counts import counted, seeds_of, whole
from steprule.errors import InputError, InputTypeError, named, unknown_name
from steprule.lanes.choose import Compile, choose
from steprule.lanes.model import blank
from steprule.lanes.records import Engine
from steprule.optim.mixture import warn_without_matrices
from steprule.per_kind import PerKind
from steprule.problems import catalogue as problems
from steprule.problems.problem import Problem
from steprule.provenance import check_device, versions
from steprule.races import stated
from steprule.races.chain import Chain
from steprule.races.competitor import Competitor, Entrant, entrant_of
from steprule.races.protocol import AsGiven, Protocol, Tuned
from steprule.schedules import Given, Schedule, one_or_more as schedules_of
from steprule.sizes import FRESH, RULES, STAGES, STUDIES, TRIALS
from steprule.steppers import is_large
from steprule.sweeps.estimate import LONG, work_of
from steprule.trainable import Optimizable, one_or_more
from steprule.training.recipe import Recipe

PROBLEMS, BOTH = ("airfoil-linear", "airfoil-mlp", "digits-softmax"), ("constant", "linear")
"""Of a tuned race that names none: problems, schedules."""
ALONE, CONSTANT = ("airfoil",), ("constant",)
"""The same of settings as given."""
ENGINES: tuple[Engine, ...] = ("kernel", "vmap", "one by one")
"""The quickest first: everyone on a problem is trained by the quickest that takes all of its models."""
HINTS = {
    "rules": "A Competitor gives one of them a label of its own; a command line takes it as file.py:name.",
    "schedules": 'Give functions of one name others: steprule.schedules.own(function, "name").',
}
"""Where two that differ have one name."""
BLOCK = 2_048
"""Lanes that are trained together, and whose results land together: part of the spec, never of the machine."""
Rules: TypeAlias = "Sequence[Optimizable | Competitor] | Optimizable | Competitor | None"
Problems = Sequence[str | Problem] | str | Problem | None
Seeds = int | Iterable[int] | None
Until = Literal["decided"]
UNTIL: tuple[Until, ...] = ("decided",)
"""What `until=` takes beside None."""


class Settings(TypedDict, total=False):
    """What decides a race's results beside its rules, problems, trials and seeds; `steprule.race` explains each."""

    fresh: int | None
    until: Until | None
    schedules: Sequence[Given] | Given | None
    epochs: int | None
    batch_size: int | None
    compile: Compile
    device: str
    first_seed: int | None
    protocol: Protocol | None


DEFAULTS: Settings = {
    "fresh": None, "until": None, "schedules": None, "epochs": None, "batch_size": None, "compile": "auto", "device": "cpu",
    "first_seed": None, "protocol": None,
}  # fmt: skip


@dataclass(frozen=True)
class TrainingConfig:
    """How a problem is trained."""

    epochs: int
    batch_size: int
    engine: Engine
    block: int
    """Lanes whose results land together, where they are trained one by one."""
    threads: int
    """Of one training: 1, so that a core is a worker; all for a large model. Sums over threads have other last bits."""


@dataclass(frozen=True)
class Spec:
    """A race before it is run."""

    problems: tuple[Problem, ...]
    schedules: tuple[Schedule, ...]
    entrants: tuple[Entrant, ...]
    protocol: Protocol
    configs: Mapping[str, TrainingConfig]
    """By problem."""
    device: str = "cpu"

    @property
    def chains(self) -> list[Chain]:
        """Every chain of the race."""
        every = product(self.problems, self.schedule_names, self.entrants)
        return [Chain(problem.name, schedule, entrant.label) for problem, schedule, entrant in every]

    def block(self, problem: str, label: str) -> int:
        """How many lanes of an entrant on a problem land together."""
        config = self.configs[problem]
        return BLOCK if self.entrant(label).is_rule and config.engine != "one by one" else config.block

    @property
    def metric_columns(self) -> dict[str, list[str]]:
        """By problem the columns of its metrics: "test accuracy"."""
        return {p.name: [f"{part} {name}" for part, name in p.metric_columns] for p in self.problems}

    def problem(self, name: str) -> Problem:
        """The problem of that name. Raises `UnknownNameError`."""
        return named("problem", name, {p.name: p for p in self.problems}, where=" of this race")

    @property
    def schedule_names(self) -> tuple[str, ...]:
        """How the schedules are spelled."""
        return tuple(s.name for s in self.schedules)

    def entrant(self, label: str) -> Entrant:
        """The entrant of that label. Raises `UnknownNameError`."""
        return named("competitor", label, {e.label: e for e in self.entrants}, where=" of this race")

    @cached_property
    def stated(self) -> dict[str, Any]:
        """All that decides the results, as it will be read back from JSON; what a user sets stands before what follows from it."""
        how = {n: {"epochs": c.epochs, "batch_size": c.batch_size} for n, c in self.configs.items()}
        parts = stated.of_race(self.problems, how, self.schedules, self.entrants)
        found = dict(self.protocol.to_dict())
        if type(self.protocol) not in (Tuned, AsGiven):
            found["protocol"] = stated.of_code(type(self.protocol), "its protocol")
        found["schedules"] = self.schedule_names
        if parts.functions:
            found["functions"] = parts.functions
        found |= {
            "device": self.device,
            "versions": versions(),
            "problems": parts.problems,
            "competitors": parts.competitors,
            "block": BLOCK,
            "blocks one by one": {n: c.block for n, c in self.configs.items()},
            "engines": {n: c.engine for n, c in self.configs.items()},
            "threads of torch": {n: c.threads for n, c in self.configs.items()},
        }
        return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def spec_of(
    rules: Rules, on: Problems, trials: int = TRIALS, seeds: Seeds = None, **settings: Unpack[Settings]
) -> Spec:
    """The race of these arguments. Raises `StepruleError` where one does not fit."""
    return spec_from(rules, on, trials, seeds, settings, Settings)


def spec_from(rules: Rules, on: Problems, trials: int, seeds: Seeds, settings: Settings, known: type) -> Spec:
    """The same from settings of a `known` kind, some of which may be of no concern here."""
    if unknown := next((n for n in settings if n not in known.__annotations__), None):
        raise unknown_name("setting of a race", unknown, known.__annotations__)
    settings = {**DEFAULTS, **settings}
    protocol = _protocol(trials, seeds, settings)
    tuned = isinstance(protocol, Tuned)
    usual = PROBLEMS if tuned else ALONE
    tasks = _problems(usual if on is None else on)
    entrants = tuple(
        entrant_of(given, searches=protocol.searches) for given in (RULES if rules is None else one_or_more(rules))
    )
    schedules = settings["schedules"]
    if schedules is None:
        schedules = BOTH if tuned else CONSTANT
    planned = schedules_of(schedules)
    _check_once("rules", [(e.label, e) for e in entrants])
    _check_once("problems", [(t.name, t) for t in tasks])
    _check_once("schedules", [(s.name, s) for s in planned])
    device = settings["device"]
    check_device(device)
    for entrant in entrants:
        for task in tasks:
            if isinstance(entrant.what, PerKind):
                warn_without_matrices(entrant.what, blank(entrant.trains(task)), task.name)
    configs = {task.name: _config(task, entrants, protocol, len(planned), settings) for task in tasks}
    spec = Spec(tasks, planned, entrants, protocol, configs, device)
    spec.stated  # noqa: B018  (now: what is trained can change its own code's surroundings)
    return spec


def _check_once(kind: str, given: Sequence[tuple[str, object]]) -> None:
    """Raises `InputError` where there is nothing, or a name stands twice."""
    if not given:
        raise InputError(kind, expected="at least one", got="none")
    known: dict[str, object] = {}
    for name, thing in given:
        if name in known:
            hint = "" if known[name] == thing else HINTS.get(kind, "")
            raise InputError(kind, expected="each once", got=f"{name!r} twice", hint=hint)
        known[name] = thing


def _protocol(trials: int, seeds: Seeds, settings: Settings) -> Protocol:
    """The protocol: one's own, settings as given where there are no trials, or else the tuned race."""
    own, fresh, first_seed = settings["protocol"], settings["fresh"], settings["first_seed"]
    until = _until(settings["until"])
    sizes = [n for n, v in (("fresh", fresh), ("first_seed", first_seed), ("until", until)) if v is not None]
    if own is not None:
        missing = [
            n
            for n in ("following", "searches", "watches", "size", "first_seed", "spare", "to_dict")
            if not hasattr(own, n)
        ]
        if isinstance(own, type) or missing:
            got = repr(own) if isinstance(own, type) else f"{own!r} without {', '.join(missing)}"
            raise InputTypeError("protocol", expected="an object as steprule.races.Protocol describes it", got=got)
        if sizes or seeds is not None:
            raise InputError(
                "protocol",
                expected="one without sizes beside it",
                got=", ".join([*sizes, *([] if seeds is None else ["seeds"])]),
            )
        return _telling(own)
    trials = whole("trials", trials, 0)
    if trials == 0:
        if sizes:
            raise InputError(sizes[0], expected="a race that tunes", got="trials 0")
        return AsGiven() if seeds is None else AsGiven(seeds_of(seeds))
    if isinstance(seeds, Iterable):
        raise InputTypeError("seeds", expected="how many studies", got=repr(seeds))
    return _telling(
        Tuned(
            trials=trials,
            studies=whole("seeds", STUDIES if seeds is None else seeds, 1),
            fresh=whole("fresh", FRESH if fresh is None else fresh, 1),
            first_seed=whole("first_seed", 0 if first_seed is None else first_seed, 0),
            stages=1 if until is None else STAGES,
        )
    )


def _telling(found: Protocol) -> Protocol:
    """Raises `InputError` where a race until decided could never tell luck from a difference."""
    if isinstance(found, Tuned) and found.stages > 1 and not found.tells_luck:
        got = f"{counted(found.studies, 'study', 'studies')}, {counted(found.fresh, 'fresh seed')}"
        raise InputError("until", expected="two studies and two fresh seeds or more", got=got)
    return found


def _until(given: object) -> Until | None:
    """Raises `UnknownNameError` for what no race goes on until."""
    if given is None:
        return None
    if not isinstance(given, str):
        raise InputTypeError("until", expected="'decided', or None", got=repr(given))
    return named("end of a race", given, {name: name for name in UNTIL})


def _problems(on: Any) -> tuple[Problem, ...]:
    one = isinstance(on, str | Problem) or not isinstance(on, Iterable)
    given = (on,) if one else tuple(on)
    if not given or not all(isinstance(p, str | Problem) for p in given):
        raise InputTypeError("problems", expected="problems or their names", got=repr(on))
    return tuple(problems.get(p) for p in given)


def _config(
    task: Problem, entrants: Sequence[Entrant], protocol: Protocol, schedules: int, settings: Settings
) -> TrainingConfig:
    """How a problem is trained: known from its models, and nothing is trained for it."""
    epochs = settings["epochs"]
    epochs = task.epochs if epochs is None else whole("epochs", epochs, 1)
    plan = {"epochs": epochs, "batch_size": task.batch_size_for(settings["batch_size"])}
    rules = [e for e in entrants if e.is_rule]
    engine: Engine = "one by one"
    if rules and not protocol.watches:
        lanes, compiled = len(rules) * protocol.size * schedules, settings["compile"]
        recipe = Recipe(epochs, plan["batch_size"], device=settings["device"])
        unprinted = "a rule per kind of parameter" if any(isinstance(e.what, PerKind) for e in rules) else ""
        trained = dict.fromkeys(e.trains(task) for e in rules)
        found = [choose(own, lanes, recipe, compiled, unprinted).engine for own in trained]
        engine = max(found, key=ENGINES.index)
    large = any(is_large(blank(e.trains(task))) for e in entrants)
    threads = torch.get_num_threads() if large and engine == "one by one" else 1
    block = max(1, min(BLOCK, LONG // max(work_of(e.trains(task), **plan) for e in entrants)))
    return TrainingConfig(**plan, engine=engine, block=block, threads=threads)
