"""The probe walk has a fixed start, gradients and settings, on which two optimizers that differ anywhere part.

It is in float64, over 12 elements in a matrix, with gradients that do not depend on the walk. One gradient is always zero, two are
always positive, one is always negative; their sizes go from 0.01 to 3, so that an epsilon of 1e-3 shows wherever it stands. Needs no
torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.arithmetic import computing
from steprule.compiler import eager
from steprule.compiler.drawing import NOBODYS, noise
from steprule.compiler.graph import Graph, Node
from steprule.compiler.interpret import interpret
from steprule.errors import StepruleError
from steprule.rules.rule import Rule

Array = NDArray[np.float64]
Step = Mapping[str, Any]
"""Holds p and each slot by name after a step; None for a slot that is absent. Where the model is read elsewhere than at p, it holds that
point too, as `POINT`; None there says that nobody knows."""

POINT = "the point of evaluation"

STEPS = 40
SHAPE = (3, 4)  # a matrix: torch's Muon takes nothing else
SAME = 1e-9
"""Two walks are the same while no element's way from its start differs by more than this share. In float64 rounding over 40 steps stays
four orders of magnitude below it; a step counter in float32 is above it."""
ROUNDING = 1e-13  # of an element's own size: forty roundings of p itself may come to this
FEWEST = 3  # elements that must be finite in both walks after a step: where all are nan, nothing was compared

# Per meaning: a value away from the neutral one, and the names that authors give such a number. The order counts where a name has two
# meanings: `beta` is first taken for momentum. No two of x, 1 - x, their roots and inverses are equal, so that a factor between two
# walks can be named.
RATES = ("lr", "learning_rate", "eta", "step_size")
EPSILONS = ("eps", "epsilon")
_ROLES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.043, RATES),
    (0.83, ("beta1", "momentum", "beta", "mu", "b1", "gamma")),
    (0.956, ("beta2", "alpha", "rho", "decay", "b2", "beta", "gamma")),
    (1.3e-3, EPSILONS),
    (0.11, ("weight_decay", "wd", "l2")),
    (0.37, ("dampening",)),
    (0.053, ("lr_decay",)),
    (0.21, ("initial_accumulator_value",)),
    (0.023, ("momentum_decay",)),
    (0.019, ("trust_coefficient",)),
    (0.61, ("eta1",)),
    (1.37, ("eta2",)),
    (0.0071, ("step_size1",)),
    (0.31, ("step_size2",)),
    (0.087, ("lambd",)),
    (6.7, ("t0",)),
)


def start() -> Array:
    """The parameter before the first step, [3, 4]."""
    drawn = np.random.default_rng(7).normal(size=SHAPE)
    return drawn + 0.3 * np.sign(drawn)


def gradients() -> Array:
    """The gradient of each step, [40, 3, 4]."""
    drawn = np.random.default_rng(8).normal(size=(STEPS, *SHAPE))
    drawn *= np.array([1.0, 0.1, 0.01, 3.0])
    flat = drawn.reshape(STEPS, -1)
    flat[:, 0] = 0.0
    flat[:, 5:7] = np.abs(flat[:, 5:7]) + 0.01
    flat[:, 11] = -np.abs(flat[:, 11])
    return drawn


def matched(theirs: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """Our name for each of their numbers that we have too: the same name first, then one of the same meaning.

    >>> matched(["lr", "beta1", "beta2"], ["lr", "beta2", "momentum", "eps"])
    {'lr': 'lr', 'beta2': 'beta2', 'beta1': 'momentum'}
    """
    theirs, free = list(theirs), list(ours)
    found = {name: name for name in theirs if name in free}
    free = [name for name in free if name not in found]
    for name in theirs:
        alike = [other for _, names in _ROLES if name in names for other in names]
        ours_too = [other for other in alike if other in free]
        if name not in found and ours_too:
            found[name] = ours_too[0]
            free.remove(ours_too[0])
    return found


def settings(defaults: Mapping[str, float]) -> dict[str, float]:
    """A value away from the neutral one for each number whose meaning is known; no two are the same."""
    found: dict[str, float] = {}
    for name in defaults:
        value = next((v for v, names in _ROLES if name in names), None)
        if value is None:
            continue
        while value in found.values():
            value *= 0.9
        found[name] = value
    return found


def probing(rule: Rule) -> dict[str, float]:
    """`settings` of a rule's own numbers, within their bounds; a number of unknown meaning is moved from its default."""
    own = {h.name: h for h in rule.hypers if not h.is_plain and h.given is None}
    found = settings({n: float(h.default) for n, h in own.items()})
    for name, hyper in own.items():
        if name not in found:
            found[name] = hyper.search.at(0.6) if hyper.search else float(hyper.default) * 0.7 or 0.1
        try:
            hyper.validate(found[name], rule.name)
        except StepruleError:
            found[name] = float(hyper.default)
    return found


