"""Batches that a DataLoader gives, as they are: the same again for the same seed.

The loader's own order, augmentation and workers stay.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from steprule.errors import InputError, InputTypeError
from steprule.foreign import refusal
from steprule.identity import identity, unknown_in
from steprule.problems import batch
from steprule.problems.randomness import Randomness, generators_in
from steprule.problems.source import stream
from steprule.problems.table import missing, place_of

LONGEST = 1_000_000
"""Batches after which a pass is taken for one without end."""
DECIDING = (
    "dataset",
    "batch_size",
    "drop_last",
    "sampler",
    "batch_sampler",
    "collate_fn",
    "worker_init_fn",
    "num_workers",
)
"""What of a DataLoader decides its batches, beside its generators, which are seeded."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a loader gives. It is measured on one pass, that of `stream(0, 3)`, in its own batches."""

    loader: Any
    where: str
    """What it is called in errors."""
    device: torch.device | None = None
    counted: list[int] = field(default_factory=list)
    """The samples of each batch of a pass, once they were counted."""

    one_by_one = "its batches come from a loader"
    whole = False

    @property
    def samples(self) -> int:
        """Of one pass; it is counted by a pass."""
        return sum(self._counts())

    @property
    def points(self) -> int:
        """A loss after each pass."""
        return self.samples

    @property
    def batch_size(self) -> int:
        """The loader's own; without one, the samples of its first batch."""
        known = getattr(self.loader, "batch_size", None)
        return known if isinstance(known, int) else count_of(self.first())

    def steps(self, size: int) -> int:
        """As many as the loader gives."""
        return len(self._counts())

    def batches(self, size: int, epochs: int, seed: int) -> Iterator[tuple[Any, int]]:
        """A pass per epoch, each with a seed of its own."""
        for epoch in range(epochs):
            yield from self._whole_pass(stream(seed, (1, epoch)))

    def pieces(self, size: int) -> Iterator[tuple[Any, int]]:
        """The loader's own batches."""
        yield from self._whole_pass(stream(0, 3))

    def few(self, count: int) -> Any:
        """The first batch, cut where it is made of tensors."""
        found = self.first()
        return batch.taken(found, slice(count)) if batch.can_be_cut(found) else found

    def spread(self, count: int) -> Any:
        """Of the first batch."""
        return self.few(count)

    def first(self) -> Any:
        """The first batch. Raises `InputError` where there is none."""
        for found in self._pass(stream(0, 3)):
            return found
        raise InputError(self.where, expected="a batch or more", got="none")

    def on(self, device: torch.device) -> Loaded:
        """Each batch is moved when it comes."""
        return replace(self, device=None if device.type == "cpu" else device)

    def stated(self, what: str) -> Any:
        """What makes the batches, and one pass of them."""
        loader = self.loader
        with Randomness(generators_in(loader), stream(0, 3)).own():
            made_by = {n: getattr(loader, n) for n in DECIDING} if isinstance(loader, DataLoader) else loader
            found = {"loader": identity((type(loader), made_by), what)}
        digests = []
        for k, data in enumerate(self._pass(stream(0, 3))):
            digests.append(identity(data, f"{what}, batch {k}"))
            if unknown_in(digests[-1]):
                return {**found, "batches": digests[-1]}
        return {**found, "batches": identity(digests, what)}

    def check(self) -> None:
        """Raises `InputError` where it cannot be iterated again, or gives other batches for the same seed."""
        if isinstance(self.loader, Tensor | str | Mapping) or not hasattr(self.loader, "__iter__"):
            got = f"a {type(self.loader).__name__}"
            raise InputTypeError(self.where, expected="a DataLoader, or whatever gives batches", got=got)
        if not isinstance(self.loader, DataLoader) and iter(self.loader) is self.loader:
            hint = "Give a DataLoader, or a list of batches."
            raise InputTypeError(self.where, expected="one that gives its batches again", got="an iterator", hint=hint)
        one, other = (identity(self.first(), "a batch") for _ in range(2))
        if one != other and not (unknown_in(one) and unknown_in(other)):
            hint = "Let it draw from torch's, numpy's or Python's global generator, or from one that its dataset or sampler holds."
            raise InputError(self.where, expected="the same batches for the same seed", got="others", hint=hint)

    def _counts(self) -> list[int]:
        if not self.counted:
            counts = []
            for k, data in enumerate(self._pass(stream(0, 3))):
                _check_finite(data, f"{self.where}, batch {k}")
                counts.append(count_of(data))
                if k >= LONGEST:
                    raise InputError(self.where, expected="a pass that ends", got=f"more than {LONGEST:,} batches")
            if not counts:
                raise InputError(self.where, expected="a batch or more", got="none")
            self.counted[:] = counts
        return self.counted

    def _whole_pass(self, seed: int) -> Iterator[tuple[Any, int]]:
        """A pass that has as many batches and samples as the one that was counted: by these curves and schedules go."""
        known, steps, samples = self._counts(), 0, 0
        for data in self._pass(seed):
            count = count_of(data)
            steps, samples = steps + 1, samples + count
            if steps > len(known):
                break
            yield _moved(data, self.device) if self.device else data, count
        if (steps, samples) != (len(known), sum(known)):
            got = f"{steps} of {samples} in a later one" if steps <= len(known) else "more in a later one"
            expected = f"{len(known)} batches of {sum(known)} samples in every pass, as in the first"
            raise InputError(self.where, expected=expected, got=got)

    def _pass(self, seed: int) -> Iterator[Any]:
        """The batches of a pass. Between them the caller's generators are as they were."""
        randomness = Randomness(generators_in(self.loader), seed)
        end, k = object(), 0
        try:
            with randomness.own():
                given = iter(_anew(self.loader))
            while True:
                with randomness.own():
                    found = next(given, end)
                if found is end:
                    return
                yield found
                k += 1
        except Exception as error:
            raise refusal(f"{self.where}, batch {k}", _original(error)) from error


def count_of(data: Any) -> int:
    """How many samples a batch has: as its targets say where it is a pair, else its first tensor."""
    if isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Tensor) and data[1].ndim:
        return len(data[1])
    tensors = [t for t in batch.leaves(data) if isinstance(t, Tensor) and t.ndim]
    if tensors:
        return len(tensors[0])
    return len(data) if hasattr(data, "__len__") else 1


def _anew(loader: Any) -> Any:
    """A loader whose workers begin anew: those that live on go on drawing from where they were."""
    if not isinstance(loader, DataLoader):
        return loader
    found = copy.copy(loader)
    vars(found)["_iterator"] = None
    return found


def _original(error: Exception) -> Exception:
    """What a worker process raised, without the traceback in its message."""
    text = str(error)
    if "Original Traceback" not in text:
        return error
    return type(error)(text.strip().splitlines()[-1]).with_traceback(error.__traceback__)


def _check_finite(data: Any, where: str) -> None:
    for tensor in batch.leaves(data):
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.layout == torch.strided:
            good = torch.isfinite(tensor)
            if tensor.ndim and not bool(good.all()):
                row, *at = torch.nonzero(~good)[0].tolist()
                raise missing(where + place_of(at), f"row {row}", float(tensor[(row, *at)]))


def _moved(data: Any, device: torch.device) -> Any:
    if isinstance(data, Mapping) and type(data) is dict:
        return {name: _moved(part, device) for name, part in data.items()}
    if type(data) in (list, tuple):
        return type(data)(_moved(part, device) for part in data)
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(_moved(part, device) for part in data))
    return data.to(device) if hasattr(data, "to") else data
