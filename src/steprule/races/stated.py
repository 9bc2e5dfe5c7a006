"""What decides a race's results, as plain values: its problems, own schedules and competitors.

A problem is stated by its data, weights and code, a schedule of one's own by its code and its factors, a competitor by its code, its
defaults and what it makes. What a reader understands stands first, then digests; in this order a difference is named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from steprule.alone import drawing, seed
from steprule.compiler import formula
from steprule.compiler.variant import variant_of
from steprule.errors import InputError
from steprule.identity import identify, identity, unknown
from steprule.per_kind import PerKind
from steprule.problems.facts import evaluating
from steprule.problems.problem import Problem
from steprule.problems.source import PARTS, stream
from steprule.races.competitor import Entrant
from steprule.rules.parts import for_training
from steprule.rules.rule import Rule
from steprule.schedules import Schedule
from steprule.trainable import Stating, Trainable, stated
from steprule.training.recipe import Recipe

MADE_OF = "made of"
"""Beside a digest: the places behind it, by which a difference is named. They decide nothing themselves."""
MEASURED = 1_000
"""Samples on which a problem's first loss is taken."""


@dataclass(frozen=True)
class Parts:
    """What a race is made of, each by name."""

    problems: Mapping[str, Any]
    functions: Mapping[str, Any]
    """Schedules of one's own."""
    competitors: Mapping[str, Any]


def of_race(
    tasks: Sequence[Problem], how: Mapping[str, Mapping[str, int]], planned: Iterable[Schedule], entrants: Iterable[Entrant]
) -> Parts:  # fmt: skip
    """The parts of a race; `how` has the epochs and the batch size of each problem."""
    sizes = {name: (size["epochs"], size["batch_size"]) for name, size in how.items()}
    steps = {task.name: Recipe(*sizes[task.name]).steps(task) for task in tasks}
    return Parts(
        problems={task.name: {**how[task.name], **of_problem(task)} for task in tasks},
        functions=of_schedules(planned, steps),
        competitors={entrant.label: of_entrant(entrant, tasks[0]) for entrant in entrants},
    )


def of_problem(task: Problem) -> dict[str, Any]:
    """A problem. Raises `InputError` where its model cannot be run on its own data."""
    found: dict[str, Any] = {f"{_DATA[part]} data": _data_of(task, part) for part in PARTS}
    model = of_model(task)
    found["model"] = model.pop("model")
    if task.training_step:
        found["training_step"] = of_code(task.training_step, "its training step")
    else:
        found["loss"] = of_code(task.loss, "its loss")
    if task.metrics:
        found["metrics"] = {n: of_code(m, f"its metric {n}") for n, m in task.metrics.items()}
    return {**found, **model}


def of_model(task: Problem) -> dict[str, Any]:
    """A problem's model: its code, its first weights, and its loss with them."""
    model = task.initial_model(0)
    weights = _weights_of(model)
    if weights != _weights_of(task.initial_model(0)):
        weights = unknown("its first weights: others each time the model is made")
    return {
        "model": of_code(task.model, "its model"),
        "first weights": weights,
        "first model": identity(model, "its model"),
        "first loss": _first_loss(task, model),
    }


_DATA = {"train": "training", "validation": "validation", "test": "test"}


def _data_of(task: Problem, part: str) -> Any:
    what = f"its {_DATA[part]} data"
    return task.parts[part].stated(what) if part in task.parts else identity(None, what)


def of_entrant(entrant: Entrant, task: Problem) -> dict[str, Any]:
    """A competitor: a rule, or what makes an optimizer. `task` lends a class its first parameters."""
    what, fixed, own = entrant.what, entrant.fixed, entrant.trains(task)
    searched = {n: s.at(0.5) for n, s in entrant.space.items()}  # with which a class can be called
    defaults = stated(what).settings if isinstance(what, Stating) else _defaults(what)
    still = {n: v for n, v in {**defaults, **fixed}.items() if n not in searched}
    found: dict[str, Any] = {"optimizer": Trainable.of(what).name}
    found["defaults"] = {n: plain(v, f"default {n}") for n, v in defaults.items()}
    found["set"] = {n: plain(v, n) for n, v in still.items()}
    if isinstance(what, Rule):
        found["slots"] = {slot.name: slot.starts for slot in what.states}
        found["formula"] = formula.whole(variant_of(for_training(what), entrant.shown))
    if isinstance(what, PerKind):
        found["rules"] = {kind: _said_of(rule) for kind, rule in what.rules.items()}
    found["code"] = of_code(what, Trainable.of(what).name)
    if not isinstance(what, Stating):
        found["made"] = _made(what, {**searched, **fixed}, own)
    found["space"] = {n: [s.low, s.high, s.scale] for n, s in entrant.space.items()}
    return found if entrant.model is None else {**found, **of_model(own)}


