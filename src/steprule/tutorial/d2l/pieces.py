"""The pieces of a training: a model, a loss, batches, a clock, sums."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from steprule.counts import whole
from steprule.errors import InputError, InputTypeError


def linreg(X: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """A linear model: X w + b, for X [n, d], w [d, 1] and b [1]."""
    return X @ w + b


def squared_loss(y_hat: Tensor, y: Tensor) -> Tensor:
    """Half the squared error of each sample, in the shape of `y_hat`."""
    return (y_hat - y.reshape(y_hat.shape)) ** 2 / 2


def evaluate_loss(net: Callable[[Tensor], Tensor], data_iter: Iterable[Any], loss: Callable[..., Tensor]) -> float:
    """The mean of the loss over all batches (X, y): `loss(net(X), y)`, with y in the shape of the outputs.

    Raises `InputError` where there is no batch.
    """
    sums = Accumulator(2)
    with torch.no_grad():
        for X, y in pairs(data_iter):
            out = net(X)
            values = loss(out, y.reshape(out.shape))
            sums.add(values.sum(), values.numel())
    if not sums[1]:
        raise no_batches()
    return sums[0] / sums[1]


def load_array(data_arrays: Sequence[Any], batch_size: int, is_train: bool = True) -> DataLoader[Any]:
    """Batches of the rows of several tensors or arrays; `is_train` shuffles them again for each pass.

    >>> [tuple(x.shape) for x, y in load_array((torch.ones(5, 2), torch.ones(5)), 2)]
    [(2, 2), (2, 2), (1, 2)]
    """
    tensors = [torch.as_tensor(data) for data in data_arrays]
    if len({len(tensor) for tensor in tensors}) > 1:
        got = " and ".join(str(len(tensor)) for tensor in tensors)
        raise InputError("data_arrays", expected="as many rows in each", got=got)
    return DataLoader(TensorDataset(*tensors), whole("batch_size", batch_size, 1), shuffle=is_train)


class Timer:
    """Seconds between `start` and `stop`, as often as wanted; it is started when made. `times` holds them."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        """Begin to measure."""
        self.began = time.perf_counter()

    def stop(self) -> float:
        """Keep the seconds since the last `start`, and return them."""
        self.times.append(time.perf_counter() - self.began)
        return self.times[-1]

    def sum(self) -> float:
        """All seconds together."""
        return sum(self.times)

    def avg(self) -> float:
        """The mean; 0 before the first `stop`."""
        return self.sum() / max(1, len(self.times))

    def cumsum(self) -> list[float]:
        """For each `stop` the seconds up to it."""
        return list(itertools.accumulate(self.times))


class Accumulator:
    """Sums of `n` quantities.

    >>> sums = Accumulator(2)
    >>> sums.add(0.5, 1)
    >>> sums.add(1.5, 1)
    >>> sums[0] / sums[1]
    1.0
    """

    def __init__(self, n: int) -> None:
        self.data = [0.0] * whole("n", n, 1)

    def add(self, *args: Any) -> None:
        """Add one number to each sum."""
        if len(args) != len(self.data):
            raise InputError("Accumulator.add", expected=f"{len(self.data)} numbers", got=str(len(args)))
        self.data = [a + float(b) for a, b in zip(self.data, args, strict=True)]

    def reset(self) -> None:
        """Begin again at 0."""
        self.data = [0.0] * len(self.data)

    def __getitem__(self, i: int) -> float:
        return self.data[i]


def pairs(data_iter: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches. Raises `InputTypeError` for a batch that is not a pair of tensors X [n, d] and y with as many rows."""
    for batch in data_iter:
        parts = list(batch) if isinstance(batch, tuple | list) else [batch]
        if not _is_pair(parts):
            shapes = [str(list(t.shape)) if isinstance(t, Tensor) else type(t).__name__ for t in parts]
            got = " and ".join(shapes)
            raise InputTypeError("data_iter", expected="pairs (X [n, d], y [n]) of tensors", got=got[:60])
        yield parts[0], parts[1]


def _is_pair(parts: list[Any]) -> bool:
    if len(parts) != 2 or not all(isinstance(t, Tensor) for t in parts):
        return False
    X, y = parts
    return X.ndim == 2 and y.ndim > 0 and len(X) == len(y)


def no_batches() -> InputError:
    """The error for data without a batch."""
    hint = "An iterator is empty after one pass; a list or a DataLoader is not."
    return InputError("data_iter", expected="one batch (X, y) or more in each epoch", got="none", hint=hint)
