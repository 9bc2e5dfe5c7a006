"""Where torch keeps what a step looks at: the offsets within a tensor's record, and how to read through them.

A tensor's record (TensorImpl) lies behind its Python object. It points to a storage's record, to a version counter and, where
autograd follows the tensor, to a record that holds the gradient. None of these layouts is public: layout_search.py finds them.

Reading is soft: the operating system copies the bytes and says no where there are none, so a wrong guess reads nothing.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

WORD = 8


class Offsets(NamedTuple):
    """In bytes; a mask has ones where the word says something."""

    record: int = 0
    """In a tensor's Python object: the address of its record."""
    storage: int = 0
    """In the record: the address of the storage's record."""
    autograd: int = 0
    """In the record: the address of autograd's record, or 0."""
    version: int = 0
    """In the record: the address of the version counter, or 0 for a tensor made in inference mode."""
    axes: int = 0
    """In the record: how many axes."""
    sizes: int = 0
    """In the record: five sizes; or, above five axes, the address of all sizes and strides in a row."""
    strides: int = 0
    first: int = 0
    """In the record: the first element's place in the storage."""
    kind: int = 0
    """In the record: the word that tells the dtype and the device."""
    kind_mask: int = 0
    keys: int = 0
    """In the record: the dispatch keys. They tell lazy, sparse, quantized, meta and wrapped tensors from plain ones."""
    wrapper: int = 0
    """In the record: the address of its Python object, or 0; the lowest bits are flags."""
    data: int = 0
    """In the storage's record: the address of the memory."""
    bytes: int = 0
    """In the storage's record: how many bytes."""
    guard: int = 0
    """In the storage's record: a byte that is 1 where memory may not simply be written, as in a copy on write."""
    owners: int = 0
    """In the storage's record: the 32-bit number of those that hold it."""
    deleter: int = 0
    """In the storage's record: the address of what frees the memory."""
    gradient: int = 0
    """In autograd's record: the address of the gradient's record."""
    number: int = 0
    """In the version counter: the 32-bit number."""
    list_items: int = 0
    """In a list: the address of its items' addresses."""
    list_size: int = 0
    dict_tag: int = 0
    """In a dict: a number that no other dict and no other content of this dict ever has; 0 where this Python has none."""


@dataclass(frozen=True)
class Layout:
    """Where everything stands in this process."""

    at: Offsets
    undefined: int
    """The address that stands for no gradient."""
    own_deleter: int
    """The address of what frees memory that torch allocated on the CPU."""


INLINE = 5
"""Sizes and strides up to here lie in the record itself."""


class NoLayoutError(Exception):
    """Why the records cannot be read."""


def platform_refusal() -> str | None:
    """Why records are never read on this platform, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"{sys.platform} on {platform.machine()}, proved on linux on x86_64 only"
    if sys.implementation.name != "cpython":
        return sys.implementation.name
    if sysconfig.get_config_var("Py_GIL_DISABLED") or sysconfig.get_config_var("Py_DEBUG"):
        return "a free-threaded or debug build of Python"
    return None


class Memory:
    """This process's memory, read softly."""

    def __enter__(self) -> Memory:
        self._file = os.open("/proc/self/mem", os.O_RDONLY)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def bytes(self, address: int, count: int) -> bytes:
        """As many as there are, up to `count`; b"" where the address is no memory."""
        if not 0 < address < 1 << 47:
            return b""
        try:
            return os.pread(self._file, count, address)
        except OSError:
            return b""

    def words(self, address: int, count: int) -> list[int]:
        """64-bit words."""
        data = self.bytes(address, count * WORD)
        return [int.from_bytes(data[k : k + WORD], "little") for k in range(0, len(data) - WORD + 1, WORD)]

    def word(self, address: int) -> int:
        """One 64-bit word; -1 where there is none."""
        return next(iter(self.words(address, 1)), -1)


@dataclass(frozen=True)
class Reading:
    """What a record says of a strided tensor, in Python's terms."""

    address: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    keys: int
    nbytes: int
    version: int
    gradient: int


def read(memory: Memory, layout: Layout, t: Tensor) -> Reading:
    """Through the layout alone, starting at the Python object."""
    at = layout.at
    record = memory.word(id(t) + at.record)
    axes = memory.word(record + at.axes)
    start = record + at.sizes if axes <= INLINE else memory.word(record + at.sizes)
    strides = record + at.strides if axes <= INLINE else start + axes * WORD
    storage, counter = memory.word(record + at.storage), memory.word(record + at.version)
    meta = memory.word(record + at.autograd)
    first = memory.word(record + at.first) * t.element_size()
    number = memory.bytes(counter + at.number, 4) if counter else b""
    return Reading(
        memory.word(storage + at.data) + first if t.numel() else 0,
        tuple(memory.words(start, axes)),
        tuple(memory.words(strides, axes)),
        memory.word(record + at.keys),
        memory.word(storage + at.bytes),
        int.from_bytes(number, "little") if counter else -1,
        memory.word(meta + at.gradient) if meta else layout.undefined,
    )
