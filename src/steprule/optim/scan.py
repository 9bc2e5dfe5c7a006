"""The compiled look: one call compares the records of all tensors of a group, where their layout is proved."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.compiler import cache as kernels
from steprule.errors import InputError
from steprule.optim.layout import NoLayoutError
from steprule.optim.layout_search import find_layout
from steprule.optim.signature import (
    CHANGED,
    PLAIN,
    AskedLook,
    Look,
    Subjects,
    columns_now,
    lengths_of,
    placed_alike,
    shard,
)

RESTING, ELSEWHERE = -1, -2
DICTS = (dict, defaultdict)
FIXED_WORDS = 7
"""Words of a row of `seen` before the sizes and strides."""


def look_for(subjects: Subjects) -> Look:
    """The compiled look where this torch and Python are proved, else the one by Python. `STEPRULE_SCAN` forces either."""
    if refusal() is None and _in_dicts(subjects):
        look = ScannedLook(subjects)
        if look.agrees:
            return look
    return AskedLook(subjects)


def _in_dicts(subjects: Subjects) -> bool:
    """Whether the states stand in dicts, whose tags tell of every change."""
    if not subjects.names:
        return True
    own = (subjects.states[subjects.members[m]] for m in subjects.places)
    return type(subjects.states) in DICTS and all(type(s) is dict for s in own)


@cache
def refusal() -> str | None:
    """Why records are not read in this process, or None where they are."""
    wanted = os.environ.get("STEPRULE_SCAN", "auto")
    if wanted not in ("auto", "python", "records"):
        raise InputError("STEPRULE_SCAN", expected="auto, python or records", got=repr(wanted))
    if wanted == "python":
        return "STEPRULE_SCAN=python"
    if wanted == "auto" and this_version() not in proved():
        return f"{' and '.join(this_version())} are not among the proved"
    try:
        if find_layout().at.dict_tag == 0:
            return "dicts of this Python have no tag"
        _holders()
        _compiled()
    except (NoLayoutError, ImportError, OSError, AttributeError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  (whatever a compiler raises: the look by Python needs none)
        return f"{type(error).__name__}: {error}"
    return None


def this_version() -> tuple[str, str]:
    """This process's torch and Python, as the table of proved ones names them."""
    torch_version = ".".join(torch.__version__.split(".")[:2])
    return f"torch {torch_version}", f"Python {sys.version_info.major}.{sys.version_info.minor}"


@cache
def proved() -> frozenset[tuple[str, str]]:
    """The versions on which the whole matrix of tests passed with records read; `make prove` writes the table."""
    rows = json.loads(files("steprule.optim").joinpath("proved.json").read_text(encoding="utf-8"))
    return frozenset((row["torch"], row["python"]) for row in rows)


@cache
def _compiled() -> ModuleType:
    source = files("steprule.optim").joinpath("look_kernel.py").read_text(encoding="utf-8")
    source = source.replace("AT = Offsets()", f"AT = {find_layout().at!r}")
    return kernels.load("look", source, kernels.WORDS, *kernels.NUMBA)


