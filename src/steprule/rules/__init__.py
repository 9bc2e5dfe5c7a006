"""What an optimizer is: the catalogue of rules, each found by its file's being in this folder, simplest first.

The order is that of the families (`FAMILIES` in rule.py), then of the papers. An underscore hides what belongs to no catalogue.

>>> from steprule import rules
>>> [name for name in rules.names() if name.startswith(("sgd", "adagrad"))]
['sgd', 'adagrad', 'adagrad_eps_inside']
>>> rules.get("adam") is rules.adam
True
"""

from __future__ import annotations

import warnings
from types import MappingProxyType

from steprule.errors import unknown_name
from steprule.modules import no_attribute, public
from steprule.rules.catalogue import found_in
from steprule.rules.load import catalogued, resolve_in
from steprule.rules.lookahead import lookahead
from steprule.rules.rule import Paper, Rule, rule
from steprule.rules.sam import sam

_FOUND, _FAULTS = found_in(__name__, __path__)
CATALOGUE = MappingProxyType({name: found.seal() for name, found in _FOUND.items()})

for _fault in _FAULTS.values():
    warnings.warn(f"left out of the catalogue: {_fault}", RuntimeWarning, stacklevel=2)

__all__ = ["CATALOGUE", "Paper", "Rule", "get", "lookahead", "names", "resolve", "rule", "sam"]
# `steprule.rules.adam` is the rule, also where a file has that name.
globals().update(CATALOGUE)
__all__ += CATALOGUE


def names() -> tuple[str, ...]:
    """The names in the catalogue, simplest first."""
    return tuple(CATALOGUE)


def get(name: str) -> Rule:
    """The catalogue's rule of that name. Raises `UnknownNameError` with the nearest one, `RuleError` where its file has a fault."""
    return catalogued(name, CATALOGUE, _FAULTS)


def resolve(spec: Rule | str) -> Rule:
    """A rule from any way to say one: a rule, a catalogue name, `file.py:name` or `package.module:name`."""
    return resolve_in(spec, CATALOGUE, _FAULTS)


def __getattr__(name: str) -> Rule:
    """What is not there. Its type says to type checkers that `steprule.rules.adam` is a Rule."""
    if name.startswith("__"):
        raise no_attribute(name, None, __name__)
    raise no_attribute(name, _FAULTS.get(name) or unknown_name("rule", name, CATALOGUE), __name__)


__dir__ = public(globals())
