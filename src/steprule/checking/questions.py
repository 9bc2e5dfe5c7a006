"""Items about the function itself: the contract, its states, strange gradients, descent.

Each item gives "" or "warning", and a sentence; it raises `FailedError` where the rule fails.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.checking import probe
from steprule.checking.cases import Case, numbers, step_class
from steprule.checking.judged import Judged, go
from steprule.checking.parting import worst
from steprule.checking.probe import elsewhere, supplied
from steprule.checking.report import FailedError
from steprule.checking.rewriting import below
from steprule.checking.walks import float64_default
from steprule.compiler import eager, formula
from steprule.compiler.graph import Graph, Kind, Node
from steprule.compiler.tracer import trace
from steprule.compiler.variant import Variant, variant_of
from steprule.hyper import Slot
from steprule.maths import OPERATIONS
from steprule.paths import Trace, tuned_trace
from steprule.rules.rule import Rule

Answer = tuple[str, str]

HUGE, TINY = 1e30, 1e-30  # float32 holds both, but not their squares
EXTREME = 1e-5  # one step in float32 with such gradients may be off by this share of the largest element
DESCENDS = 0.5  # 50 steps at the best learning rate must end below this share of the start


def contract(judged: Judged) -> Answer:
    """Every variant can be traced: its signature, operations and results are those of the language."""
    graphs = [trace(judged.rule, variant) for variant in judged.rule.variants()]
    kinds = Counter(node.kind for node in graphs[0].nodes)
    counts = ", ".join(f"{kinds[kind]} {kind}" for kind in Kind)
    return "", f"{len(graphs)} variants; {counts} operations"


def pure(judged: Judged) -> Answer:
    """The same arguments give the same result, to the tracer and on numbers, and stay as they were."""
    rule = judged.raw
    hypers = rule.bind({})
    texts, ends = [], []
    for _ in range(2):
        texts.append(formula.text(trace(rule)))
        p, g = numbers(0, 5), numbers(1, 5)
        new, state = eager.whole_step(rule, p, g, {}, 1, hypers, elsewhere(g))
        new, _ = eager.whole_step(rule, new, g, state, 2, hypers, elsewhere(g))
        ends.append(new)
        for name, now, before in (("p", p, numbers(0, 5)), ("g", g, numbers(1, 5))):
            if not np.array_equal(now, before):
                raise FailedError(f"the function writes to {name}: return a new value, change nothing in place")
    if texts[0] != texts[1] or not np.array_equal(ends[0], ends[1], equal_nan=True):
        file, line = rule.lines
        why = "called again with the same arguments, it gives another result: it depends on something outside"
        raise FailedError(f"{file}:{line}: {why}")
    return "", "the same result from the same arguments, which stay as they were"


def states(judged: Judged) -> Answer:
    """Each state is kept, and used."""
    rule = judged.raw
    hypers = {**rule.defaults, **{h.name: 0.5 for h in rule.hypers if h.off_at_zero}}
    variant = variant_of(rule, hypers)
    graphs = [variant.graph(absent) for absent in variant.stages]
    used = [slot.name for slot in rule.states if slot.name in variant.slots]
    for slot in used:
        never_changes = all(g.outputs[slot] is g.inputs.get(slot) for g in graphs)
        # A state that no other result depends on does no harm, and the language allows it.
        if never_changes and any(_others_depend_on(g, slot) for g in graphs):
            how = "return its new value, in the order of the signature"
            raise FailedError(f"{slot} comes back as it went in, so it never changes: {how}")
    _in_order(rule, graphs[-1])
    unread = [slot for slot in used if not any(_reads(g, slot) for g in graphs)]
    if unread:
        return "warning", f"{', '.join(unread)}: what one step keeps, the next never reads"
    return "", "each is returned, and read by the next step" if rule.states else "none"


def _others_depend_on(graph: Graph, slot: str) -> bool:
    """Whether a result other than the slot's own depends on its old value."""
    old = graph.inputs.get(slot)
    others = [value for name, value in graph.outputs.items() if name != slot]
    return old is not None and any(old in below(value) for value in others)


def _in_order(rule: Rule, graph: Graph) -> None:
    """Refuse results in another order than the signature's: a state is p minus something, and the new p does not depend on p."""
    if graph.inputs["p"] in below(graph.outputs["p"]):
        return
    for slot in rule.states:
        new = graph.outputs[slot.name]
        if isinstance(new, Node) and new.op in ("sub", "add") and graph.inputs["p"] in new.args:
            wanted = ", ".join(_results(rule))
            raise FailedError(f"results in the wrong order: {slot.name} is the new p, and p is not; return {wanted}")


