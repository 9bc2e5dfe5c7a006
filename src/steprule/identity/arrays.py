"""Digests of arrays, tensors and models by value; numpy and torch are used only where already imported."""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Mapping
from typing import Any, Protocol


class ArrayWalk(Protocol):
    """The part of walk.py that is used here."""

    def visit(self, x: Any, where: str) -> bytes:
        """The digest of anything."""

    def named(self, items: Mapping[str, Any], before: str, behind: str) -> bytes:
        """The digest of things with names."""

    def installed(self, module: str | None) -> bytes:
        """The digest of an installed package, by its version."""

    def not_known(self, x: Any, where: str) -> bytes:
        """The digest of a thing that cannot be identified."""


def digest_of(*parts: bytes) -> bytes:
    """One digest of several parts, each with its length."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(struct.pack("<Q", len(part)))
        whole.update(part)
    return whole.digest()


def array(walk: ArrayWalk, x: Any, where: str) -> bytes | None:
    """The digest of numpy's and torch's kinds; None for all others."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and hasattr(numpy, "ndarray"):
        if type(x) in (numpy.ndarray, numpy.memmap):
            about = repr((x.dtype.descr if x.dtype.names else x.dtype.str, x.shape)).encode()
            if x.dtype.hasobject:
                return digest_of(b"array", about, walk.visit(x.tolist(), where))
            flat = numpy.ascontiguousarray(x).reshape(-1)
            return digest_of(b"array", about, _bytes_of(flat))
        if isinstance(x, numpy.generic) and not x.dtype.hasobject:
            return digest_of(b"scalar", x.dtype.str.encode(), x.tobytes())
    if torch is None or not hasattr(torch, "Tensor"):
        return None
    if isinstance(x, torch.Tensor):
        return _tensor(walk, torch, x, where)
    if isinstance(x, torch.Generator):
        return digest_of(b"generator", str(x.device).encode(), walk.visit(x.get_state(), where))
    if isinstance(x, torch.utils.hooks.RemovableHandle):
        return b"a handle"  # its number is counted up over all of a process's hooks
    if isinstance(x, torch.nn.Module) and "_torchdynamo_orig_callable" in vars(x):
        return digest_of(b"compiled", walk.installed("torch"), walk.visit(x._orig_mod, where))
    if isinstance(x, torch.nn.Module):
        state = dict(vars(x))
        state.pop("_compiled_call_impl", None)
        for name, value in state.items():
            if "hooks" in name and isinstance(value, dict):
                state[name] = list(value.values())  # the keys count up over all of a process's modules
        return digest_of(b"module", walk.visit(type(x), where), walk.named(state, f"{where}.", ""))
    return None


def _tensor(walk: ArrayWalk, torch: Any, x: Any, where: str) -> bytes:
    lazy = isinstance(x, torch.nn.parameter.UninitializedTensorMixin)
    about = (str(x.dtype), () if lazy else tuple(x.shape), x.device.type, x.requires_grad)
    found = [b"tensor", walk.visit(type(x), where), repr(about).encode()]
    attributes = {n: v for n, v in vars(x).items() if not n.startswith("_")}
    if attributes:
        found.append(walk.named(attributes, f"{where}.", ""))
    if lazy or x.is_meta:
        return digest_of(*found)
    x = x.detach()
    try:
        if x.layout in (torch.sparse_coo, torch.sparse_csr):
            whole = x.to_sparse_coo().coalesce()
            return digest_of(*found, walk.visit(whole.indices(), where), walk.visit(whole.values(), where))
        plain = x.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return digest_of(*found, _bytes_of(plain.view(torch.uint8).numpy()))
    except (RuntimeError, TypeError, AttributeError):
        return walk.not_known(x, where)


def _bytes_of(flat: Any) -> bytes:
    """The digest of a contiguous array of one dimension."""
    return hashlib.sha256(flat.view("uint8") if flat.nbytes else b"").digest()
