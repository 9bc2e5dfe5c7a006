"""Reads the annotations of a signature: the record that each hyperparameter and each slot makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from steprule.annotations import (
    AbsentAtFirst,
    Each,
    FullPrecision,
    Given,
    GivenTensor,
    Letter,
    Looks,
    Meaning,
    Neutral,
    OffAtZero,
    OnePerModel,
    OnePerTensor,
    PerColumn,
    PerRow,
    Square,
    StartsAt,
    marks_of,
)
from steprule.errors import InputTypeError, StepruleError
from steprule.hyper import FROM_THE_STEP, Hyper, Slot, Value
from steprule.search import Search


def hyper_from(name: str, default: object, annotation: object) -> Hyper:
    """The record of a keyword-only parameter. Raises `InputTypeError` where the default is none that its annotation allows."""
    kind = getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    value: Value
    if choices:
        if default not in choices:
            raise InputTypeError(f"hyperparameter {name}", expected=f"a default of {list(choices)}", got=repr(default))
        value = default  # type: ignore[assignment]
    elif isinstance(default, bool):
        value = default
    elif not isinstance(default, int | float):
        hint = f'Write {name}: Literal["a", "b"] = "a" for a choice.' if isinstance(default, str) else ""
        raise InputTypeError(
            f"hyperparameter {name}", expected="a number or a bool as default", got=repr(default), hint=hint
        )
    elif kind is int and default != int(default):
        raise InputTypeError(f"hyperparameter {name}", expected="a whole number as default", got=repr(default))
    else:
        value = int(default) if kind is int else float(default)
    marks = list(marks_of(annotation))
    meaning = next((m for m in marks if isinstance(m, Meaning)), Meaning(""))
    found = Hyper(
        name=name,
        default=value,
        bounds=tuple(m for m in marks if isinstance(m, Ge | Gt | Le | Lt)),
        meaning=meaning.text,
        letter=meaning.letter,
        search=next((m for m in marks if isinstance(m, Search)), None),
        off_at_zero=any(isinstance(m, OffAtZero) for m in marks),
        given=next((m for m in marks if isinstance(m, Given)), None),
        choices=choices,
        # The outermost counts: Annotated[Decay, Neutral(0.5)] says otherwise than Decay.
        neutral=next((m.value for m in reversed(marks) if isinstance(m, Neutral)), None),
    )
    if found.neutral is not None:
        try:
            found.validate(found.neutral, "Neutral")
        except StepruleError as error:
            what = f"hyperparameter {name}: Neutral({found.neutral!r})"
            raise InputTypeError(what, expected=error.expected, got=error.got) from None
    return found


def slot_from(name: str, annotation: object) -> Slot:
    """The record of a positional parameter after `p, g`."""
    start: float | str = 0.0
    per_tensor = per_model = absent = full = False
    letter = first = shape = ""
    for mark in marks_of(annotation):
        match mark:
            case StartsAt(value) if value in FROM_THE_STEP:
                first, absent = str(value), True
            case StartsAt(value):
                start = value if isinstance(value, str) else float(value)
            case OnePerTensor(value):
                per_tensor, start = True, value if isinstance(value, str) else float(value)
            case OnePerModel(value):
                per_model, start = True, value if isinstance(value, str) else float(value)
            case AbsentAtFirst():
                absent = True
            case FullPrecision():
                full = True
            case PerRow() | PerColumn():
                shape = "row" if isinstance(mark, PerRow) else "column"
            case Square(of):
                shape = of
            case Letter(latex):
                letter = latex
            case Looks():
                raise InputTypeError("annotation", expected="that of a slot", got="Looks, which is of gradient alone")
    return Slot(name, start, per_tensor, absent, letter, full, first, per_model, shape)


def family_from(name: str, default: tuple[Any, ...], annotation: object) -> tuple[Hyper, ...]:
    """The records of a keyword-only parameter that is a tuple of numbers: betas gives beta1, beta2 and so on.

    `tuple[Decay, ...]` says one thing of all its numbers, `tuple[Shrink, Grow]` one of each.
    """
    if not default:
        raise InputTypeError(f"hyperparameter {name}", expected="a tuple of one number or more as default", got="none")
    kinds = [a for a in get_args(annotation) if a is not ...] or [None]
    lettered = len(kinds) == 1  # one letter for all of them, with an index
    if len(kinds) == 1:
        kinds *= len(default)
    if len(kinds) != len(default):
        raise InputTypeError(
            f"hyperparameter {name}", expected=f"a tuple of {len(kinds)} as default", got=repr(default)
        )
    names = [f"{name.removesuffix('s')}{k}" for k in range(1, len(default) + 1)]
    found = [hyper_from(n, value, of) for n, value, of in zip(names, default, kinds, strict=True)]
    if lettered:
        found = [replace(h, letter=f"{h.letter}_{{{k}}}") if h.letter else h for k, h in enumerate(found, 1)]
    return tuple(replace(hyper, family=name) for hyper in found)


def looks_of(annotation: object) -> int:
    """How often a step may look, by the annotation of `gradient`."""
    return next((m.count for m in marks_of(annotation) if isinstance(m, Looks)), 1)


def given_of(annotation: object) -> GivenTensor | None:
    """The mark of a tensor that a step is given."""
    return next((m for m in marks_of(annotation) if isinstance(m, GivenTensor)), None)


def each_of(annotation: object) -> Each | None:
    """The mark of a family of slots."""
    return next((m for m in marks_of(annotation) if isinstance(m, Each)), None)
