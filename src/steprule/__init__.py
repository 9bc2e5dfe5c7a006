"""steprule: an optimizer is one function.

Write the update rule once, as the paper prints it; from that one function come the path on a surface, the training on
real data and the race against other rules.

>>> import steprule
>>> steprule.rules.get("adam").title, "adadelta" in steprule.rules.names()
('Adam', True)
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from steprule import display as _display, extras, modules as _modules, rules
from steprule.compiler import threads as _threads  # before anything forks  # noqa: F401
from steprule.rules.rule import Rule, rule

if TYPE_CHECKING:
    from steprule.checking import check as check, which as which
    from steprule.optim.mixture import by_kind as by_kind
    from steprule.paths import Trace as Trace, trace as trace
    from steprule.problems.problem import Problem as Problem
    from steprule.races import Race as Race, race as race
    from steprule.races.ablation import Ablation as Ablation, ablate as ablate
    from steprule.races.judging import Judgement as Judgement, judge as judge
    from steprule.sweeps import Sweep as Sweep, sweep as sweep
    from steprule.training import Run as Run, train as train

__version__ = version("steprule")

# Loaded at first use: `import steprule` takes neither torch nor sympy with it.
_LATER = {
    "trace": "paths",
    "Trace": "paths",
    "train": "training",
    "Run": "training",
    "Problem": "problems.problem",
    "sweep": "sweeps",
    "Sweep": "sweeps",
    "race": "races",
    "Race": "races",
    "races": "",
    "judge": "races.judging",
    "ablate": "races.ablation",
    "Ablation": "races.ablation",
    "Judgement": "races.judging",
    "d2l": "",
    "schedules": "",
    "optim": "",
    "by_kind": "optim.mixture",
    "metrics": "",
    "check": "checking",
    "which": "checking",
}

__all__ = [
    "Ablation",
    "Judgement",
    "Problem",
    "Race",
    "Rule",
    "Run",
    "Sweep",
    "Trace",
    "ablate",
    "by_kind",
    "check",
    "d2l",
    "judge",
    "metrics",
    "optim",
    "race",
    "rule",
    "rules",
    "schedules",
    "sweep",
    "trace",
    "train",
    "which",
]


# matplotlib is loaded at the first picture.
_display.draw_by(lambda: import_module("steprule.reports.notebook"))


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise _modules.no_attribute(name, None, __name__)
    with extras.needed():
        module = import_module(f"steprule.{_LATER[name] or name}")
        return getattr(module, name) if _LATER[name] else module


__dir__ = _modules.public(globals())
