"""How two sides compare: how far tensors and states are apart, and where the records of two sides differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from allowances import (
    ALIKE,
    BEGINNINGS,
    MAY_GO_ON,
    MAY_PASS,
    MAY_REFUSE,
    MAY_SAY,
    MEMORY_SHARED,
    SECOND_FAULT,
    TORCH_DIES,
)
from beside import Death
from numpy.typing import NDArray
from seen import Moment, Record, Seen
from tolerances import (
    BEGINNING,
    DRAWN_BFLOAT16,
    DRAWN_FLOAT16,
    DRAWN_FLOAT32,
    DRAWN_FLOAT64,
    TORCH_NADAM_FLOAT32_PRODUCT,
)


def apart(found: Any, wanted: Any) -> float:
    """The largest difference relative to the largest element of `wanted`; inf where nan or inf stand at other places."""
    a, b = torch.as_tensor(found).detach(), torch.as_tensor(wanted).detach()
    assert a.shape == b.shape, (a.shape, b.shape)
    a, b = (x.to(torch.complex128 if x.is_complex() else torch.float64) for x in (a, b))
    if not a.numel():
        return 0.0
    special = ~(a.isfinite() & b.isfinite())
    if not ((a == b) | (a.isnan() & b.isnan()))[special].all():
        return math.inf
    a, b = a.masked_fill(special, 0), b.masked_fill(special, 0)
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-300))


def all_apart(found: Iterable[Any], wanted: Iterable[Any]) -> float:
    """The largest of each pair's."""
    return max([apart(a, b) for a, b in zip(found, wanted, strict=True)], default=0.0)


