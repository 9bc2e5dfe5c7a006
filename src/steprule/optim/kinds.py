"""Which kind each parameter of a model is: a hidden matrix, an embedding, a head, a vector, or another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from steprule.errors import InputError, unknown_name
from steprule.per_kind import KINDS


@dataclass(frozen=True)
class Found:
    """A parameter of a model, once, under its first name."""

    name: str
    parameter: Tensor
    kind: str
    """One of `KINDS`."""


def kinds_of(model: nn.Module, said: Mapping[str, str] | None = None, *, convolutions: str = "other") -> list[Found]:
    """The parameters of a model, each once, with their kinds.

    - `embedding`: the weight of an `Embedding`, also where it is tied to the head; and a parameter of two axes or more that a
      module itself holds under a name with `emb` or `pos` in it.
    - `head`: the weight of a linear layer that is called `head`, `classifier` or `..._head`, or that is the last module with
      parameters. A layer within blocks that repeat is none of both.
    - `vector`: what has no two axes longer than 1, as biases and gains; and all that a norm holds.
    - `matrix`: any other parameter of two axes, the input layer's too; of a convolution what `convolutions` says.
    - `other`: all else.

    Args:
        model: its modules tell what its parameters are.
        said: kinds by pattern, which stand before what is found: `{"blocks.*.gate": "other"}`, as in file names. The first that fits
            decides.
        convolutions: the kind of a convolution's weight, [out, in, ...]: `matrix` for a rule that sees it as [out, in * ...].

    Raises `InputError` for a pattern that fits no parameter, and for a parameter that has no shape yet.

    >>> [f"{one.name} {one.kind}" for one in kinds_of(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5)))]
    ['0.weight embedding', '1.weight matrix', '1.bias vector', '2.weight head', '2.bias vector']
    """
    said = dict(said or {})
    for kind in said.values():
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS)
    names, owners = _names_of(model), _owners_of(model)
    known = [name for own in names.values() for name in own]
    for pattern in said:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise unknown_name("parameter", pattern, known, where=" of the model")
    heads = _heads(model)
    found = []
    for p, own in names.items():
        if is_lazy(p):
            hint = "Run the model once before."
            raise InputError(f"parameter {own[0]}", expected="a shape", got="none yet: its module is lazy", hint=hint)
        told = (kind for pattern, kind in said.items() if any(fnmatchcase(n, pattern) for n in own))
        kind = next(told, None) or _kind(p, own, owners[p], heads, convolutions)
        found.append(Found(own[0], p, kind))
    return found


def _kind(p: Tensor, names: list[str], owners: list[nn.Module], heads: set[nn.Module], convolutions: str) -> str:
    """What a parameter's modules and shape say; where modules share it, an embedding counts before a head."""
    last = [name.rpartition(".")[2] for name in names]
    if any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in owners):
        return "embedding"
    wide = sum(size > 1 for size in p.shape) > 1
    if any(m in heads for m in owners) and (wide or "weight" in last):
        return "head"
    if not wide or any("norm" in type(m).__name__.lower() for m in owners):
        return "vector"
    if any(isinstance(m, _ConvNd) for m in owners):
        return convolutions
    if any(re.search("emb|pos", name) for name in last):
        return "embedding"
    return "matrix" if p.ndim == 2 else "other"


def _names_of(model: nn.Module) -> dict[Tensor, list[str]]:
    """Every parameter once, with all its names."""
    found: dict[Tensor, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        found.setdefault(p, []).append(name)
    return found


def _owners_of(model: nn.Module) -> dict[Tensor, list[nn.Module]]:
    """The modules that hold each parameter themselves; for a weight that is parametrized, the module whose weight it makes."""
    found: dict[Tensor, list[nn.Module]] = {}
    modules = dict(model.named_modules())
    for path, module in modules.items():
        owner = module
        if isinstance(module, ParametrizationList):
            owner = modules[path.rpartition(".parametrizations")[0]]
        for p in module.parameters(recurse=False):
            found.setdefault(p, []).append(owner)
    return found


def _heads(model: nn.Module) -> set[nn.Module]:
    """The linear layers that give the model's output, by their names and by their place."""
    holders = [(path, module) for path, module in model.named_modules() if _holds_parameters(module)]
    paths = [path for path, _ in holders]
    found: set[nn.Module] = set()
    for k, (path, module) in enumerate(holders):
        name = path.rpartition(".")[2]
        called = name in ("head", "classifier") or name.endswith("_head")
        if isinstance(module, nn.Linear) and (called or k == len(holders) - 1) and not _repeats(path, paths):
            found.add(module)
    return found


def _holds_parameters(module: nn.Module) -> bool:
    """Whether parameters are its own, parametrized ones too; those of a parametrization count for its module."""
    if isinstance(module, ParametrizationList):
        return False
    own: Iterator[Tensor] = module.parameters(recurse=False)
    return next(own, None) is not None or hasattr(module, "parametrizations")


def _repeats(path: str, paths: list[str]) -> bool:
    """Whether a module lies in a numbered block beside which another has a module of the same name."""
    parts = path.split(".")
    for k, part in enumerate(parts[:-1]):
        if part.isdigit():
            alike = re.compile(re.escape(".".join([*parts[:k], ""])) + r"\d+\." + re.escape(".".join(parts[k + 1 :])))
            if sum(bool(alike.fullmatch(other)) for other in paths) > 1:
                return True
    return False
