"""A small dense network from a description of a line: its loss and gradient as Python and as JavaScript.

The description is the layers' sizes. From it comes one list of loops and assignments, whose expressions mean the same in both
languages; it is written twice, operation by operation in the same order. Layers between the first and the last apply tanh; the loss is
half the mean squared error of one output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple


class Tensor(NamedTuple):
    """A weight or a bias: where it begins among the parameters, and its shape as torch has it, (out, in) or (out,)."""

    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Network:
    """Dense layers of these sizes, inputs first: (5, 1) is linear regression on five features, (5, 16, 1) has 16 tanh units.

    Parameters stand in one array, a layer's weight [out, in] by rows, then its bias: torch's order for `nn.Linear` after `nn.Linear`.
    """

    sizes: tuple[int, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Of every layer the weight, then the bias.

        >>> [t.start for t in Network((5, 16, 1)).tensors]
        [0, 80, 96, 112]
        """
        found: list[Tensor] = []
        for before, after in pairwise(self.sizes):
            start = found[-1].start + found[-1].size if found else 0
            found += [Tensor(start, (after, before)), Tensor(start + after * before, (after,))]
        return tuple(found)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(t.size for t in self.tensors)

    @property
    def units(self) -> int:
        """How many units all layers but the inputs have."""
        return sum(self.sizes[1:])


@dataclass(frozen=True)
class _Set:
    target: str
    value: str
    adds: bool = False


@dataclass(frozen=True)
class _Each:
    name: str
    count: int | str
    body: Sequence[_Set | _Each]


_Lines = list["_Set | _Each"]

ARGUMENTS = {
    "loss": "p, x, y, rows, start, count, a, total",
    "gradient": "p, x, y, rows, start, count, a, total, d, g",
}
"""Of both functions. `p` are the parameters; `x` the features, a sample after the other; `y` the targets; the samples meant are `count`
of `rows`, from `start`. They write `a`, what every unit gives (`units` numbers), `total[0]`, the loss, and the gradient also `d`, the
loss's derivative by every unit (`units`), and `g`, by every parameter."""


def _functions(net: Network) -> dict[str, _Lines]:
    """What each function does."""
    inputs, last = net.sizes[0], net.units - 1
    layers = []
    for k, (before, after) in enumerate(pairwise(net.sizes)):
        weight, bias = net.tensors[2 * k : 2 * k + 2]
        fed = f"x[rows[start + k] * {inputs} + j]" if k == 0 else f"a[{sum(net.sizes[1:k])} + j]"
        layers.append((before, after, weight.start, bias.start, sum(net.sizes[1 : k + 1]), fed))
    error = f"(a[{last}] - y[rows[start + k]])"
    forward: _Lines = []
    for before, after, weight_, bias_, at, fed in layers:
        unit = f"a[{at} + i]"
        product = _Set(unit, f"p[{weight_} + i * {before} + j] * {fed}", adds=True)
        curved = [] if at == last else [_Set(unit, f"tanh({unit})")]
        forward.append(_Each("i", after, [_Set(unit, f"p[{bias_} + i]"), _Each("j", before, [product]), *curved]))
    forward.append(_Set("total[0]", f"{error} * {error} / 2 / count", adds=True))
    backward: _Lines = [_Set(f"d[{last}]", f"{error} / count")]
    for before, after, weight_, bias_, at, fed in reversed(layers):
        own, behind, feeding = f"d[{at} + i]", f"d[{at - before} + j]", f"a[{at - before} + j]"
        entry = f"[{weight_} + i * {before} + j]"
        inner = [_Set(f"g{entry}", f"{own} * {fed}", adds=True)]
        first = weight_ == 0
        if not first:
            inner.append(_Set(behind, f"p{entry} * {own}", adds=True))
            backward.append(_Each("j", before, [_Set(behind, "0")]))
        backward.append(_Each("i", after, [_Set(f"g[{bias_} + i]", own, adds=True), _Each("j", before, inner)]))
        if not first:
            backward.append(_Each("j", before, [_Set(behind, f"{behind} * (1 - {feeding} * {feeding})")]))
    nothing = _Set("total[0]", "0")
    clear = _Each("i", net.parameters, [_Set("g[i]", "0")])
    return {
        "loss": [nothing, _Each("k", "count", forward)],
        "gradient": [nothing, clear, _Each("k", "count", [*forward, *backward])],
    }


def python(net: Network) -> dict[str, Callable[..., None]]:
    """`loss` and `gradient` by name, as functions of `ARGUMENTS`, for lists or arrays of float64."""

    def written(lines: _Lines | Sequence[_Set | _Each], depth: int) -> Iterator[str]:
        for line in lines:
            if isinstance(line, _Each):
                yield f"{'    ' * depth}for {line.name} in range({line.count}):"
                yield from written(line.body, depth + 1)
            else:
                yield f"{'    ' * depth}{line.target} {'+=' if line.adds else '='} {line.value}"

    known: dict[str, Any] = {"tanh": math.tanh}
    for name, lines in _functions(net).items():
        exec("\n".join([f"def {name}({ARGUMENTS[name]}):", *written(lines, 1)]), known)
    return {name: known[name] for name in ARGUMENTS}


def javascript(net: Network) -> str:
    """The same as JavaScript: a declaration of the object NETWORK, with its sizes beside the functions."""

    def written(lines: _Lines | Sequence[_Set | _Each]) -> Iterator[str]:
        for line in lines:
            if isinstance(line, _Each):
                body = " ".join(written(line.body))
                yield f"for (let {line.name} = 0; {line.name} < {line.count}; {line.name}++) {{ {body} }}"
            else:
                yield f"{line.target} {'+=' if line.adds else '='} {line.value};"

    functions = [
        f"{name}({ARGUMENTS[name]}) {{\n{chr(10).join(written(lines))}\n}}" for name, lines in _functions(net).items()
    ]
    tensors = ", ".join(f"[{t.start}, {t.start + t.size}]" for t in net.tensors)
    facts = f"inputs: {net.sizes[0]}, units: {net.units}, parameters: {net.parameters}, tensors: [{tensors}]"
    body = ",\n".join([facts, *functions])
    return f"const NETWORK = (() => {{\nconst {{ tanh }} = Math;\nreturn {{\n{body}\n}}; }})();"
