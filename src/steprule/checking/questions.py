"""Items about the function itself: is it a rule, does it keep its states, what does it make of strange gradients, does it descend?

Each gives "" or "warning", and a sentence; it raises `FailedError` where it fails.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.checking import probe
from steprule.checking.judged import Judged, go
from steprule.checking.parting import numbers, worst
from steprule.checking.report import FailedError
from steprule.checking.rewriting import below
from steprule.checking.walks import float64_default
from steprule.compiler import eager, formula
from steprule.compiler.graph import Graph, Kind, Node, trace
from steprule.compiler.variant import variant_of
from steprule.paths import Trace, tuned_trace
from steprule.rules.rule import Rule

Answer = tuple[str, str]

HUGE, TINY = 1e30, 1e-30  # float32 holds them and not their squares
EXTREME = 1e-5  # one step in float32 of those, relative to the largest element
DESCENDS = 0.5  # of the start: what 50 steps at the best learning rate must get below


def contract(judged: Judged) -> Answer:
    """Every variant can be traced: the signature, the operations and the results are those of the language."""
    graphs = [trace(judged.rule, variant) for variant in judged.rule.variants()]
    kinds = [sum(n.kind is kind for n in graphs[0].nodes) for kind in Kind]
    return "", f"{len(graphs)} variants; {kinds[0]} scalar, {kinds[1]} reduction, {kinds[2]} element operations"


def pure(judged: Judged) -> Answer:
    """The same again from the same arguments: by the tracer, and on numbers that must stay as they were."""
    rule = judged.raw
    hypers = rule.bind({})
    texts, ends = [], []
    for _ in range(2):
        texts.append(formula.text(trace(rule)))
        p, g = numbers(0, 5), numbers(1, 5)
        new, state = eager.step(rule, p, g, {}, 1, hypers)
        new, _ = eager.step(rule, new, g, state, 2, hypers)
        ends.append(new)
        for name, now, before in (("p", p, numbers(0, 5)), ("g", g, numbers(1, 5))):
            if not np.array_equal(now, before):
                raise FailedError(f"the function writes to {name}: return a new value, change nothing in place")
    if texts[0] != texts[1] or not np.array_equal(ends[0], ends[1], equal_nan=True):
        where = "{}:{}".format(*rule.lines)
        raise FailedError(
            f"{where}: called again with the same arguments, it gives another result: it depends on something outside"
        )
    return "", "the same result from the same arguments, which stay as they were"


def states(judged: Judged) -> Answer:
    """Each state is kept, and used."""
    rule = judged.raw
    hypers = {**rule.defaults, **{h.name: 0.5 for h in rule.hypers if h.off_at_zero}}
    variant = variant_of(rule, hypers)
    graphs = [variant.graph(absent) for absent in variant.stages]
    for slot in rule.slots:
        if slot.name not in variant.slots:
            continue
        old = [g.inputs.get(slot.name) for g in graphs]
        stands = all(g.outputs[slot.name] is o for g, o in zip(graphs, old, strict=True))
        others = [v for g in graphs for n, v in g.outputs.items() if n != slot.name]
        # One that nothing hangs on does no harm, and the language allows it.
        if stands and any(o in below(v) for v in others for o in old if o is not None):
            raise FailedError(
                f"{slot.name} comes back as it went in, so it never changes: return its new value, in the order of the signature"
            )
    _in_order(rule, graphs[-1])
    unread = [s.name for s in rule.slots if s.name in variant.slots and all(not _reads(g, s.name) for g in graphs)]
    if unread:
        return "warning", f"{', '.join(unread)}: what one step keeps, the next never reads"
    return "", "each is returned, and read by the next step" if rule.slots else "none"


def _in_order(rule: Rule, graph: Graph) -> None:
    """Results in another order than the signature: a state that is p less something, and a new p that is without p."""
    if graph.inputs["p"] in below(graph.outputs["p"]):
        return
    for slot in rule.slots:
        new = graph.outputs[slot.name]
        if isinstance(new, Node) and new.op in ("sub", "add") and graph.inputs["p"] in new.args:
            wanted = ", ".join(["p", *(s.name for s in rule.slots)])
            raise FailedError(f"results in the wrong order: {slot.name} is the new p, and p is not; return {wanted}")


def _reads(graph: Graph, slot: str) -> bool:
    """Whether any result but the slot's own hangs on its old value, or its own does."""
    node = graph.inputs.get(slot)
    return node is not None and node in graph.live