def _results(rule: Rule) -> list[str]:
    """The names of what the function returns."""
    return ["p", *[slot.name for slot in rule.states]]


def _reads(graph: Graph, slot: str) -> bool:
    """Whether any result depends on the slot's old value."""
    node = graph.inputs.get(slot)
    return node is not None and node in graph.live


def starts(judged: Judged) -> Answer:
    """After one step the class's states are those of the author's function called with the declared starts; each start matters."""
    rule, idle = judged.rule, []
    for variant in judged.exact():
        hypers = rule.bind(variant)
        case = Case(rule, hypers)
        used = case.slots
        wanted = _after_one_step(case)
        p = torch.from_numpy(case.numbers(0)).requires_grad_()
        with float64_default():
            optimizer = judged.optimizer([p], variant)
            go(p, optimizer, range(1, 2))
        got = {"p": p.detach(), **optimizer.state[p]}
        for name in _results(rule):
            if name != "p" and name not in used:
                continue
            mine, theirs = _flat(got.get(name)), _flat(wanted[name])
            if probe.differs(mine, theirs):
                ours, declared = worst(mine, theirs)
                where = f"{ours!r} in the class, {declared!r} from the declared starts"
                raise FailedError(f"after one step {name} is {where}")
        idle += [s.name for s in rule.states if s.name in used and _start_is_idle(rule, hypers, s)]
    if idle:
        names = ", ".join(dict.fromkeys(idle))
        return "warning", f"the start of {names} has no effect: the first step does not read it"
    return "", "after one step the class has the states that the declared starts give" if rule.states else "none"


def _after_one_step(case: Case) -> dict[str, Any]:
    """The results of the author's function, called with the declared starts."""
    rule, hypers = case.rule, case.hypers
    held = [_start(slot, case) if slot.name in case.slots else None for slot in rule.states]
    step: dict[str, Any] = {"t": 1.0} if rule.takes_t else {}
    if rule.looks_twice:
        step["gradient"] = elsewhere(case.numbers(1))
    if rule.draws:
        step["noise"] = [supplied(rule, k, 1, case.numbers(1), case.numbers(0)) for k in range(rule.draws)]
    result = rule(case.numbers(0), case.numbers(1), *held, **hypers, **step)
    results = result if isinstance(result, tuple) else (result,)
    return dict(zip(_results(rule), results, strict=True))


def _start(slot: Slot, case: Case) -> Any:
    """The declared start of a state, of all its elements or of one; None where it is absent at first."""
    if slot.absent_at_first:
        return None
    number = float(eager.start_number(slot, case.hypers))
    return number if slot.is_number else np.full(case.sizes(slot.name), number)


def _start_is_idle(rule: Rule, hypers: dict[str, Any], slot: Slot) -> bool:
    """Whether a slot declares a start other than 0 that nothing reads."""
    if slot.absent_at_first or eager.start_number(slot, hypers) == 0:
        return False
    variant = variant_of(rule, hypers)
    return not _reads(variant.graph(variant.stages[0]), slot.name)


def _not_finite(values: Tensor) -> str:
    """The word nan or inf where a value is one; else empty."""
    if bool(values.isnan().any()):
        return "nan"
    return "inf" if bool(values.isinf().any()) else ""


def zero_gradients(judged: Judged) -> Answer:
    """p stays finite where a gradient is zero, as in unused rows and dead units: in all elements or one, at the first step and later."""
    rule = judged.raw
    hypers = rule.bind({})
    for where, zero in (("all elements", [0, 1, 2]), ("one element", [1])):
        p, state = torch.tensor([0.5, -1.0, 2.0]), eager.State()
        for t in range(1, 4):
            g = torch.tensor([0.3, 0.7, 0.2])
            if t != 2 or len(zero) == 3:
                g[zero] = 0.0
            p, state = eager.whole_step(rule, p, g, state, t, hypers, elsewhere(g))
            found = _not_finite(p[zero])
            if found:
                cause = "0 / 0" if found == "nan" else "something / 0"
                becomes = f"p becomes {found}, by {cause}; add an epsilon to the denominator"
                raise FailedError(f"step {t}, gradient 0 in {where}: {becomes}")
    return "", "p stays finite where a gradient is 0, at the first step and later"


