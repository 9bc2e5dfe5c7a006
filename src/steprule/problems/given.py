"""A problem is made of what people have: data are read and split, a loss is chosen, and it is tried."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from steprule.alone import drawing
from steprule.errors import InputError, InputTypeError, check_arguments, unknown_name
from steprule.problems import batch
from steprule.problems.arrays import Reader, standardised
from steprule.problems.facts import evaluating, facts_of
from steprule.problems.options import ARRAY_DEFAULTS, DEFAULTS, ArrayOptions, Options
from steprule.problems.scoring import check_metrics
from steprule.problems.split import parts_of
from steprule.problems.table import Lines, is_table, table_of
from steprule.problems.task import Task, by_the_step, fresh_model

Kind = TypeVar("Kind", bound=Task)
"""The class of the problem that is made."""
Parts = dict[str, tuple[Any, Any]]
"""By part features and targets."""


def from_arrays(
    kind: type[Kind], features: Any, targets: Any, model: Callable[..., nn.Module], loss: Any, given: ArrayOptions
) -> Kind:
    """`Problem.from_arrays`."""
    check_arguments(given, ArrayOptions, "Problem.from_arrays")
    options: ArrayOptions = {**ARRAY_DEFAULTS, **given}
    where = f"problem {options['name']}"
    parts, categories = _read(features, targets, options, where)
    make = _maker(model, parts, where)
    parts = _in_kind_of(make, parts, where)
    x, y = parts["train"]
    chosen = loss is None and options["training_step"] is None
    if loss is None:
        loss = _loss_for(y, where) if chosen else by_the_step
    made = kind(
        name=options["name"],
        summary=options["summary"] or _summary(parts, categories),
        features=x,
        targets=y,
        model=make,
        loss=loss,
        validation=parts.get("validation"),
        test=parts.get("test"),
        batch_size=options["batch_size"],
        epochs=options["epochs"],
        floor=options["floor"],
        training_step=options["training_step"],
        metrics=options["metrics"],
        categories=categories,
    )
    return tried(_with_the_outputs_shape(made) if chosen else made)


def _read(features: Any, targets: Any, options: ArrayOptions, where: str) -> tuple[Parts, dict[str, tuple[str, ...]]]:
    """The data as tensors, by part; and of each column of text its categories."""
    given: Parts = {"train": (features, targets)}
    for part, pair in (("validation", options["validation"]), ("test", options["test"])):
        if pair is not None:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                got = f"a {type(pair).__name__}"
                raise InputTypeError(f"{where}: {part}", expected="a pair (features, targets)", got=got)
            given[part] = pair[0], pair[1]
    split, groups, columns = options["split"], options["groups"], options["columns"]
    if is_table(features):
        x, y, split, groups = _columns(features, targets, split, groups, columns, where)
        given["train"] = x, y
        for part in given.keys() - {"train"}:
            given[part] = _columns(*given[part], None, None, columns, f"{where}: {part}")[:2]
    elif columns is not None:
        raise InputError(f"{where}: columns", expected="features in a table", got=f"a {type(features).__name__}")
    reader = Reader(options["name"], features.row if isinstance(features, Lines) else "row {}".format)
    inputs = reader.features({part: pair[0] for part, pair in given.items()})
    answers: dict[str, Any] = dict.fromkeys(given)
    if targets is not None or options["training_step"] is None:
        answers = reader.targets({part: pair[1] for part, pair in given.items()})
    if isinstance(targets, str) and is_table(features):
        answers = {part: own[:, 0] for part, own in answers.items()}
    parts = {part: (inputs[part], answers[part]) for part in given}
    for part, pair in parts.items():
        _check_counts(*pair, where if part == "train" else f"{where}: {part}")
    if split is not None or groups is not None:
        parts = _split(parts, split, where, groups=groups, shuffle=options["shuffle"], seed=options["split_seed"])
    if options["standardize"]:
        scaled = standardised({part: pair[0] for part, pair in parts.items()})
        parts = {part: (scaled[part], pair[1]) for part, pair in parts.items()}
    return parts, reader.categories


def from_dataloaders(kind: type[Kind], train: Any, model: Any, loss: Any, given: Options) -> Kind:
    """`Problem.from_dataloaders`."""
    check_arguments(given, Options, "Problem.from_dataloaders")
    options: Options = {**DEFAULTS, **given}
    every = {"train": train, "validation": options["validation"], "test": options["test"]}
    loaders = {part: loader for part, loader in every.items() if loader is not None}
    summary = "batches of " + ", ".join(f"{part} ({type(own).__name__})" for part, own in loaders.items())
    made = kind(
        name=options["name"],
        summary=options["summary"] or summary,
        features=None,
        targets=None,
        model=model,
        loss=by_the_step if loss is None else loss,
        epochs=options["epochs"],
        floor=options["floor"],
        training_step=options["training_step"],
        metrics=options["metrics"],
        loaders=loaders,
    )
    for part in made.parts.values():
        part.check()  # type: ignore[attr-defined]  # they are loaders
    made = replace(made, batch_size=made.parts["train"].batch_size or 1)
    facts_of(made)
    return made


def tried(made: Kind) -> Kind:
    """The problem, once a few of its samples were trained on and measured. Raises `InputError` where something does not fit."""
    facts_of(made)
    check_metrics(made)
    return made


def _columns(
    features: Any, targets: Any, split: Any, groups: Any, columns: Any, where: str
) -> tuple[Any, Any, Any, Any]:
    """A table's `columns`, or all that are not named as targets, split or groups; and these three."""
    table = table_of(features, f"{where}: features")

    def taken(what: str, names: list[Any]) -> Any:
        for column in names:
            if column not in table.column_names:
                raise unknown_name("column", column, table.column_names, where=f" for the {what} of {where}")
        return table.select(names)

    own: list[str] = []
    if isinstance(targets, str):
        own = [targets]
    elif isinstance(targets, list) and all(isinstance(t, str) for t in targets) and len(targets) < len(table):
        own = targets  # a list as long as the table holds the targets themselves
    outside = list(own)
    if own:
        targets = taken("targets", own)
    if isinstance(split, str):
        outside.append(split)
        split = taken("split", [split])[split].to_pylist()
    if isinstance(groups, str):
        outside.append(groups)
        groups = taken("groups", [groups])[groups].to_pylist()
    left = [n for n in table.column_names if n not in outside]
    if columns is not None:
        chosen = [columns] if isinstance(columns, str) else list(columns)
        taken("features", chosen)
        if both := [n for n in chosen if n in outside]:
            raise InputError(f"{where}: columns", expected="features alone", got=f"{both[0]!r}, named otherwise too")
        left = list(dict.fromkeys(chosen))
    if not left:
        raise InputError(f"{where}: features", expected="a column beside the targets", got="none")
    return table.select(left), targets, split, groups


