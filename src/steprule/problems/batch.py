"""A batch is a tensor, a tuple of tensors or a dict of them, samples first, as models take them.

Several inputs are a tuple, for `model(a, b)`, or a dict, for `model(**batch)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steprule.errors import InputError, InputTypeError

Batch = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


def as_batch(data: Any, what: str) -> Batch:
    """The data as tensors: numpy arrays, pandas columns and lists of numbers become some. Raises `InputTypeError` for text."""
    if isinstance(data, Mapping):
        return {name: as_batch(part, f"{what} {name!r}") for name, part in data.items()}
    if isinstance(data, tuple):
        return tuple(as_batch(part, f"{what} {k}") for k, part in enumerate(data))
    if isinstance(data, Tensor):
        return data
    try:
        return torch.as_tensor(data.to_numpy() if hasattr(data, "to_numpy") else data)
    except (TypeError, ValueError, RuntimeError) as error:
        hint = "Number the categories from 0, say."
        raise InputTypeError(what, expected="numbers, samples first", got=str(error), hint=hint) from error


def tensors(data: Batch) -> list[Tensor]:
    """Every tensor of a batch."""
    if isinstance(data, Tensor):
        return [data]
    parts = data.values() if isinstance(data, Mapping) else data
    return [tensor for part in parts for tensor in tensors(part)]


def leaves(data: Any) -> list[Any]:
    """All that a batch of any kind holds, in containers at any depth."""
    if isinstance(data, Mapping | list | tuple):
        return [leaf for part in (data.values() if isinstance(data, Mapping) else data) for leaf in leaves(part)]
    return [data]


def can_be_cut(data: Any) -> bool:
    """Whether it is made of tensors of as many samples in plain containers, so that some of them are a batch too."""
    if isinstance(data, Tensor):
        return data.ndim > 0
    if type(data) not in (dict, list, tuple):
        return False
    parts = data.values() if isinstance(data, dict) else data
    return all(can_be_cut(part) for part in parts) and len({len(leaf) for leaf in leaves(data)}) == 1


def mapped(data: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor changed."""
    if isinstance(data, Tensor):
        return change(data)
    if isinstance(data, Mapping):
        return {name: mapped(part, change) for name, part in data.items()}
    parts = [mapped(part, change) for part in data]
    return parts if isinstance(data, list) else tuple(parts)


def copied(data: Any) -> Any:
    """The same with every tensor's own copy, on which a model may work in place; what holds tensors otherwise stays as it is."""
    if isinstance(data, Tensor):
        return data.clone()
    if type(data) is dict:
        return {name: copied(part) for name, part in data.items()}
    return type(data)(copied(part) for part in data) if type(data) in (tuple, list) else data


def stacked(batches: Sequence[Any]) -> Any:
    """Batches of one kind as one, along a new first dimension."""
    first = batches[0]
    if isinstance(first, Mapping):
        return {name: stacked([b[name] for b in batches]) for name in first}
    if isinstance(first, Tensor):
        return torch.stack(list(batches))
    return tuple(stacked(parts) for parts in zip(*batches, strict=True))


def each(data: Any) -> list[Any]:
    """The samples of a batch, each as a batch of one."""
    return [taken(data, slice(k, k + 1)) for k in range(count(data))]


def count(data: Batch, what: str = "a batch") -> int:
    """How many samples there are. Raises `InputError` where its tensors have different numbers of them."""
    counts = {len(tensor) if tensor.ndim else 0 for tensor in tensors(data)}
    if len(counts) != 1:
        got = " and ".join(map(str, sorted(counts))) or "no tensor"
        raise InputError(what, expected="as many samples in each tensor", got=got)
    return counts.pop()


def taken(data: Batch, rows: Any) -> Batch:
    """Some of the samples: a slice, or row numbers."""
    return mapped(data, lambda tensor: tensor[rows])


def moved(data: Batch, device: torch.device | str) -> Batch:
    """The batch on a device."""
    return mapped(data, lambda tensor: tensor.to(device))


def called(model: Callable[..., Any], data: Batch) -> Any:
    """The model on a batch: a tuple's parts are its arguments, a dict's parts its named ones."""
    if isinstance(data, Tensor):
        return model(data)
    return model(**data) if isinstance(data, Mapping) else model(*data)
