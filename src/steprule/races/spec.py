"""What a race is: who runs, on which problems and schedules, with how many trials and seeds.

It is a value that decides every lane, and with it every bit of the result.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from steprule import rules as catalogue
from steprule.counts import whole
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Search
from steprule.lanes.choose import Compile, choose
from steprule.lanes.model import blank
from steprule.lanes.records import Engine
from steprule.problems import catalogue as problems
from steprule.problems.problem import Problem
from steprule.provenance import check_device, versions
from steprule.races import spaces, stated
from steprule.rules.load import load_object
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule
from steprule.schedules import Given, Schedule
from steprule.schedules import one_or_more as schedules_of
from steprule.steppers import is_large
from steprule.sweeps.estimate import LONG, work_of
from steprule.trainable import Optimizable, Trainable, one_or_more
from steprule.training.recipe import Recipe

PROBLEMS = ("airfoil-linear", "airfoil-mlp", "digits-softmax")
"""Of a race that names none."""
TRIALS, STUDIES, FRESH, BOTH = 64, 5, 30, ("constant", "linear")
"""Of a race that says nothing else: trainings a study, studies, fresh seeds, schedules."""
MULTIPLES = 10.0 ** np.arange(-1.5, 1.51, 0.25)
"""Of the winner's learning rate, to see how much it matters."""
AROUND = 5
"""Fresh seeds of those, at most."""
HINTS = {
    "rules": "Give each a Competitor with a label of its own.",
    "schedules": 'Give functions of one name others: steprule.schedules.own(function, "name").',
}
"""Where two have one name."""
BLOCK = 2_048
"""Lanes that are trained together, and whose results land together: part of the spec, never of the machine."""


@dataclass(frozen=True)
class Competitor:
    """One who runs in a race: a rule as it is, or any `torch.optim.Optimizer` class or factory with what is to be searched.

    >>> import torch
    >>> Competitor(torch.optim.Adam, {"lr": Search(1e-5, 10)}, label="torch's Adam").label
    "torch's Adam"
    """

    optimizer: Optimizable
    space: Mapping[str, Search] | None = None
    """By name what is searched. None: all numbers of a rule, the learning rate alone of a class. The race gives every
    learning rate the same range and widens a rule's narrow ranges within its bounds; a class has none, so its ranges stay."""
    hypers: Mapping[str, Any] = field(default_factory=dict)
    """What is set and not searched."""
    label: str = ""
    """The name in the results; the optimizer's own if not given."""


@dataclass(frozen=True)
class Runner:
    """A competitor as the race takes it."""

    label: str
    what: Any
    """The rule, or what makes the optimizer."""
    space: Mapping[str, Search]
    fixed: Mapping[str, Any]

    @property
    def is_rule(self) -> bool:
        """Whether it can be trained by the thousand, or one by one."""
        return isinstance(self.what, Rule)

    @property
    def defaults(self) -> dict[str, Any]:
        """The hyperparameters of one who tunes nothing, those that are searched."""
        if isinstance(self.what, Rule):
            return {n: v for n, v in for_training(self.what).defaults.items() if n in self.space}
        found = {n: p.default for n, p in inspect.signature(self.what).parameters.items()}
        return {n: v for n, v in found.items() if n in self.space and isinstance(v, int | float)}

    @property
    def shown(self) -> dict[str, Any]:
        """Hyperparameters under which a rule's formula is the one that is raced: what is searched is switched on."""
        rule = for_training(self.what)
        on = {n: s.high for n, s in self.space.items() if rule.hyper(n).switches}
        bound = rule.bind({**on, **self.fixed})
        return {n: bound[n] for n in rule.settings}

    @property
    def middle(self) -> dict[str, Any]:
        """Hyperparameters in the middle of what is searched."""
        found = {n: s.at(0.5) for n, s in self.space.items()}
        known = {h.name: h for h in for_training(self.what).hypers} if self.is_rule else {}
        whole = {n: round(v) for n, v in found.items() if n in known and known[n].is_whole}
        return {**found, **whole, **self.fixed}

    def to_dict(self, task: Problem) -> dict[str, Any]:
        """What decides its results, as plain values; `task` lends a class its first parameters."""
        middle = {n: s.at(0.5) for n, s in self.space.items()}
        shown = self.shown if self.is_rule else {}
        found = stated.of_optimizer(self.what, self.fixed, task, shown=shown, searched=middle)
        return {**found, "space": {n: [s.low, s.high, s.scale] for n, s in self.space.items()}}