def elsewhere(g: Any) -> Callable[[Any], Any]:
    """What a rule that looks twice sees at a point in a step whose gradient is g: a bowl's, so that each point has its own."""
    return lambda point: 0.5 * point - 0.7 * g


def supplied(rule: Rule, k: int, t: int, g: Any, point: Any) -> Any:
    """What a walk's step t is supplied with by its k-th draw or look, at this point: the noise of nobody's seed, or `elsewhere`."""
    return noise(point, NOBODYS, t, k) if k < rule.draws else elsewhere(g)(point)


def walk(rule: Rule, hypers: Mapping[str, Any]) -> list[Step]:
    """The walk of a rule by the author's function, on numpy arrays."""
    p, state = start(), eager.State()
    found: list[Step] = []
    for t, g in enumerate(gradients(), start=1):
        p, state = eager.whole_step(rule, p, g, state, t, hypers, elsewhere(g))
        found.append({"p": p, **state, **_point(rule, p, state, t, hypers)})
    return found


def _point(rule: Rule, p: Any, state: Mapping[str, Any], t: int, hypers: Mapping[str, Any]) -> Step:
    """The point of evaluation behind step t, as a walk holds it."""
    return {} if rule.evaluation is None else {POINT: eager.evaluated(rule, p, dict(state), t, hypers)}


def read_at(step: Step) -> Any:
    """Where the model is read after a step; None where nobody knows."""
    return step.get(POINT, step["p"])


@dataclass(frozen=True)
class Formula:
    """A variant as its graphs, those of the first steps and last the one that repeats; mutants are made from it."""

    rule: Rule
    stages: tuple[Graph, ...]
    slots: frozenset[str]
    """The slots that it uses."""

    def walk(self, hypers: Mapping[str, Any]) -> Iterator[Step]:
        """The walk step by step, so that a search for the first difference can end early."""
        p: Any = start()
        state: dict[str, Any] = {}
        for slot in self.rule.slots:
            if slot.name in self.slots and not slot.absent_at_first and not slot.looked:
                state[slot.name] = eager.start(slot, p, hypers, self.rule)
        numbers = {s.name for s in self.rule.slots if s.is_number}
        sizes = {s.name: s.sizes(SHAPE) for s in self.rule.slots}
        for t, g in enumerate(gradients(), start=1):
            graph = self._stage(t, state)
            # Where it looks is asked of the rule itself: a slip in the step leaves the point alone.
            seen = eager.looking(self.rule, p, g, state, t, hypers, elsewhere(g)) if self.rule.looked else state
            # A step that does not look makes nothing of what its graph reads.
            seen = {**dict.fromkeys(self.rule.looked, np.zeros(SHAPE)), **seen}
            given = {**hypers, **seen, **graph.values_of_shape, "p": p, "g": g, "t": float(t)}
            names = [n for n in graph.inputs if given.get(n) is not None]
            with computing(p, [given[n] for n in names]) as (lifted, _):
                known: dict[Node, Any] = {graph.inputs[n]: v for n, v in zip(names, lifted, strict=True)}
                interpret([n for n in graph.live if n.op != "input"], known)
            for name, value in graph.outputs.items():
                new = known[value] if isinstance(value, Node) else value
                if new is None or name in self.rule.looked:
                    continue
                if name in numbers:
                    state[name] = float(np.asarray(new).reshape(-1)[0])
                else:
                    state[name] = np.broadcast_to(np.asarray(new, dtype=np.float64), sizes.get(name, SHAPE)).copy()
            p = state.pop("p", None)
            if p is None:  # a slip returns nothing for it
                raise ValueError("no new p")
            yield {"p": p, **state, **self._point(p, state, t, hypers)}

    def _point(self, p: Any, state: Mapping[str, Any], t: int, hypers: Mapping[str, Any]) -> Step:
        try:
            return _point(self.rule, p, state, t, hypers)
        except TypeError:  # a slip has lost a slot that the point follows from
            return {POINT: None}

    def _stage(self, t: int, state: Mapping[str, Any]) -> Graph:
        """The graph of step t, or an earlier one where a mutant left a slot absent that this one reads."""
        until_now = self.stages[:t]
        for graph in reversed(until_now):
            if (self.slots & set(graph.inputs)) - set(self.rule.looked) <= set(state):
                return graph
        return until_now[0]