class ScannedLook:
    """The look through the records behind the tensors."""

    how = "records"

    def __init__(self, subjects: Subjects) -> None:
        kernel = _compiled()
        self._given = any(type(t).__name__ == "DTensor" for t in subjects.columns[0])
        self._places, self._names, self._numbers = subjects.places, subjects.names, subjects.numbers
        self._resting, self._members = subjects.resting, len(subjects.members)
        self._writes_g = subjects.writes_g
        self.holds = False
        self._wholes: list[Tensor] = []
        self._locals: list[list[Tensor]] = []
        columns = [[shard(t) for t in column] for column in subjects.columns]
        self._lay_out(subjects, columns)
        for c, column in enumerate(columns):
            for i, t in enumerate(column):
                t.data_ptr()  # as of memory that will be written: a copy on write is made at that
                kernel.note(t._cdata, t.element_size(), self._seen[c, i].ctypes.data)
        self._head = self._head_of(subjects)
        self._at = self._head.ctypes.data
        self._look, self._finish, self._let_go = map(_entry, (kernel.look, kernel.finish, kernel.let_go))
        self.agrees = self._look_now(subjects.members, subjects.states) != CHANGED
        """Whether the records say what Python says."""

    def _lay_out(self, subjects: Subjects, columns: list[list[Tensor]]) -> None:
        """The arrays that the kernel reads and writes."""
        shape = len(columns), len(subjects.places)
        self.addresses = np.full(shape, -1, dtype=np.int64)
        self.lengths = lengths_of(subjects.columns)
        self.values = np.zeros((subjects.numbers, len(subjects.places)))
        self._held = np.zeros(shape, dtype=np.int64)
        """[columns, tensors]: what is kept alive, as long as it is."""
        self._records = np.zeros(shape, dtype=np.int64)
        self._versions = np.zeros(shape, dtype=np.int64)
        """[columns, tensors]: the address of each version's number, or 0."""
        words = FIXED_WORDS + 2 * max((t.dim() for column in columns for t in column), default=0)
        self._seen = np.zeros((*shape, words), dtype=np.int64)
        """[columns, tensors, words]: what each record said."""
        self._objects = np.array([list(map(id, column)) for column in columns], dtype=np.int64).reshape(shape)
        """[columns, tensors]: the Python objects."""
        roles = dict.fromkeys(range(self._members), ELSEWHERE) | dict.fromkeys(subjects.resting, RESTING)
        roles |= {m: i for i, m in enumerate(subjects.places)}
        self._present = np.array([list(map(id, subjects.members)), list(roles.values())], dtype=np.int64)
        """[2, members]: each member's object, and whether it is at rest."""
        self._in_states = bool(subjects.names) and not self._given
        own = [subjects.states[subjects.members[m]] for m in subjects.places] if self._in_states else []
        self._dicts = np.array([list(map(id, own)), list(map(_tag, own))], dtype=np.int64)
        """[2, tensors]: each state's dict and its tag."""

    def _head_of(self, subjects: Subjects) -> Any:
        """What the kernel is given: numbers and addresses, in the order that look_kernel.py names."""
        layout = find_layout()
        rows, tensors, words = self._seen.shape
        arrays = (
            self._present, self._seen, self._objects, self._dicts, self.addresses, self._versions, self.values,
            self._held, self._records,
        )  # fmt: skip
        head = [
            *map(id, PLAIN), layout.undefined, layout.own_deleter, self._members, tensors, rows, subjects.numbers, words,
            subjects.writes_g, self._in_states, self._given, _tag(subjects.states) if self._in_states else 0, *_holders(), 0,
            *(a.ctypes.data for a in arrays),
        ]  # fmt: skip
        return np.array(head, dtype=np.int64)

    def look(self, members: list[Tensor], states: Mapping[Tensor, Any]) -> int:
        """SAME, MOVED or CHANGED."""
        if type(members) is not list or (self._names and type(states) not in DICTS):
            return CHANGED
        if self._given and not self._take(members, states):
            return CHANGED
        return self._look_now(members, states)

    def _look_now(self, members: list[Tensor], states: Mapping[Tensor, Any]) -> int:
        # Another thread, a signal's handler or a setting's own code may drop a gradient before the launch has ended.
        found: int = self._look(self._at, id(members), id(states), not self._given)
        self.holds = self._given or found != CHANGED
        return found

    def _take(self, members: list[Tensor], states: Mapping[Tensor, Any]) -> bool:
        """The shards of DTensors, fetched anew; False where they are cut otherwise than before."""
        if len(members) != self._members or any(members[m].grad is not None for m in self._resting):
            return False
        columns = columns_now(members, states, self._places, self._names)
        if not all(isinstance(t, Tensor) for column in columns for t in column):
            return False
        cut = columns[1 : len(columns) - self._numbers]
        if not all(placed_alike(t, p) for column in cut for t, p in zip(column, columns[0], strict=True)):
            return False
        self._locals = [list(map(shard, column)) for column in columns]  # alive until the step ends
        self._objects[:] = [list(map(id, column)) for column in self._locals]
        self._wholes = [t for c, column in enumerate(columns) if c != 1 or self._writes_g for t in column]
        return True

    def release(self) -> None:
        """Let go what the look held."""
        if not self.holds:
            return
        self.holds = False
        if self._given:
            self._wholes, self._locals = [], []
        else:
            self._let_go(self._at)

    def finish(self) -> bool:
        """Write the numbers, raise the versions, let go."""
        rounded = self._finish(self._at)
        if self._given:  # a DTensor has a version beside its shard's
            torch.autograd.graph.increment_version(self._wholes)
        self.release()
        return rounded != 0  # type: ignore[no-any-return]


@cache
def _holders() -> tuple[int, ...]:
    """The addresses of the C functions that keep a Python object, and a tensor without one, alive."""
    library = ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so"))
    functions = (
        ctypes.pythonapi.Py_IncRef, ctypes.pythonapi.Py_DecRef,
        library.aoti_torch_new_uninitialized_tensor, library.aoti_torch_assign_tensors, library.aoti_torch_delete_tensor_object,
    )  # fmt: skip
    return tuple(ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions)


def _tag(d: Any) -> int:
    return ctypes.c_int64.from_address(id(d) + find_layout().at.dict_tag).value


def _entry(function: Any) -> Callable[..., Any]:
    """The compiled function itself: Numba's dispatch by the arguments' types takes longer than a look at a small model."""
    (compiled,) = function.overloads.values()
    return compiled.entry_point  # type: ignore[no-any-return]
