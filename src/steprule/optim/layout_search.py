"""The search for torch's layout: each offset is where many known tensors hold what Python says of them.

Nothing is assumed. An offset is the one place at which *all* of the known tensors hold what Python says. Where two places fit, or none,
there is no layout, and the step looks by Python instead (signature.py). Other tensors then verify what was found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from steprule.optim.layout import INLINE, WORD, Layout, Memory, NoLayoutError, Offsets, Reading, platform_refusal, read
from steprule.optim.signature import keys_of


@cache
def find_layout() -> Layout:
    """The layout of this torch and this Python. Raises `NoLayoutError` where anything is ambiguous or fails."""
    if refusal := platform_refusal():
        raise NoLayoutError(refusal)
    try:
        with _plain_ground(), Memory() as memory:
            found = _search(memory)
            _verify(memory, found)
    except (OSError, RuntimeError, AttributeError, TypeError) as error:
        raise NoLayoutError(f"{type(error).__name__}: {error}") from error
    return found


@contextmanager
def _plain_ground() -> Iterator[None]:
    """No mode, no default device and no inference of the caller's reaches the tensors that are made here."""
    with ExitStack() as stack:
        stack.enter_context(_disable_current_modes())
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


def _only(what: str, places: Sequence[int]) -> int:
    if len(places) != 1:
        raise NoLayoutError(f"{len(places)} places for {what}")
    return places[0]


def _where(rows: Sequence[Sequence[int]], wanted: Sequence[int]) -> list[int]:
    """The offsets at which each row has its wanted word."""
    length = min(map(len, rows))
    return [k * WORD for k in range(length) if all(row[k] == w for row, w in zip(rows, wanted, strict=True))]


def _cpu(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device="cpu")


def _probes() -> list[Tensor]:
    """Strided tensors of many kinds, with sizes, strides and offsets that nothing else in a record has by chance.

    All are small: an operation on 32,768 elements would start torch's threads, and a child forked after that could hang.
    """
    return [
        _cpu(37), _cpu(41).requires_grad_(), torch.nn.Parameter(_cpu(43, 29)), _cpu(), _cpu(31, 23).t(), _cpu(0),
        _cpu(1009)[127:601], _cpu(13, 17, 19)[5:11, 3:7], _cpu(7, 11, 13, 17), _cpu(3, 5, 7, 11, 13)[1:3],
        _cpu(7, 11, 13, 17).to(memory_format=torch.channels_last), _cpu(53, dtype=torch.float64), _cpu(47).expand(3, 47),
        _cpu(59, dtype=torch.bfloat16), _cpu(61, dtype=torch.float16)[7:9], (_cpu(67).requires_grad_() * 2).detach(),
    ]  # fmt: skip


def _search(memory: Memory) -> Layout:
    probes = _probes()
    objects = [memory.words(id(t), 8) for t in probes]
    record = _only("a tensor's record", _where(objects, [t._cdata for t in probes]))
    records = [memory.words(t._cdata, 26) for t in probes]
    stores = [t.untyped_storage() for t in probes]
    storage = _only("its storage", _where(records, [s._cdata for s in stores]))

    # An allocation of torch's own has its address twice; memory that came from elsewhere tells the two places apart.
    buffer = bytearray(256)
    foreign = [torch.frombuffer(buffer, dtype=torch.float32), _cpu(71).share_memory_()]  # type: ignore[no-untyped-call]
    kept = [t.untyped_storage() for t in foreign]
    all_stores = [s for s in (*stores, *kept) if s.nbytes()]
    stored = [memory.words(s._cdata, 16) for s in all_stores]
    data = _only("its memory", _where(stored, [s.data_ptr() for s in all_stores]))
    size = _only("its number of bytes", _where(stored, [s.nbytes() for s in all_stores]))

    axes, sizes, strides, first = _shapes(memory, probes, records)
    kind, mask = _kind(memory)
    keys = _only("the dispatch keys", _where(*_keyed(memory)))
    unflagged = [[w & ~7 for w in row] for row in records]
    wrapper = _only("a record's Python object", _where(unflagged, [id(t) for t in probes]))
    version, count = _version(memory)
    autograd, gradient, undefined = _gradient(memory)
    guard = _guard(memory, [memory.bytes(s._cdata, 112) for s in (*stores, *kept)])
    owners = _owners(memory)
    deleter, own_deleter = _deleter(memory, stores, kept)
    list_items, list_size = _list(memory)
    at = Offsets(
        record, storage, autograd, version, axes, sizes, strides, first, kind, mask, keys, wrapper,
        data, size, guard, owners, deleter, gradient, count, list_items, list_size, _dict_tag(memory),
    )  # fmt: skip
    return Layout(at, undefined, own_deleter)