def starts(judged: Judged) -> Answer:
    """The class's states after one step against the author's function called with the declared starts, and what a start is worth."""
    rule, idle = judged.rule, []
    for variant in judged.variants():
        hypers = rule.bind(variant)
        used = variant_of(rule, hypers).slots
        held = [
            None
            if s.absent_at_first or s.name not in used
            else float(eager.start_number(s, hypers))
            if s.per_tensor
            else np.full(5, float(eager.start_number(s, hypers)))
            for s in rule.slots
        ]
        step = {"t": 1.0} if rule.takes_t else {}
        result = rule(numbers(0, 5), numbers(1, 5), *held, **hypers, **step)
        wanted = dict(
            zip(["p", *(s.name for s in rule.slots)], result if isinstance(result, tuple) else (result,), strict=True)
        )
        p = torch.from_numpy(numbers(0, 5)).requires_grad_()
        with float64_default():
            optimizer = judged.optimizer([p], variant)
            go(p, optimizer, range(1, 2))
        got = {"p": p.detach(), **optimizer.state[p]}
        for name in ("p", *(s.name for s in rule.slots if s.name in used)):
            value = got.get(name)
            if probe.differs(None if value is None else np.ravel(value.numpy()), _flat(wanted[name])):
                mine, theirs = worst(None if value is None else value.numpy(), wanted[name])
                raise FailedError(
                    f"after one step {name} is {mine!r} in the class, {theirs!r} from the declared starts"
                )
        idle += [s.name for s in rule.slots if s.name in used and _start_is_idle(rule, hypers, s.name)]
    if idle:
        names = ", ".join(dict.fromkeys(idle))
        return "warning", f"the start of {names} has no effect: the first step does not read it"
    return "", "after one step the class has the states that the declared starts give" if rule.slots else "none"


def _start_is_idle(rule: Rule, hypers: dict[str, Any], name: str) -> bool:
    """Whether a slot was given a start of its own, not 0, that nothing reads."""
    slot = next(s for s in rule.slots if s.name == name)
    if slot.absent_at_first or eager.start_number(slot, hypers) == 0:
        return False
    variant = variant_of(rule, hypers)
    return not _reads(variant.graph(variant.stages[0]), name)


def zero_gradients(judged: Judged) -> Answer:
    """A gradient of zero, alone and among others, at the first step and later, in float32: unused rows and dead units have it."""
    rule = judged.raw
    hypers = rule.bind({})
    for where, zero in (("all elements", [0, 1, 2]), ("one element", [1])):
        p, state = torch.tensor([0.5, -1.0, 2.0]), eager.State()
        for t in range(1, 4):
            g = torch.tensor([0.3, 0.7, 0.2])
            if t != 2 or len(zero) == 3:
                g[zero] = 0.0
            p, state = eager.step(rule, p, g, state, t, hypers)
            found = "nan" if bool(p[zero].isnan().any()) else "inf" if bool(p[zero].isinf().any()) else ""
            if found:
                cause = "0 / 0" if found == "nan" else "something / 0"
                raise FailedError(
                    f"step {t}, gradient 0 in {where}: p becomes {found}, by {cause}; add an epsilon to the denominator"
                )
    return "", "p stays finite where a gradient is 0, at the first step and later"


def extreme_gradients(judged: Judged) -> Answer:
    """Gradients of 1e30 and 1e-30 in float32, two steps: the class against the author's function, and whether p survives."""
    said, overflowed = [], set()
    for size in (HUGE, TINY):
        p = torch.tensor([0.5, -1.0, 2.0]).requires_grad_()
        g = torch.tensor([1.0, -2.0, 0.5]) * size
        optimizer = judged.optimizer([p], {})
        q, state = p.detach().clone(), eager.State()
        for t in range(1, 3):
            p.grad = g.clone()
            optimizer.step()
            q, state = eager.step(judged.rule, q, g, state, t, judged.rule.bind({}))
            gap = apart(p.detach().numpy(), q.numpy())
            if gap > EXTREME:
                raise FailedError(
                    f"gradients of {size:g} in float32, step {t}: p is {p.detach().tolist()} in the class, {q.tolist()} by the function"
                )
        found = "nan" if bool(q.isnan().any()) else "inf" if bool(q.isinf().any()) else ""
        if found:
            said.append(f"gradients of {size:g} in float32 make p {found}")
        overflowed |= {n for n, v in state.items() if isinstance(v, Tensor) and not bool(v.isfinite().all())}
    if said:
        return "warning", "; ".join(said)
    states = (
        f"; {', '.join(sorted(overflowed))} overflows, for {HUGE:g} squared is beyond float32" if overflowed else ""
    )
    return "", f"p stays finite at gradients of {HUGE:g} and {TINY:g} in float32{states}"