@dataclass(frozen=True)
class Gap:
    """The first step at which two walks differ."""

    step: int
    share: float
    """The difference at the worst element, as a share of the longer of the two ways."""
    factor: float | None
    """Their step of that moment times this number gives ours, where one number serves for all elements."""
    only_read: bool = False
    """Whether they step alike, and differ in where the model is read."""


def first_gap(
    ours: Sequence[Step], theirs: Iterable[Step], factor: float = 1.0, finite: int = FEWEST, *, read: bool = True
) -> Gap | None:
    """Where two walks part in p, or in where the model is read, their way from the start multiplied by `factor`; None where they never do.

    With `read` False, p alone counts.

    At least `finite` elements must be finite after the first step; later nan may come from a root of a number that a slip made
    negative. A walk that raises, as a mutant's may, parts at that step.
    """
    begin = start()
    before = (begin, begin)
    for t, (a, b) in enumerate(_together(ours, theirs), start=1):
        if b is None:
            return Gap(t, np.inf, None)
        x, y = np.asarray(a["p"]), np.asarray(b["p"])
        if factor != 1.0:
            y = begin + factor * (y - begin)
        share = _share(x, y, begin)
        if not (share <= SAME).all() or (t == 1 and np.isfinite(x).sum() < finite):
            worst = float(np.max(np.where(np.isnan(share), np.inf, share)))
            return Gap(t, worst, _factor(x - before[0], y - before[1]))
        apart = _read_apart(a, b, begin, factor) if read else 0.0
        if apart > SAME:
            return Gap(t, apart, None, only_read=True)
        before = (x, y)
    return None


def _read_apart(ours: Step, theirs: Step, begin: Array, factor: float = 1.0) -> float:
    """How far apart two models are read after a step, as the largest share of a way; 0 where nobody knows."""
    a, b = read_at(ours), read_at(theirs)
    if a is None or b is None or not {POINT} & (ours.keys() | theirs.keys()):
        return 0.0
    share = _share(np.asarray(a), begin + factor * (np.asarray(b) - begin) if factor != 1.0 else np.asarray(b), begin)
    return float(np.max(np.where(np.isnan(share), np.inf, share)))


def moves(walked: Sequence[Step]) -> bool:
    """Whether p ever leaves its start."""
    return any(not np.array_equal(step["p"], start()) for step in walked)


def differs(a: Any, b: Any) -> bool:
    """Whether two values of a state differ by more than rounding; absent equals absent, and nan equals nan."""
    if a is None or b is None:
        return a is not b
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        return True
    share = _share(x, y, np.zeros_like(x))
    return not bool((share <= SAME).all())


def distance(ours: Sequence[Step], theirs: Iterable[Step]) -> float:
    """How far apart two walks end, in p or in where the model is read, as a share of the longer way; inf where one is not finite."""
    begin = start()
    last: list[tuple[Array, Array]] = []
    for a, b in _together(ours, theirs):
        if b is None:
            return float("inf")
        last = [(np.asarray(a["p"]), np.asarray(b["p"]))]
        if read_at(a) is not None and read_at(b) is not None:
            last.append((np.asarray(read_at(a)), np.asarray(read_at(b))))
    if not last or not np.isfinite(last).all():
        return float("inf")
    ways = []
    for x, y in last:
        way = max(float(np.linalg.norm(x - begin)), float(np.linalg.norm(y - begin)), 1e-300)
        ways.append(float(np.linalg.norm(x - y)) / way)
    return max(ways)


def _together(ours: Sequence[Step], theirs: Iterable[Step]) -> Iterator[tuple[Step, Step | None]]:
    steps = iter(theirs)
    for a in ours:
        try:
            yield a, next(steps)
        except (ArithmeticError, TypeError, ValueError, StepruleError, StopIteration):
            yield a, None
            return


def _share(x: Array, y: Array, begin: Array) -> Array:
    """The difference beyond p's own rounding, as a share of the longer way; 0 where both are the same nan or inf."""
    with np.errstate(all="ignore"):
        way = np.maximum(np.abs(x - begin), np.abs(y - begin))
        apart = np.maximum(np.abs(x - y) - ROUNDING * np.abs(begin), 0.0)
        share = apart / np.maximum(way, 1e-300)
    return np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, share)


def _factor(ours: Array, theirs: Array) -> float | None:
    """The number that times their step gives ours at every element that moves; None where no one number does."""
    moving = np.isfinite(ours) & np.isfinite(theirs) & ((np.abs(ours) > 1e-12) | (np.abs(theirs) > 1e-12))
    if moving.sum() < FEWEST or (theirs[moving] == 0).any():
        return None
    ratios = ours[moving] / theirs[moving]
    middle = float(np.median(ratios))
    return middle if bool((np.abs(ratios - middle) <= 1e-6 * abs(middle)).all()) else None