def _said_of(rule: Rule) -> dict[str, Any]:
    """What a reader understands of one rule among several: its states, and its formula as it trains by default."""
    whole = for_training(rule)
    formula_ = formula.whole(variant_of(whole, whole.settings))
    return {"slots": {slot.name: slot.starts for slot in rule.states}, "formula": formula_}


def of_schedules(planned: Iterable[Schedule], steps: Mapping[str, int]) -> dict[str, Any]:
    """The functions of one's own among schedules: their code, and their factors in so many steps of each problem.

    The others are known by their names. Raises `InputError` where a factor cannot be used.
    """
    return {
        s.name: {"code": of_code(s.own, s.name), "factors": _factors(s, steps)} for s in planned if s.own is not None
    }


def _factors(schedule: Schedule, steps: Mapping[str, int]) -> dict[str, str]:
    found = {}
    for problem, total in steps.items():
        factors = schedule.factors(total)
        same = factors == schedule.factors(total)
        found[problem] = identity(factors) if same else unknown("its factors: others each time it is asked")
    return found


def of_code(what: object, name: str) -> dict[str, Any]:
    """The digest of code with the places behind it."""
    found = identify(what, name)
    return {"identity": found.digest, MADE_OF: dict(found.parts)}


def plain(value: object, name: str) -> Any:
    """A value as JSON has it; what JSON has not by its identity."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and value == value:  # nan would not equal itself
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, list | tuple):
        return [plain(v, f"{name}[{k}]") for k, v in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(n, str) for n in value):
        return {n: plain(v, f"{name}.{n}") for n, v in value.items()}
    return identity(value, name)


def _defaults(what: Callable[..., Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(what).parameters
    except (TypeError, ValueError):
        return {}
    return {n: p.default for n, p in parameters.items() if p.default is not p.empty}


def _made(what: Callable[..., Any], hypers: Mapping[str, Any], task: Problem) -> Any:
    """The settings of the optimizer that a class or factory makes: they may come from outside Python, as a file does.

    Only attributes that two instances share count: others are numbers and times of their own.
    """
    settings, attributes = [], []
    try:
        for _ in range(2):
            model = task.initial_model(0)
            with drawing():
                seed(stream(0, 2))
                made = what(model.parameters(), **hypers)
            groups = [{n: v for n, v in group.items() if n != "params"} for group in made.param_groups]
            settings.append(plain(groups, "settings"))
            attributes.append({n: v for n, v in vars(made).items() if isinstance(v, bool | int | float | str)})
    except Exception:  # noqa: BLE001  (the training meets it again, and says it)
        return None
    one, other = attributes
    shared = {n: plain(v, n) for n, v in one.items() if n[0] != "_" and other.get(n) == v}
    if settings[0] != settings[1]:
        return unknown("its settings: others each time it is made")
    return {"groups": settings[0], "attributes": shared}


def _weights_of(model: nn.Module) -> str:
    return identity([*model.named_parameters(), *model.named_buffers()], "its first weights")


def _first_loss(task: Problem, model: nn.Module) -> str:
    """The loss before the first step, in eval mode: it shows what a loss or a model takes from outside Python.

    To three digits: another processor has other last bits.
    """
    try:
        with evaluating(model), drawing(), torch.no_grad():
            found = []
            for _ in range(2):
                seed(stream(0, 2))
                value = task.loss_of(model, task.parts["train"].few(MEASURED))
                found.append(f"{float(value):.3g}")
    except Exception as error:
        got = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"problem {task.name}", expected="a model and a loss that run on its data", got=got) from error
    if found[0] == found[1]:
        return found[0]
    return unknown("its loss: another number each time it is measured")