@dataclass(frozen=True)
class Plan:
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
    runners: tuple[Runner, ...]
    trials: int
    """Trainings of one study: one seed each study, and Sobol points of its own."""
    studies: int
    """Independent repetitions of the tuning."""
    fresh: int
    """Seeds that no study saw, on which winners are compared."""
    plans: Mapping[str, Plan]
    device: str = "cpu"
    first_seed: int = 0

    def block(self, problem: str, label: str) -> int:
        """How many lanes of a runner on a problem land together."""
        plan = self.plans[problem]
        return BLOCK if self.runner(label).is_rule and plan.engine != "one by one" else plan.block

    @property
    def around(self) -> int:
        """The fresh seeds on which multiples of the winner's learning rate are trained: no more trainings than the tuning."""
        return min(AROUND, self.fresh, max(1, self.studies * self.trials // len(MULTIPLES)))

    @property
    def study_seeds(self) -> range:
        """The seed of each study."""
        return range(self.first_seed, self.first_seed + self.studies)

    @property
    def fresh_seeds(self) -> range:
        """The seeds behind those of the studies."""
        return range(self.study_seeds.stop, self.study_seeds.stop + self.fresh)

    @property
    def metric_columns(self) -> dict[str, list[str]]:
        """By problem the columns of its metrics: "test accuracy"."""
        return {p.name: [f"{part} {name}" for part, name in p.metric_columns] for p in self.problems}

    def problem(self, name: str) -> Problem:
        """The problem of that name."""
        return next(p for p in self.problems if p.name == name)

    @property
    def schedule_names(self) -> tuple[str, ...]:
        """How the schedules are spelled."""
        return tuple(s.name for s in self.schedules)

    def runner(self, label: str) -> Runner:
        """The runner of that label."""
        return next(r for r in self.runners if r.label == label)

    @cached_property
    def stated(self) -> dict[str, Any]:
        """All that decides the results, as it will be read back from JSON; what a user sets stands before what follows from it.

        Once, before anything is trained: what is trained can change its own code's surroundings.
        """
        problems, steps = {}, {}
        for task in self.problems:
            plan = self.plans[task.name]
            steps[task.name] = plan.epochs * -(-task.samples // plan.batch_size)
            how = {"epochs": plan.epochs, "batch_size": plan.batch_size}
            problems[task.name] = {**how, **stated.of_problem(task)}
        return json.loads(  # type: ignore[no-any-return]
            json.dumps(
                {
                    "trials": self.trials,
                    "seeds": self.studies,
                    "fresh": self.fresh,
                    "first_seed": self.first_seed,
                    "schedules": self.schedule_names,
                    **({"functions": own} if (own := stated.of_schedules(self.schedules, steps)) else {}),
                    "device": self.device,
                    "versions": versions(),
                    "problems": problems,
                    "competitors": {r.label: r.to_dict(self.problems[0]) for r in self.runners},
                    "block": BLOCK,
                    "blocks one by one": {n: p.block for n, p in self.plans.items()},
                    "seeds of each multiple of the winner's lr": self.around,
                    "engines": {n: p.engine for n, p in self.plans.items()},
                    "threads of torch": {n: p.threads for n, p in self.plans.items()},
                }
            )
        )


def spec_of(
    rules: Sequence[Optimizable | Competitor] | Optimizable | Competitor | None, on: Sequence[str | Problem] | str | Problem | None, *,
    trials: int = TRIALS, seeds: int = STUDIES, fresh: int = FRESH, schedules: Sequence[Given] | Given = BOTH,
    epochs: int | None = None, batch_size: int | None = None, compile: Compile = "auto", device: str = "cpu",
    first_seed: int = 0,
) -> Spec:  # fmt: skip
    """The race of these arguments. Raises `StepruleError` where one does not fit."""
    trials, seeds, fresh = whole("trials", trials, 1), whole("seeds", seeds, 1), whole("fresh", fresh, 1)
    first_seed = whole("first_seed", first_seed, 0)
    epochs = None if epochs is None else whole("epochs", epochs, 1)
    batch_size = None if batch_size is None else whole("batch_size", batch_size, 1)
    one = on is None or isinstance(on, str | Problem) or not isinstance(on, Iterable)
    given: tuple[Any, ...] = PROBLEMS if on is None else (on,) if one else tuple(on)  # type: ignore[arg-type]
    if not given or not all(isinstance(p, str | Problem) for p in given):
        raise InputTypeError("problems", expected="problems or their names", got=repr(on))
    tasks = tuple(problems.get(p) for p in given)
    runners = tuple(_runner(c) for c in (catalogue.names() if rules is None else one_or_more(rules)))
    planned = schedules_of(schedules)
    named = {
        "rules": [r.label for r in runners],
        "problems": [t.name for t in tasks],
        "schedules": [s.name for s in planned],
    }
    for kind, names in named.items():
        if not names:
            raise InputError(kind, expected="at least one", got="none")
        if twice := {n for n in names if names.count(n) > 1}:
            hint = HINTS.get(kind, "")
            raise InputError(kind, expected="each once", got=f"{twice.pop()!r} twice", hint=hint)
    check_device(device)
    plans = {}
    for task in tasks:
        plan = {"epochs": epochs or task.epochs, "batch_size": task.batch_size_for(batch_size)}
        rule = next((r.what for r in runners if r.is_rule), None)
        lanes = sum(r.is_rule for r in runners) * (trials + fresh) * seeds * len(planned)
        recipe = Recipe(plan["epochs"], plan["batch_size"], device=device)
        engine: Engine = "one by one" if rule is None else choose(task, rule, lanes, recipe, compile).engine
        block = max(1, min(BLOCK, LONG // work_of(task, **plan)))
        threads = torch.get_num_threads() if is_large(blank(task)) and engine == "one by one" else 1
        plans[task.name] = Plan(**plan, engine=engine, block=block, threads=threads)
    return Spec(tasks, planned, runners, trials, seeds, fresh, plans, device, first_seed)


def usual_space(what: Any) -> Mapping[str, Search]:
    """What is searched of a competitor that names nothing: all numbers of a rule, as declared; of a class the learning rate alone."""
    if isinstance(what, Rule):
        return spaces.declared(what)
    return {"lr": spaces.RATE} if "lr" in inspect.signature(what).parameters else {}


def _runner(given: Optimizable | Competitor) -> Runner:
    found = load_object(given, kind="optimizer") if isinstance(given, str) and ":" in given else given
    own = found if isinstance(found, Competitor) else Competitor(given)  # type: ignore[arg-type]
    who = Trainable.of(own.optimizer)
    what, label = who.what, own.label or who.name
    for name, range_ in (own.space or {}).items():
        if not isinstance(range_, Search):
            raise InputTypeError(f"{label}: {name}", expected="a Search(low, high)", got=repr(range_))
    if isinstance(what, Rule):
        rule = for_training(what)
        for name in {**(own.space or {}), **own.hypers}:
            rule.setting(name)  # raises where the rule has none of that name
        known = {h.name: h for h in rule.hypers}
        space = spaces.space_of(what) if own.space is None else spaces.widened(own.space, known)
        fixed = {n: known[n].validate(v, rule.name) for n, v in own.hypers.items()}
    else:
        parameters = inspect.signature(what).parameters
        declared = usual_space(what) if own.space is None else own.space
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for name in {**declared, **own.hypers}:
            if name not in parameters and not takes_any:
                raise InputError(
                    f"{label}: {name}", expected="one of its arguments: " + ", ".join(parameters), got=repr(name)
                )
        space, fixed = spaces.of_class(declared), dict(own.hypers)
    return Runner(label, what, {n: s for n, s in space.items() if n not in fixed}, fixed)
