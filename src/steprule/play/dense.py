"""A small dense network from its layers' sizes: its loss and gradient as Python and as JavaScript.

The sizes give one list of loops and assignments, whose expressions mean the same in both languages; it is written twice, operation by
operation in the same order. Layers between the first and the last apply tanh; the loss is half the mean squared error of one output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple


class Tensor(NamedTuple):
    """A weight or a bias: its place among the parameters, and its shape as torch has it, (out, in) or (out,)."""

    start: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Network:
    """Dense layers of these sizes, inputs first: (5, 1) is linear regression on five features, (5, 16, 1) has 16 tanh units.

    Parameters stand in one array: per layer the weight [out, in] by rows, then the bias. This is torch's order for several `nn.Linear`.
    """

    sizes: tuple[int, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Per layer the weight, then the bias.

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
        """The number of parameters."""
        return sum(t.size for t in self.tensors)

    @property
    def units(self) -> int:
        """The number of units in all layers but the inputs."""
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
"""The arguments of both functions. They read the parameters `p`, the features `x`, one sample after the other, the targets `y`, and the
`count` numbers of samples in `rows` from `start` on. They write every unit's output to `a` [units] and the loss to `total[0]`; the gradient
also writes the loss's derivatives by every unit to `d` [units] and by every parameter to `g`."""


@dataclass(frozen=True)
class _Layer:
    """One layer as the functions address it."""

    inputs: int
    units: int
    weight: int
    """The place of its weight among the parameters."""
    bias: int
    """The place of its bias among the parameters."""
    at: int
    """The place of its first unit in `a` and `d`."""

    @property
    def is_first(self) -> bool:
        """Whether it reads the features, not another layer's units."""
        return self.at == 0

    @property
    def entry(self) -> str:
        """The place of the weight from input j to unit i."""
        return f"[{self.weight} + i * {self.inputs} + j]"

    @property
    def fed(self) -> str:
        """Its input j."""
        return f"x[rows[start + k] * {self.inputs} + j]" if self.is_first else f"a[{self.at - self.inputs} + j]"

    def forward(self, *, is_last: bool) -> _Each:
        """The units from the inputs."""
        unit = f"a[{self.at} + i]"
        product = _Set(unit, f"p{self.entry} * {self.fed}", adds=True)
        body: _Lines = [_Set(unit, f"p[{self.bias} + i]"), _Each("j", self.inputs, [product])]
        if not is_last:
            body.append(_Set(unit, f"tanh({unit})"))
        return _Each("i", self.units, body)

    def backward(self) -> _Lines:
        """The derivatives by its parameters and by the layer that feeds it, from those by its units."""
        own, fed = f"d[{self.at} + i]", f"d[{self.at - self.inputs} + j]"
        inner = [_Set(f"g{self.entry}", f"{own} * {self.fed}", adds=True)]
        if not self.is_first:
            inner.append(_Set(fed, f"p{self.entry} * {own}", adds=True))
        units = _Each("i", self.units, [_Set(f"g[{self.bias} + i]", own, adds=True), _Each("j", self.inputs, inner)])
        if self.is_first:
            return [units]
        clear = _Each("j", self.inputs, [_Set(fed, "0")])
        through_tanh = _Each("j", self.inputs, [_Set(fed, f"{fed} * (1 - {self.fed} * {self.fed})")])
        return [clear, units, through_tanh]


def _layers(net: Network) -> list[_Layer]:
    found: list[_Layer] = []
    at = 0
    for k, (inputs, units) in enumerate(pairwise(net.sizes)):
        weight, bias = net.tensors[2 * k : 2 * k + 2]
        found.append(_Layer(inputs, units, weight.start, bias.start, at))
        at += units
    return found


def _functions(net: Network) -> dict[str, _Lines]:
    """The loops and assignments of each function."""
    layers, last = _layers(net), net.units - 1
    error = f"(a[{last}] - y[rows[start + k]])"
    forward: _Lines = [layer.forward(is_last=layer is layers[-1]) for layer in layers]
    forward.append(_Set("total[0]", f"{error} * {error} / 2 / count", adds=True))
    backward: _Lines = [_Set(f"d[{last}]", f"{error} / count")]
    for layer in reversed(layers):
        backward += layer.backward()
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
        body = "\n".join(written(lines, 1))
        exec(f"def {name}({ARGUMENTS[name]}):\n{body}", known)
    return {name: known[name] for name in ARGUMENTS}


def javascript(net: Network) -> str:
    """The two functions and the sizes as a JavaScript declaration of the object NETWORK."""

    def written(lines: _Lines | Sequence[_Set | _Each]) -> Iterator[str]:
        for line in lines:
            if isinstance(line, _Each):
                body = " ".join(written(line.body))
                yield f"for (let {line.name} = 0; {line.name} < {line.count}; {line.name}++) {{ {body} }}"
            else:
                yield f"{line.target} {'+=' if line.adds else '='} {line.value};"

    tensors = ", ".join(f"[{t.start}, {t.start + t.size}]" for t in net.tensors)
    members = [f"inputs: {net.sizes[0]}, units: {net.units}, parameters: {net.parameters}, tensors: [{tensors}]"]
    for name, lines in _functions(net).items():
        code = "\n".join(written(lines))
        members.append(f"{name}({ARGUMENTS[name]}) {{\n{code}\n}}")
    body = ",\n".join(members)
    return f"const NETWORK = (() => {{\nconst {{ tanh }} = Math;\nreturn {{\n{body}\n}}; }})();"