def extreme_gradients(judged: Judged) -> Answer:
    """Two steps with gradients of 1e30 and 1e-30 in float32: the class agrees with the author's function, and p stays finite."""
    said, overflowed = [], set()
    for size in (HUGE, TINY):
        p = torch.tensor([0.5, -1.0, 2.0]).requires_grad_()
        g = torch.tensor([1.0, -2.0, 0.5]) * size
        optimizer = judged.optimizer([p], judged.settings)
        q, state = p.detach().clone(), eager.State()
        for t in range(1, 3):
            step_class(optimizer, p, g.clone())
            hypers = judged.rule.bind(judged.settings)
            q, state = eager.whole_step(judged.rule, q, g, state, t, hypers, elsewhere(g))
            gap = apart(p.detach().numpy(), q.numpy())
            if gap > EXTREME:
                both = f"{p.detach().tolist()} in the class, {q.tolist()} by the function"
                raise FailedError(f"gradients of {size:g} in float32, step {t}: p is {both}")
        found = _not_finite(q)
        if found:
            said.append(f"gradients of {size:g} in float32 make p {found}")
        overflowed |= {n for n, v in state.items() if isinstance(v, Tensor) and not bool(v.isfinite().all())}
    if said:
        return "warning", "; ".join(said)
    finite = f"p stays finite at gradients of {HUGE:g} and {TINY:g} in float32"
    if overflowed:
        finite += f"; {', '.join(sorted(overflowed))} overflows, for {HUGE:g} squared is beyond float32"
    return "", finite


def _what_spreads(variant: Variant) -> str:
    """By what one element reaches others: "reduction", "product", or "" where nothing does so."""
    if variant.reduces:
        return "reduction"
    return "product" if _has_products(variant) else ""


def _has_products(variant: Variant) -> bool:
    """Whether it asks for a function of matrices, of which each element follows from many."""
    return any(OPERATIONS[n.op].of_matrices for absent in variant.stages for n in variant.graph(absent).nodes)


def honest_nan(judged: Judged) -> Answer:
    """A nan in one element's gradient shows in that element, and in no other without a reduction over the tensor or a matrix product."""
    rule, ends = judged.rule, []
    for nan in (False, True):
        p = torch.from_numpy(numbers(0, 7)).requires_grad_()
        optimizer = judged.optimizer([p], {})
        go(p, optimizer, range(1, 2))
        g = torch.from_numpy(numbers(2, 7))
        if nan:
            g[3] = math.nan
        step_class(optimizer, p, g)
        ends.append(p.detach().numpy().copy())
    without, with_nan = ends
    changed = (with_nan != without) & ~np.isnan(without)
    changed[3] = False
    others = int(changed.sum())
    by = _what_spreads(variant_of(rule, rule.bind({})))
    if others and not by:
        but = "and the rule has no reduction"
        raise FailedError(f"a nan in one element's gradient changes {others} other elements of p, {but}")
    if np.isnan(with_nan[3]):
        reached = f"and, by the {by}, others" if others else "and no other"
        return "", f"a nan gradient reaches its own element {reached}"
    shown = []
    for name, value in optimizer.state[p].items():
        if isinstance(value, Tensor) and value.shape == p.shape and bool(value.isnan()[3]):
            shown.append(name)
    if shown:
        return "", f"a nan gradient leaves p as it is and shows in {', '.join(shown)}"
    return "warning", "a nan gradient is hidden: neither p nor a state shows it"


def descent(judged: Judged) -> Answer:
    """Fifty steps go down a bowl, at the best learning rate of a grid where the rule has one."""
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
    ends = f"{bowl} becomes {share}"
    if math.isfinite(share):
        ends = f"{bowl} is at {share:.2g} of its start after 50 steps, {tuned}"
    graph = variant_of(judged.rule, judged.rule.bind({})).graph()
    if graph.inputs["p"] in below(graph.outputs["p"]) and _ascends(path):
        raise FailedError(f"it goes up: the sign of the step is reversed, so {bowl} never falls")
    if path.tuned and path.rose:
        raise FailedError(f"it ends above its start: {ends}")
    return "warning", ends


def _ascends(path: Trace) -> bool:
    """Whether nearly every step that moves goes up the gradient."""
    surface = path.ground
    moves = up = 0
    for here, there in itertools.pairwise(path.points):
        if np.isfinite(there).all() and not np.array_equal(here, there):
            moves += 1
            up += bool(np.dot(there - here, surface.gradient(here)) > 0)
    return moves > 0 and up > 0.9 * moves


def _flat(value: Any) -> Any:
    return None if value is None else np.ravel(np.asarray(value, dtype=np.float64))


def apart(a: Any, b: Any) -> float:
    """The largest difference, relative to the largest finite element; equal nan and inf count as 0, others as inf."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(all="ignore"):
        difference = np.where(same, 0.0, np.abs(x - y))
    size = np.max(np.abs(y), where=np.isfinite(y), initial=0.0)
    gap = float(np.max(difference, initial=0.0) / max(float(size), 1e-300))
    return math.inf if math.isnan(gap) else gap
