"""What an optimizer is: the catalogue of rules, one family a file, in reading order, simplest first.

>>> from steprule import rules
>>> rules.names()[:3]
('sgd', 'adagrad', 'adagrad_eps_inside')
>>> rules.get("adam") is rules.adam
True
"""

from __future__ import annotations

from types import MappingProxyType

from steprule.rules.adadelta import adadelta
from steprule.rules.adagrad import adagrad, adagrad_eps_inside
from steprule.rules.adam import adam, adamw
from steprule.rules.adamax import adamax
from steprule.rules.lamb import lamb
from steprule.rules.lars import lars
from steprule.rules.lion import lion
from steprule.rules.load import catalogued, resolve_in
from steprule.rules.nadam import nadam
from steprule.rules.radam import radam
from steprule.rules.rmsprop import rmsprop, rmsprop_eps_inside
from steprule.rules.rule import Paper, Rule, rule
from steprule.rules.sgd import sgd

CATALOGUE = MappingProxyType(
    {r.name: r for r in (
        sgd, adagrad, adagrad_eps_inside, rmsprop, rmsprop_eps_inside, adadelta, adam, adamw, adamax, nadam, radam, lion, lars, lamb,
    )}
)  # fmt: skip


def names() -> tuple[str, ...]:
    """The names in the catalogue, simplest first."""
    return tuple(CATALOGUE)


def get(name: str) -> Rule:
    """The catalogue's rule of that name. Raises `UnknownNameError` with the nearest one."""
    return catalogued(name, CATALOGUE)


def resolve(spec: Rule | str) -> Rule:
    """A rule from any way to say one: a rule, a catalogue name, `file.py:name` or `package.module:name`."""
    return resolve_in(spec, CATALOGUE)


__all__ = [
    "CATALOGUE", "Paper", "Rule", "adadelta", "adagrad", "adagrad_eps_inside", "adam", "adamax", "adamw", "get", "lamb", "lars", "lion",
    "nadam", "names", "radam", "resolve", "rmsprop", "rmsprop_eps_inside", "rule", "sgd",
]  # fmt: skip
