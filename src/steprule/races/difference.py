"""Where two races part, in words; and what is said where that cannot be known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steprule.errors import InputError
from steprule.identity import unknown_in
from steprule.races.stated import MADE_OF

ELSEWHERE = "Give another folder with --out, or move this one away."


class CannotGoOn(UserWarning):
    """A race whose results can be read, but not taken up again: what it is made of cannot be identified."""


def refuse_another(where: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any], hint: str = ELSEWHERE) -> None:
    """Raise `InputError` where the results at `where`, of the race `theirs`, are not surely those of the race `ours`."""
    if unknown := next(unknowns_in(ours), None) or next(unknowns_in(theirs), None):
        what = f"{where} holds results, and nobody can tell whether they are of this race"
        raise InputError(what, expected="what can be identified", got=unknown, hint=hint)
    if difference := difference_of(theirs, ours):
        name, their, our = difference
        raise InputError(f"{where} holds another race, which differs in {name}", expected=our, got=their, hint=hint)


def warn_of_unknown(ours: Mapping[str, Any]) -> None:
    """Warn `CannotGoOn` where results of the race `ours` could not be taken up again."""
    if unknown := next(unknowns_in(ours), None):
        message = f"this race runs, but it cannot be interrupted and go on: {unknown}, which cannot be identified"
        warnings.warn(message, CannotGoOn, stacklevel=2)


def unknowns_in(stated: Any, where: str = "") -> Iterator[str]:
    """What of a race cannot be identified, with where it stands: "competitors.mine, closure variable rng of make: a generator"."""
    if isinstance(stated, dict):
        for key, value in stated.items():
            yield from unknowns_in(value, _inside(where, key))
    elif isinstance(stated, list):
        for k, value in enumerate(stated):
            yield from unknowns_in(value, f"{where}[{k}]")
    elif found := unknown_in(stated):
        yield f"{where}, {found}"


def difference_of(theirs: Any, ours: Any, where: str = "") -> tuple[str, str, str] | None:
    """The first place where two races part: (where, theirs, ours). First in the order in which a race is stated."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if "identity" in ours and theirs.get("identity") == ours["identity"]:
            return None
        found: tuple[str, str, str] | None
        for key in [*ours, *(k for k in theirs if k not in ours)]:
            if key == MADE_OF:
                continue
            if key == "identity":
                found = _part(theirs, ours, where)
            elif key in theirs and key in ours:
                found = difference_of(theirs[key], ours[key], _inside(where, key))
            else:
                found = _inside(where, key), *_said(theirs.get(key), ours.get(key))
            if found:
                return found
        return None
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours) and _holds_more(ours):
        for k, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            if found := difference_of(a, b, f"{where}[{k}]"):
                return found
        return None
    return None if theirs == ours else (where, *_said(theirs, ours))


def _holds_more(values: list[Any]) -> bool:
    return any(isinstance(v, dict | list) for v in values)


def _part(theirs: dict[str, Any], ours: dict[str, Any], where: str) -> tuple[str, str, str]:
    """The first place behind a digest where two things part: one that both have, if there is such a one."""
    their, our = theirs.get(MADE_OF, {}), ours.get(MADE_OF, {})
    for name in sorted({**our, **their}, key=lambda n: n not in our or n not in their):
        a, b = their.get(name), our.get(name)
        if a != b:
            return f"{where}, {name}", *(_said(a, b) if _is_digest(a) or _is_digest(b) else (a or "none", b or "none"))
    return where, *_said(theirs["identity"], ours["identity"])


def _said(theirs: Any, ours: Any) -> tuple[str, str]:
    """Both in words; digests tell nobody anything."""
    if _is_digest(theirs) or _is_digest(ours):
        return "another" if theirs is not None else "none", "what it is now" if ours is not None else "none"
    return _short(theirs), _short(ours)


def _is_digest(value: Any) -> bool:
    text = value.removeprefix("#") if isinstance(value, str) else ""
    return len(text) == 16 and set(text) <= set("0123456789abcdef")


def _inside(where: str, key: str) -> str:
    if key in ("identity", "code"):
        return where
    return f"{where}.{key}" if where else key


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "one"
    if isinstance(value, list):
        return ", ".join(str(v.get("label", v)) if isinstance(v, dict) else str(v) for v in value) or "none"
    return "none" if value is None else repr(value)