def honest_nan(judged: Judged) -> Answer:
    """A nan in one element's gradient shows in that element, and in no other unless the rule reduces over the tensor."""
    rule, ends = judged.rule, []
    for nan in (False, True):
        p = torch.from_numpy(numbers(0, 7)).requires_grad_()
        optimizer = judged.optimizer([p], {})
        go(p, optimizer, range(1, 2))
        p.grad = torch.from_numpy(numbers(2, 7))
        if nan:
            p.grad[3] = math.nan
        optimizer.step()
        ends.append(p.detach().numpy().copy())
    without, with_nan = ends
    others = sum(bool(with_nan[k] != without[k] and not np.isnan(without[k])) for k in range(7) if k != 3)
    if others and not variant_of(rule, rule.bind({})).reduces:
        raise FailedError(
            f"a nan in one element's gradient changes {others} other elements of p, and the rule has no reduction"
        )
    if np.isnan(with_nan[3]):
        return "", "a nan gradient reaches its own element" + (
            " and, by the reduction, others" if others else " and no other"
        )
    held = {n: v for n, v in optimizer.state[p].items() if isinstance(v, Tensor) and v.shape == p.shape}
    if shown := [n for n, v in held.items() if bool(v.isnan()[3])]:
        return "", f"a nan gradient leaves p as it is and shows in {', '.join(shown)}"
    return "warning", "a nan gradient is hidden: neither p nor a state shows it"


def descent(judged: Judged) -> Answer:
    """Fifty steps on a bowl, at the best learning rate of a grid where there is one."""
    path = tuned_trace(judged.rule, "quadratic", steps=50)
    share = float(path.values[-1] / path.values[0])
    bowl = "x²/10 + 2y²"
    if bool((path.points == path.points[0]).all()):
        return "warning", "it never moves: p comes back as it went in"
    if path.diverged_at is None and share < DESCENDS:
        return "", f"{bowl} falls to {share:.1e} of its start in 50 steps"
    if "lr" in path.hypers and not path.tuned:
        raise FailedError(f"{bowl} is not finite after 50 steps, at every learning rate tried")
    tuned = "at the best learning rate" if path.tuned else "with its own step length, for it has no lr"
    ends = (
        f"{bowl} is at {share:.2g} of its start after 50 steps, {tuned}"
        if math.isfinite(share)
        else f"{bowl} becomes {share}"
    )
    graph = variant_of(judged.rule, judged.rule.bind({})).graph()
    if graph.inputs["p"] in below(graph.outputs["p"]) and _ascends(path):
        raise FailedError(f"it goes up: the sign of the step is reversed, so {bowl} never falls")
    if path.tuned and path.rose:
        raise FailedError(f"it ends above its start: {ends}")
    return "warning", ends


def _ascends(path: Trace) -> bool:
    """Whether nearly every step that moves goes up the gradient."""
    surface = path.ground
    moves = [
        (b - a, a) for a, b in itertools.pairwise(path.points) if np.isfinite(b).all() and not np.array_equal(a, b)
    ]
    up = sum(bool(np.dot(move, surface.gradient(at)) > 0) for move, at in moves)
    return bool(moves) and up > 0.9 * len(moves)


def _flat(value: Any) -> Any:
    return None if value is None else np.ravel(np.asarray(value, dtype=np.float64))


def apart(a: Any, b: Any) -> float:
    """The largest difference, relative to the largest finite element; 0 where both are the same nan or inf, else inf there."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(all="ignore"):
        apart = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
        size = np.max(np.where(np.isfinite(y), np.abs(y), 0.0), initial=0.0)
        gap = float(np.max(apart, initial=0.0) / max(float(size), 1e-300))
    return math.inf if math.isnan(gap) else gap