def _shapes(memory: Memory, probes: list[Tensor], records: list[list[int]]) -> tuple[int, int, int, int]:
    axes = _only("the number of axes", _where(records, [t.dim() for t in probes]))
    offset = _only("the first element's place", _where(records, [int(t.storage_offset()) for t in probes]))

    def first(values: Callable[[Tensor], Sequence[Any]]) -> int:
        several = [(t, r) for t, r in zip(probes, records, strict=True) if t.dim() > 1]
        length = min(len(r) for _, r in several)
        wanted = [(tuple(values(t)), r) for t, r in several]
        fits = [k * WORD for k in range(length - INLINE) if all(tuple(r[k : k + len(w)]) == w for w, r in wanted)]
        return _only("sizes or strides", fits)

    sizes, strides = first(lambda t: t.shape), first(lambda t: t.stride())
    if strides != sizes + INLINE * WORD:
        raise NoLayoutError("strides that do not follow five sizes")
    high = _cpu(2, 3, 5, 7, 11, 4)[:, 1:]
    row = memory.words(memory.word(high._cdata + sizes), 2 * high.dim())
    if tuple(row) != (*high.shape, *high.stride()):
        raise NoLayoutError("sizes above five axes that do not lie in a row")
    return axes, sizes, strides, offset


def _kind(memory: Memory) -> tuple[int, int]:
    """The word that has the dtype and the device, and a mask of their bytes; other bytes of it may hold anything."""
    devices = ["cpu", "meta", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    # By device and byte: that byte in the record of each dtype's tensor.
    columns = [list(zip(*(memory.bytes(t._cdata, 208) for t in _of_all_dtypes(d)), strict=False)) for d in devices]
    width = min(map(len, columns))
    # The dtype: as many values as dtypes, the same for a dtype on every device.
    on_cpu = columns[0]
    kinds = [
        k for k in range(width) if len(set(on_cpu[k])) == len(on_cpu[k]) and all(c[k] == on_cpu[k] for c in columns)
    ]
    # The device's type: one value for all dtypes on a device. Its number stands in the byte behind.
    types = {d.split(":")[0] for d in devices}
    places = []
    for k in range(width):
        one_each = all(len(set(column[k])) == 1 for column in columns)
        tells = len({column[k][0] for column in columns}) == len(types)
        if one_each and tells and k // WORD == (kinds or [0])[0] // WORD:
            places.append(k)
    dtype, device = _only("the dtype", kinds), _only("the device", places)
    if (device + 1) // WORD != dtype // WORD:
        raise NoLayoutError("a device's number in another word")
    mask = sum(0xFF << 8 * (b % WORD) for b in (dtype, device, device + 1))
    return dtype // WORD * WORD, mask


# complex32 warns; the others are made by functions of their own.
_DTYPES = tuple(
    dict.fromkeys(
        v
        for v in vars(torch).values()
        if isinstance(v, torch.dtype) and not str(v).startswith(("torch.q", "torch.bits", "torch.complex32"))
    )
)


def _of_all_dtypes(device: str) -> list[Tensor]:
    return [torch.empty((3, k + 2)[: 1 + k % 2], dtype=d, device=device) for k, d in enumerate(_DTYPES)]


def _keyed(memory: Memory) -> tuple[list[list[int]], list[int]]:
    """Records of tensors with different dispatch keys, and the keys."""
    with torch.inference_mode():
        inferred = _cpu(3)
    various = [
        _cpu(3), _cpu(3).requires_grad_(), torch._neg_view(_cpu(3)), _cpu(3, dtype=torch.complex64).conj(), inferred,
        torch._efficientzerotensor((3,), device="cpu"), torch.empty((3,), device="meta"),
    ]  # fmt: skip
    return [memory.words(t._cdata, 26) for t in various], list(map(keys_of, various))


def _version(memory: Memory) -> tuple[int, int]:
    """Where the version counter's address stands, and the number in it."""
    found: set[tuple[int, int]] | None = None
    for times in (77, 131, 59):
        t = _cpu(3)
        for _ in range(times):
            torch.autograd.graph.increment_version(t)
        here = set()
        for k, word in enumerate(memory.words(t._cdata, 24)):
            block = memory.bytes(word, 48)
            here |= {
                (k * WORD, o)
                for o in range(WORD, len(block) - 3, 4)
                if int.from_bytes(block[o : o + 4], "little") == times
            }
        found = here if found is None else found & here
    if found is None or len(found) != 1:
        raise NoLayoutError(f"{len(found or ())} places for the version counter")
    (place,) = found
    with torch.inference_mode():
        if memory.word(_cpu(3)._cdata + place[0]) != 0:
            raise NoLayoutError("a version counter in inference mode")
    return place


def _gradient(memory: Memory) -> tuple[int, int, int]:
    """Where autograd's record stands, the gradient in it, and what stands there for none."""
    params = [torch.nn.Parameter(_cpu(3)) for _ in range(3)]
    for p in params:
        p.grad = _cpu(3)
    found: set[tuple[int, int]] | None = None
    for p in params:
        assert p.grad is not None
        here = set()
        for k, word in enumerate(memory.words(p._cdata, 24)):
            here |= {(k * WORD, j * WORD) for j, w in enumerate(memory.words(word, 24)) if w == p.grad._cdata}
        found = here if found is None else found & here
    if found is None or len(found) != 1:
        raise NoLayoutError(f"{len(found or ())} places for the gradient")
    ((autograd, gradient),) = found
    bare = [torch.nn.Parameter(_cpu(5)) for _ in range(3)]
    for p in params:
        p.grad = None
    absent = {memory.word(memory.word(p._cdata + autograd) + gradient) for p in (*bare, *params)}
    if len(absent) != 1:
        raise NoLayoutError("several signs for no gradient")
    if memory.word(_cpu(3)._cdata + autograd) != 0:
        raise NoLayoutError("a record of autograd where there is none")
    return autograd, gradient, absent.pop()


def _guard(memory: Memory, plain: list[bytes]) -> int:
    """The byte that is 1 in storages that may not be written, and 0 in all others."""
    twins = [(t, torch._lazy_clone(t)) for t in (_cpu(37), _cpu(5, 3), _cpu(2, dtype=torch.float64))]
    guarded = [memory.bytes(t.untyped_storage()._cdata, 112) for pair in twins for t in pair]
    if hasattr(torch._C, "_set_throw_on_mutable_data_ptr"):
        locked = _cpu(11)
        torch._C._set_throw_on_mutable_data_ptr(locked)
        guarded.append(memory.bytes(locked.untyped_storage()._cdata, 112))
    length = min(map(len, (*plain, *guarded)))
    fits = [k for k in range(length) if all(b[k] == 1 for b in guarded) and not any(b[k] for b in plain)]
    place = _only("the guard of a copy on write", fits)
    for pair in twins:
        for t in pair:
            t.fill_(1.0)
            if memory.bytes(t.untyped_storage()._cdata + place, 1) != b"\0":
                raise NoLayoutError("a guard that stays after the copy")
    return place


def _owners(memory: Memory) -> int:
    """The number of those that hold a storage: one more for each view."""
    fits: set[int] | None = None
    for views in (3, 11, 6):
        t = _cpu(4)
        held = [t.detach() for _ in range(views)]
        storage = t.untyped_storage()  # holds it too
        block = memory.bytes(storage._cdata, 64)
        here = {k for k in range(0, 61, 4) if int.from_bytes(block[k : k + 4], "little") == len(held) + 2}
        fits = here if fits is None else fits & here
    return _only("a storage's holders", sorted(fits or ()))


def _deleter(memory: Memory, own: Sequence[Any], foreign: Sequence[Any]) -> tuple[int, int]:
    """What frees the memory that torch allocated; memory from elsewhere has another, and so has a copy on write.

    What allocated it, which some versions keep beside, stays at a copy on write.
    """
    rows = [memory.words(s._cdata, 9) for s in own]
    copied = _cpu(11)
    _copy = torch._lazy_clone(copied)
    others = [memory.words(s._cdata, 9) for s in (*foreign, copied.untyped_storage())]
    fits = []
    for k in range(1, 9):
        values = {row[k] for row in rows}
        if len(values) == 1 and min(values) > 1 << 20 and values.isdisjoint(row[k] for row in others):
            fits.append(k)
    place = _only("what frees a storage's memory", fits)
    return place * WORD, rows[0][place]


def _list(memory: Memory) -> tuple[int, int]:
    lists = [[object() for _ in range(n)] for n in (3, 5, 11)]
    rows = [memory.words(id(x), 5) for x in lists]
    size = _only("a list's length", _where(rows, [len(x) for x in lists])[:1])
    wanted = [(list(map(id, x)), row) for x, row in zip(lists, rows, strict=True)]
    fits = [k * WORD for k in range(5) if all(memory.words(row[k], len(items)) == items for items, row in wanted)]
    return _only("a list's items", fits), size


def _dict_tag(memory: Memory) -> int:
    """The word that is new after every change of a dict, and the same while there is none. 0: this Python has none."""
    changes: list[Callable[[dict[Any, Any]], object]] = [
        lambda d: d.__setitem__("a", 1), lambda d: d.__setitem__("a", 2), lambda d: d.update(a=3), lambda d: d.pop("a"),
        lambda d: d.setdefault("b", object()), lambda d: d.__delitem__("b"), lambda d: d.update(c=1, e=2), lambda d: d.popitem(),
        lambda d: d.__ior__({"c": 7}), lambda d: d.clear(), lambda d: d.__setitem__(1, 1), lambda d: d.__setitem__(2, 1),
    ]  # fmt: skip
    dicts: list[dict[Any, Any]] = [{}, defaultdict(dict), {"x": 1, "y": 2}]
    fits = set(range(2, 5))
    seen: dict[int, list[int]] = {k: [] for k in fits}
    for d in dicts:
        for change in changes:
            before = memory.words(id(d), 5)
            if memory.words(id(d), 5) != before:
                fits.clear()
            change(d)
            after = memory.words(id(d), 5)
            for k in list(fits):
                if after[k] == before[k] or after[k] in seen[k]:
                    fits.discard(k)
                seen[k].append(after[k])
    return _only("a dict's tag", [k * WORD for k in fits]) if fits else 0


def _verify(memory: Memory, layout: Layout) -> None:
    """Other tensors than those searched: each reading must be what Python says."""
    # No module, which would draw its weights: a first step leaves the random numbers of whoever trains alone.
    linear = torch.nn.Parameter(_cpu(4, 6)), torch.nn.Parameter(_cpu(4))
    torch.nn.functional.linear(_cpu(2, 6), *linear).sum().backward()  # type: ignore[no-untyped-call]
    tied, frozen = torch.nn.Parameter(_cpu(8)), torch.nn.Parameter(_cpu(9), requires_grad=False)
    tied.grad = tied.detach().clone()[::1]
    swapped, other = torch.nn.Parameter(_cpu(6)), torch.nn.Parameter(_cpu(7, 5)[2:])
    torch.utils.swap_tensors(swapped, other)  # type: ignore[no-untyped-call]
    moved = torch.nn.Parameter(_cpu(4))
    moved.data = _cpu(12, 5)[3:7, 1:4]
    various = [
        *linear,
        tied,
        frozen,
        swapped,
        other,
        moved,
        _cpu(2, 1, 3, 1, 4, 5, 2)[:, :, 1:],
        _cpu(3, 0, 2),
    ]
    for t in various:
        got = read(memory, layout, t)
        wanted = Reading(
            t.data_ptr() if t.numel() else 0, tuple(t.shape), t.stride(), keys_of(t), t.untyped_storage().nbytes(),
            t._version, t.grad._cdata if t.is_leaf and t.grad is not None else layout.undefined,
        )  # fmt: skip
        if got != wanted:
            raise NoLayoutError(f"a reading of {astuple(got)} where Python says {astuple(wanted)}")