def states_apart(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """The same of two `optimizer.state[p]`, whose keys must agree; what is None counts as absent."""
    a, b = ({k: v for k, v in s.items() if v is not None} for s in (found, wanted))
    assert set(a) == set(b)
    return all_apart(a.values(), [b[k] for k in a])


def same_states(a: torch.optim.Optimizer, b: torch.optim.Optimizer, tolerance: float) -> None:
    """The states of two optimizers: keys, dtypes, and values to a tolerance."""
    for p, q in zip(a.param_groups[0]["params"], b.param_groups[0]["params"], strict=True):
        mine, theirs = a.state[p], b.state[q]
        assert states_apart(mine, theirs) <= tolerance
        assert {k: getattr(mine[k], "dtype", None) for k in theirs} == {
            k: getattr(v, "dtype", None) for k, v in theirs.items()
        }


def close(found: Any, wanted: Any, tolerance: float) -> bool:
    """Whether each number is, relative to 1 or to the larger one; no number is close to what is not finite."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    return bool(np.all(np.abs(a - b) <= tolerance * np.maximum(1.0, np.maximum(abs(a), abs(b)))))


TOLERANCES = {
    "float64": DRAWN_FLOAT64,
    "float32": DRAWN_FLOAT32,
    "float16": DRAWN_FLOAT16,
    "bfloat16": DRAWN_BFLOAT16,
    "complex128": DRAWN_FLOAT64,
    "complex64": DRAWN_FLOAT32,
}


def kind_of(error: tuple[str, ...]) -> str:
    return error[0] if error else "no error"


def says_the_same(mine: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    return kind_of(theirs) in mine or any(kind_of(theirs) in kinds and not kinds.isdisjoint(mine) for kinds in ALIKE)


class Comparison:
    """The differences between two records, each a line; the loosest dtype that a parameter has met decides the tolerance."""

    def __init__(self, events: Iterable[str] = ()) -> None:
        self.events = events = set(events)
        self.may_go_on = not events.isdisjoint(MAY_GO_ON)
        self.may_refuse = not events.isdisjoint(MAY_REFUSE)
        self.shares = not events.isdisjoint(MEMORY_SHARED)
        self.must_refuse = not events.isdisjoint(TORCH_DIES)
        self.found: list[str] = []
        self._tolerance: dict[str, float] = {}
        self._scale: dict[str, float] = {}

    def of(self, ours: Record | Death, theirs: Record | Death) -> list[str]:
        if isinstance(ours, Death):
            return [f"dies: {ours.by}"]
        if isinstance(theirs, Death) and "not alone" in theirs.by:
            return []  # torch's class died of what jobs before this one wrote
        if isinstance(theirs, Death):
            raised = ours.moments[-1]
            return (
                []
                if "RuntimeError" in raised.error
                else [f"{raised.what}: no RuntimeError where torch dies ({theirs.by})"]
            )
        broken = sorted(set(ours.broken) - set(theirs.broken))
        self.found += [f"memory: {b}" for b in broken if not (self.shares and b.startswith("memory that was replaced"))]
        before: Moment | None = None
        for mine, reference in zip(ours.moments, theirs.moments, strict=False):
            if not self._go_on(mine, reference, before):
                break
            before = mine if mine.compared else before
        return self.found

    def _go_on(self, mine: Moment, theirs: Moment, before: Moment | None) -> bool:
        if self.must_refuse and mine.in_step and "RuntimeError" in mine.error:
            return False  # right, whatever torch read there
        if mine.error and not theirs.error:
            if self.may_refuse and mine.in_step and "RuntimeError" in mine.error:
                return False
            if any(words in mine.message for words in MAY_SAY):
                return False
            self.found.append(f"{mine.what}: raises {kind_of(mine.error)}: {mine.message}")
            return False
        if theirs.error and not mine.error:
            passed = [own for words, (own, _) in MAY_PASS.items() if words in theirs.message]
            if not self.may_go_on and all(own.isdisjoint(self.events) for own in passed):
                self.found.append(f"{mine.what}: goes on where torch raises {kind_of(theirs.error)}: {theirs.message}")
            return False
        further = theirs.in_step and self.may_go_on and mine.message != theirs.message
        if further and "RuntimeError" in mine.error:
            return False  # ours went past what torch stopped at, to a tensor that no operation takes
        second = any(event in self.events and kind in mine.error for event, kind in SECOND_FAULT.items())
        if theirs.error and not (second and theirs.in_step) and not says_the_same(mine.error, theirs.error):
            self.found.append(
                f"{mine.what}: raises {kind_of(mine.error)}: {mine.message}, torch {kind_of(theirs.error)}: {theirs.message}"
            )
        count = len(self.found)
        if further:
            return False  # to an error of the same kind
        if theirs.in_step:
            self._half_written(mine, theirs, before.tensors if before else {})
        else:
            self._tensors(mine, theirs)
        return len(self.found) == count

    def _tensors(self, mine: Moment, theirs: Moment) -> None:
        for name, seen in theirs.tensors.items():
            # NAdam: torch multiplies its product in float32, whatever the parameter.
            if name.endswith(".mu_product") and seen.dtype in ("float32", "float64"):
                owner = "all" if self.shares else name.partition(".")[0]
                self._tolerance[owner] = max(self._tolerance.get(owner, 0.0), TORCH_NADAM_FLOAT32_PRODUCT)
        for name in [*theirs.tensors, *(n for n in mine.tensors if n not in theirs.tensors)]:
            line = self._differs(name, mine.tensors.get(name), theirs.tensors.get(name))
            if line:
                self.found.append(f"{mine.what}: {name} {line}")

    def _half_written(self, mine: Moment, theirs: Moment, before: dict[str, Seen]) -> None:
        """After a step that raised, each parameter and state is as it was before it, as it begins, or as torch left it; or the
        parameter was stepped whole, for torch may have come to the one at fault before it."""
        whole = {owner for owner in {n.partition(".")[0] for n in mine.tensors} if self._stepped(owner, mine, before)}
        for name, now in mine.tensors.items():
            left, was = theirs.tensors.get(name), before.get(name)
            if name.endswith(".grad") or (was is None and left is None):
                continue  # given between the steps; or made for a step that did not come about
            given = mine.tensors.get(f"{name.partition('.')[0]}.grad")
            if "with_the_gradient" in self.events and not self._differs(name, now, given):
                continue  # the gradient itself, so it was given too
            if name.partition(".")[0] in whole or self._counted(name, now, was):
                continue
            began = (was is None or was.dtype == "NoneType") and now.values is not None
            begun = began and any(np.allclose(now.values, b, rtol=BEGINNING, atol=0) for b in BEGINNINGS)
            if self._differs(name, now, left) and self._differs(name, now, was) and not begun:
                self.found.append(
                    f"{mine.what}: {name} is neither as before the step that raised nor as torch leaves it"
                )

    def _counted(self, name: str, now: Seen, was: Seen | None) -> bool:
        """Whether a number of the parameter at fault is what torch's class makes of it before it comes to the fault."""
        if was is None or now.values is None or was.values is None or now.values.shape != was.values.shape:
            return False
        if name.endswith(".step"):  # shared by two parameters, it counts for both
            return bool(np.isin(now.values - was.values, (1, 2) if self.shares else (1,)).all())
        return name.endswith(".mu_product") and bool(((now.values > 0) & (now.values < was.values)).all())

    def _stepped(self, owner: str, mine: Moment, before: dict[str, Seen]) -> bool:
        """Whether a parameter moved, and its count of steps with it."""
        names = [n for n in (owner, f"{owner}.step") if n in mine.tensors]
        return all(bool(self._differs(n, mine.tensors[n], before.get(n))) for n in names)

    def _differs(self, name: str, mine: Seen | None, theirs: Seen | None) -> str:
        if mine is None and theirs is None:
            return ""
        if mine is None or theirs is None:
            return f"is {'missing' if mine is None else 'there'}, in torch's it is not so"
        if theirs.dtype == "float" and mine.dtype in ("float32", "float64") and mine.shape == ():
            theirs = replace(theirs, dtype=mine.dtype)  # a count that an old checkpoint has as a number
        if (mine.dtype, mine.shape, mine.device) != (theirs.dtype, theirs.shape, theirs.device):
            return f"is {mine.dtype} {mine.shape} {mine.device}, torch's {theirs.dtype} {theirs.shape} {theirs.device}"
        if mine.values is None or theirs.values is None:
            return ""
        owner = "all" if self.shares else name.partition(".")[0]
        loosest = max(self._tolerance.get(owner, 0.0), TOLERANCES.get(theirs.dtype, 0.0))
        self._tolerance[owner] = loosest
        # Where a number was cut to a whole one, an ulp may have decided which.
        truncated = float(theirs.dtype == "int64" and not name.endswith(".step"))
        return self._values(name, mine.values, theirs.values, loosest, truncated)

    def _values(self, name: str, mine: NDArray[Any], theirs: NDArray[Any], tolerance: float, truncated: float) -> str:
        finite = np.isfinite(theirs)
        scale = max(self._scale.get(name, 0.0), float(np.abs(theirs[finite]).max(initial=0.0)))
        self._scale[name] = scale
        if mine.tobytes() == theirs.tobytes():
            return ""
        odd = (np.isfinite(mine) != finite) | (~finite & (mine != theirs) & ~(np.isnan(mine) & np.isnan(theirs)))
        if odd.any():
            return f"has {mine[odd][0]} for {theirs[odd][0]} in {int(odd.sum())} of {mine.size} elements"
        error = np.abs(mine[finite] - theirs[finite])
        wrong = error > tolerance * scale + truncated
        if not wrong.any():
            return ""
        worst = int(error.argmax())
        return (
            f"has {mine[finite][worst]:.7g} for {theirs[finite][worst]:.7g} (wrong: {int(wrong.sum())} of {mine.size})"
        )