def _check_counts(x: Any, y: Any, where: str) -> None:
    count = batch.count(x, f"{where}: features")
    answers = count if y is None else batch.count(y, f"{where}: targets")
    if answers != count or not count:
        got = f"{count} and {answers}"
        raise InputError(f"{where}: features", expected="as many targets as samples, 1 or more", got=got)


def _split(parts: Parts, split: Any, where: str, **how: Any) -> Parts:
    x, y = parts["train"]
    found = {}
    for part, rows in parts_of(batch.count(x), split, where, **how).items():
        if part in parts and part != "train":
            raise InputError(f"{where}: {part}", expected="it once", got="it alone and in the split")
        numbers = torch.from_numpy(rows)
        found[part] = batch.taken(x, numbers), None if y is None else batch.taken(y, numbers)
    return {**parts, **found}


def _maker(model: Any, parts: Parts, where: str) -> Any:
    """What makes a model without arguments, from that or from what takes the numbers of inputs and outputs."""
    if isinstance(model, nn.Module) or not callable(model):
        return model  # refused by Problem
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):
        return model
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not needed:
        return model
    if len(needed) != 2 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        got = "one of " + ", ".join(p.name for p in needed)
        expected = "a function without arguments, or of (inputs, outputs)"
        raise InputTypeError(f"{where}: model", expected=expected, got=got, hint="Write lambda: Model(...).")
    x, y = parts["train"]
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.ndim != 2:
        hint = "Write lambda: Model(...), with its sizes."
        got = f"features of shape {list(x.shape)}" if isinstance(x, Tensor) else "several inputs"
        raise InputTypeError(f"{where}: model", expected="features [rows, columns], to count them", got=got, hint=hint)
    classes = [int(own[1].max()) + 1 for own in parts.values()]
    return partial(model, x.shape[1], y[0].numel() if y.is_floating_point() else max(classes))


def _in_kind_of(make: Callable[[], nn.Module], parts: Parts, where: str) -> Parts:
    """The parts with their floats in the kind of the model's parameters."""
    if isinstance(make, nn.Module) or not callable(make):
        return parts
    with drawing():
        found = fresh_model(make, where)
    kinds = [p.dtype for p in found.parameters() if p.is_floating_point()]
    kind = kinds[0] if kinds else torch.get_default_dtype()

    def fitted(t: Tensor) -> Tensor:
        return t.to(kind) if t.is_floating_point() else t

    def of(data: Any) -> Any:
        return None if data is None else batch.mapped(data, fitted)

    return {part: (of(x), of(y)) for part, (x, y) in parts.items()}


def _loss_for(targets: Any, where: str) -> Any:
    if not isinstance(targets, Tensor):
        raise InputError(f"{where}: loss", expected="a loss, for targets of several parts", got="none")
    return nn.functional.mse_loss if targets.is_floating_point() else nn.functional.cross_entropy


def _with_the_outputs_shape(made: Kind) -> Kind:
    """Targets [rows] for outputs [rows, 1] and the reverse, and class numbers [rows, 1] as [rows], where the loss was chosen for them."""
    try:
        with drawing(), torch.no_grad():
            model = made.initial_model(0)
            with evaluating(model):
                outputs, targets = made.outputs_of(model, made.parts["train"].few(2))
    except Exception:  # noqa: BLE001  (said where the problem is tried)
        return made
    if not isinstance(outputs, Tensor):
        return made
    if targets.is_floating_point() and _is_column(outputs) and targets.ndim == 1:
        place: Any = (slice(None), None)
    elif _is_column(targets) and (outputs.ndim == 1 or not targets.is_floating_point()):
        place = (slice(None), 0)
    else:
        return made
    held: dict[str, Any] = {}
    for name in ("validation", "test"):
        if pair := getattr(made, name):
            held[name] = (pair[0], pair[1][place])
    return replace(made, targets=made.targets[place], **held)


def _is_column(tensor: Tensor) -> bool:
    """Whether it is [rows, 1]."""
    return tensor.ndim == 2 and tensor.shape[1] == 1


def _summary(parts: Parts, categories: Mapping[str, Any]) -> str:
    """`60 rows to train on, 20 for validation, 20 for test; categories: kind (3)`"""
    counts = [f"{batch.count(x):,} {'rows to train on' if p == 'train' else f'for {p}'}" for p, (x, _) in parts.items()]
    named = ", ".join(f"{name} ({len(known)})" for name, known in categories.items())
    return ", ".join(counts) + (f"; categories: {named}" if named else "")
