"""Read what is typed: `--set lr=0.4`, `--set adam.lr=0.1`, `--start -5,-2`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from typing import Any

from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.hyper import Search
from steprule.rules.parts import composed
from steprule.rules.rule import Rule


def settings_for(rules: Sequence[Rule], texts: Sequence[str]) -> list[dict[str, Any]]:
    """The hyperparameters of each rule from `name=value`, for all that have it, and `rule.name=value`, for one.

    Raises `InputError` where none has it, or a value does not fit.
    """
    found: list[dict[str, Any]] = [{} for _ in rules]
    for text in texts:
        target, name, value = _taken_apart(text)
        if target and target not in {r.name for r in rules}:
            raise unknown_name("rule", target, [r.name for r in rules], where=f" in --set {text}")
        takers = [k for k, rule in enumerate(rules) if target in ("", rule.name) and _has(rule, name)]
        if not takers:
            names = dict.fromkeys(n for r in rules if target in ("", r.name) for n in r.defaults)
            of = target or ", ".join(r.name for r in rules)
            raise unknown_name("hyperparameter", name, names, where=f" of {of}")
        for k in takers:
            found[k][name] = _parsed(rules[k], name, value)
    return found


def ranges_for(rule: Rule, texts: Sequence[str]) -> dict[str, Search]:
    """The ranges to draw from: `name` for the rule's own, `name=low..high` for another. None: the learning rate's."""
    found = {}
    for text in texts or (["lr"] if "lr" in rule.defaults else []):
        name, _, bounds = text.partition("=")
        hyper = rule.hyper(name.strip())
        if hyper.is_plain and not hyper.is_whole:
            got = f"{hyper.name}, which is {hyper.range}"
            raise InputError(
                f"--vary {text}", expected="a number, which has a range", got=got, hint="Write --set, a sweep for each."
            )
        low, dots, high = bounds.partition("..")
        if bounds and not dots:
            raise InputError(f"--vary {text}", expected="name or name=low..high", got=repr(bounds), hint="lr=1e-4..1")
        if bounds:
            ends = [float(hyper.parse(end, rule.name)) for end in (low, high)]
            scale = hyper.search.scale if hyper.search else "linear"
            if not ends[0] < ends[1] or (scale == "log" and ends[0] <= 0):
                least = "above 0 " if scale == "log" else ""
                raise InputError(f"--vary {text}", expected=f"low {least}and below high", got=repr(bounds))
            found[hyper.name] = Search(ends[0], ends[1], scale)
        elif hyper.search is None:
            raise InputError(f"--vary {text}", expected="a range", got="none", hint=f"Write {name}=low..high.")
        else:
            found[hyper.name] = hyper.search
    return found


def hypers_for(what: Any, texts: Sequence[str]) -> dict[str, Any]:
    """The hyperparameters of one rule, or the arguments of one class or factory."""
    return settings_for([composed(what)], texts)[0] if isinstance(what, Rule) else settings_of_class(what, texts)


def settings_of_class(make: Any, texts: Sequence[str]) -> dict[str, Any]:
    """The arguments of an Optimizer class or factory from `name=value`; values as Python writes them."""
    found = {}
    for text in texts:
        target, name, value = _taken_apart(text)
        if target and target != getattr(make, "__name__", ""):
            known = [getattr(make, "__name__", "")]
            raise unknown_name("optimizer", target, known, where=f" in --set {text}")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            words = {"true": True, "false": False, "nan": float("nan"), "inf": float("inf")}
            found[name] = words.get(value.lower(), value)
        default = inspect.signature(make).parameters.get(name)
        if default is not None and isinstance(default.default, int | float) and isinstance(found[name], str):
            raise InputTypeError(f"--set {text}", expected="a number or True or False", got=repr(value))
    return found


def point(text: str | None) -> tuple[float, float] | None:
    """`-5,-2` as a point."""
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError("--start", expected="two numbers x,y", got=repr(text), hint="Write --start=-5,-2.") from None
    return x, y


def _taken_apart(text: str) -> tuple[str, str, str]:
    left, sign, value = text.partition("=")
    if not sign or not left or not value:
        raise InputError("--set", expected="name=value or rule.name=value", got=repr(text), hint="Write --set lr=0.1.")
    target, _, name = left.strip().rpartition(".")
    return target, name, value.strip()


def _has(rule: Rule, name: str) -> bool:
    return name in rule.defaults or (name == "betas" and bool(rule.betas))


def _parsed(rule: Rule, name: str, value: str) -> Any:
    if name != "betas":
        return rule.hyper(name).parse(value, rule.name)
    parts = value.strip("()").split(",")
    return tuple(rule.hyper(n).parse(v, rule.name) for n, v in zip(rule.betas, parts, strict=False))
