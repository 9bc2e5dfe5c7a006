"""One rule on a surface: the path it takes, and the learning rate at which it ends lowest.

The rule runs in float64 on numpy arrays; the gradient is the surface's exact one, plus its seeded noise where it has any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steprule import rules
from steprule.as_json import plain
from steprule.compiler import anatomy, eager
from steprule.compiler.graph import Graph
from steprule.compiler.points import reduces
from steprule.compiler.variant import asks_for_shapes, variant_of
from steprule.counts import whole
from steprule.display import Shown, sparkline
from steprule.errors import InputError, InputTypeError
from steprule.hyper import LOSS, said
from steprule.rules.parts import composed
from steprule.rules.rule import Rule
from steprule.surfaces import catalogue as surfaces
from steprule.surfaces.surface import Array, Point, Surface

LR_GRID = np.logspace(-4, 3, 141)
"""The learning rates that every rule may choose from: twenty a decade, the same for all."""

MOST_STEPS = 1_000_000


@dataclass(frozen=True, repr=False)
class Trace(Shown):
    """The path of one rule on one surface."""

    rule: str
    surface: str
    hypers: Mapping[str, float | bool]
    points: Array = field(repr=False)
    """[steps + 1, 2]: where the gradient is taken; the first is the start."""
    values: Array = field(repr=False)
    """[steps + 1]: f at each point of `evaluated`."""
    seed: int = 0
    noise: float = 0.0
    """Standard deviation of the normal noise on each coordinate of the gradient."""
    of: Rule | str = field(default="", repr=False)
    """What walked."""
    tuned: bool = False
    """Whether the learning rate was chosen as the best of `LR_GRID` for this surface, start and number of steps."""
    label: str = ""
    on: Surface | str = field(default="", repr=False)
    """Where it walked: a surface of one's own; else its name says it."""
    elsewhere: Array | None = field(default=None, repr=False)
    """[steps + 1, 2]: where the value is read, of a rule that states it (`Rule.evaluated`); None where that is `points`."""

    @property
    def evaluated(self) -> Array:
        """[steps + 1, 2]: where the value is read."""
        return self.points if self.elsewhere is None else self.elsewhere

    @property
    def ground(self) -> Surface:
        """The surface."""
        return surfaces.get(self.on or self.surface)

    @property
    def steps(self) -> int:
        """How many steps the path has."""
        return len(self.points) - 1

    @property
    def gradients(self) -> Array:
        """[steps, 2]: the gradient that each step was told, with its noise."""
        noise = noise_of(self.ground, self.steps, self.seed, self.noise)
        told = self.ground.gradient(self.points[:-1])
        return told if noise is None else told + noise

    @property
    def step_sizes(self) -> Array:
        """[steps, 2]: each step over its gradient, the learning rate with which plain descent would make it; not finite where
        the gradient is 0.

        >>> trace("sgd", lr=0.4).step_sizes[0]
        array([0.4, 0.4])
        """
        with np.errstate(all="ignore"):
            return np.asarray(-np.diff(self.points, axis=0) / self.gradients)

    @property
    def diverged_at(self) -> int | None:
        """The first step at which a coordinate or the value is not finite; None if there is none."""
        finite = np.isfinite(self.points).all(axis=1) & np.isfinite(self.values)
        return None if finite.all() else int(np.argmin(finite))

    @property
    def rose(self) -> bool:
        """Whether the last value is above the first, or not finite."""
        return not self.values[-1] <= self.values[0]

    @property
    def at_end(self) -> str:
        """ "lowest tried" or "highest tried" where the learning rate was chosen and is an end of `LR_GRID`: a better one may
        lie beyond."""
        ends = {LR_GRID[0]: "lowest tried", LR_GRID[-1]: "highest tried"}
        return ends.get(float(self.hypers["lr"]), "") if self.tuned else ""

    @property
    def cautions(self) -> tuple[str, ...]:
        """What to know of its end and its learning rate, in few words; none for a path that went down at a rate inside."""
        found = [f"diverged: not finite from step {self.diverged_at}"] if self.diverged_at is not None else []
        if self.rose and not found:
            found.append("ends above its start")
        return (*found, *([f"lr {self.at_end}"] if self.at_end else []))

    def in_words(self) -> str:
        """Where it went, and how the value fell.

        >>> trace("sgd", lr=0.4)
        sgd on quadratic, 20 steps: lr=0.4
            from (-5, -2) to (-0.943467, -7.31232e-05), value 10.5 -> 0.089013
            █▇▆▅▅▅▄▄▄▄▃▃▃▃▂▂▂▂▁▁▁
        """
        (a, b), (c, d) = self.points[0], self.evaluated[-1]
        ending = f"to ({c:.6g}, {d:.6g})" if self.diverged_at is None else f"not finite from step {self.diverged_at}"
        fall = f"value {self.values[0]:.5g} -> {self.values[-1]:.5g}"
        if self.tuned:
            fall += f" ({', '.join(self.cautions) or 'best lr here'})"
        noise = f", noise {self.noise:g}, seed {self.seed}" if self.noise else ""
        set_ = ", ".join(f"{n}={said(v)}" for n, v in self.hypers.items() if v)
        with np.errstate(invalid="ignore"):
            bars = sparkline(self.values - min(0.0, float(np.nanmin(self.values))))
        head = f"{self.label or self.rule} on {self.surface}, {self.steps} steps{noise}: {set_}"
        return f"{head}\n    from ({a:g}, {b:g}) {ending}, {fall}\n    {bars}"

    def anatomy(self, step: int) -> list[tuple[str, Any]]:
        """Step `step`, from 1, taken apart: (name, value) of the parameter, the gradient, the states and every quantity.

        Values are arrays [2], or numbers where both coordinates share one: a bias correction.

        >>> dict(trace("adam", lr=0.1).anatomy(1))["m_hat"]
        array([-1., -8.])
        """
        graph, inputs = self.at_work(step)
        shown = [(n, inputs[n]) for n in ("p", "g", *(s.name for s in graph.rule.slots)) if n in graph.inputs]
        found = [*shown, *((f"new {k}" if k in inputs else k, v) for k, v in anatomy.values(graph, inputs).items())]
        # A step that leaves the parameter where it is, as ADOPT's first, has no line for it.
        return found if graph.outputs["p"] is not graph.inputs["p"] else [*found, ("new p", inputs["p"])]

    def at_work(self, step: int) -> tuple[Graph, dict[str, Any]]:
        """The graph that takes step `step`, from 1, and what goes into it, by the code's names."""
        step = whole("step", step, 1, self.steps)
        rule, ground = composed(rules.resolve(self.of)), self.ground
        noise = noise_of(ground, self.steps, self.seed, self.noise)
        state: eager.State = {}
        with np.errstate(all="ignore"):
            for t in range(1, step + 1):
                p, gradient = self.points[t - 1], _disturbed(ground, noise, t)
                g = gradient(p)
                hypers = _told(ground, p, rule.bind(self.hypers))
                before = eager.looking(rule, p, g, state, t, hypers, gradient, eager.Key(self.seed))
                state = eager.step(rule, p, g, before, t, hypers)[1]
        absent = {s.name for s in rule.slots if s.absent_at_first and before.get(s.name) is None}
        graph = variant_of(rule, hypers, p.shape).graph(frozenset(absent))
        held = {s.name: eager.start(s, p, hypers, rule) for s in rule.states} if step == 1 else {}
        held |= {name: np.full_like(p, np.nan) for name in rule.looked} | before  # nan: not looked in this step
        return graph, {**hypers, **held, "p": p, "g": g, "t": float(step)}

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; what is not finite is None."""
        evaluated = {} if self.elsewhere is None else {"evaluated": plain(self.elsewhere)}
        return {
            "rule": self.rule,
            "label": self.label or self.rule,
            "surface": self.surface,
            "hypers": dict(self.hypers),
            "seed": self.seed,
            "noise": self.noise,
            "tuned": self.tuned,
            "cautions": list(self.cautions),
            "diverged_at": self.diverged_at,
            "points": plain(self.points),
            **evaluated,
            "values": plain(self.values),
        }


def trace(
    rule: Rule | str,
    surface: str | Surface = "quadratic",
    start: Point | None = None,
    steps: int = 20,
    *,
    seed: int = 0,
    noise: float | None = None,
    **hypers: Any,
) -> Trace:
    """The path of `rule` on `surface` from `start`, with the rule's own defaults unless told otherwise.

    Args:
        rule: a rule, a catalogue name, `file.py:name` or `package.module:name`.
        surface: a surface, its name, or a formula in x and y such as "x^2/10 + 2*y^2".
        start: (x, y); the surface's own if None.
        steps: how many, 1 to 1,000,000.
        seed: of the noise, where there is any.
        noise: standard deviation of the normal noise on each coordinate of the gradient; the surface's own if None.
        hypers: the rule's hyperparameters, and `weight_decay`, `decoupled_weight_decay`, `maximize`.

    Raises:
        StepruleError: an unknown name, a hyperparameter out of bounds, a start that is not two finite numbers.

    >>> path = trace("sgd", lr=0.4)
    >>> path.points.shape, path.values.shape
    ((21, 2), (21,))
    >>> print("%.6f %.6f" % tuple(path.points[-1]))
    -0.943467 -0.000073
    """
    found, ground = composed(rules.resolve(rule)), surfaces.get(surface)
    bound = found.bind(hypers)
    begin = _checked_start(start, ground)
    steps, seed = whole("steps", steps, 1, MOST_STEPS), whole("seed", seed, 0)
    disturbances = noise_of(ground, steps, seed, noise)
    points, elsewhere = _walk(found, ground, begin, steps, disturbances, bound, eager.Key(seed))
    scale = ground.noise if noise is None else float(noise)
    values = ground.value(points if elsewhere is None else elsewhere)
    own = surfaces.SURFACES.get(ground.name) is not surface
    on = surface if own and isinstance(surface, Surface) else ""
    of = _named(rule)
    own_numbers = {n: bound[n] for n in found.settings}
    return Trace(found.name, ground.name, own_numbers, points, values, seed, scale, of, on=on, elsewhere=elsewhere)


def best_rate(
    rule: Rule | str,
    surface: str | Surface = "quadratic",
    start: Point | None = None,
    steps: int = 20,
    *,
    seed: int = 0,
    noise: float | None = None,
    **hypers: Any,
) -> float | None:
    """The learning rate of `LR_GRID` with the lowest value after `steps`, among those whose path stays in the window.

    Where no path stays in the window, the lowest of all; None where each one diverges. The grid has ends: the best may be one
    of them, and a better one beyond it. Raises `InputError` for a rule without a learning rate.
    """
    found, ground = composed(rules.resolve(rule)), surfaces.get(surface)
    bound = found.bind(hypers)
    if "lr" not in bound:
        raise InputError(f"{found.name}: best learning rate", expected="a rule with a hyperparameter lr", got="none")
    begin = _checked_start(start, ground)
    steps, seed = whole("steps", steps, 1, MOST_STEPS), whole("seed", seed, 0)
    disturbances = noise_of(ground, steps, seed, noise)
    alone = reduces(variant_of(found, bound)) or asks_for_shapes(found) or any(s.is_number for s in found.slots)
    if alone or found.draws or found.asks_for_loss:
        # A norm would run over all rates at once, as would noise and the loss: one path at a time.
        rates = [{**bound, "lr": float(rate)} for rate in LR_GRID]
        walks = [_walk(found, ground, begin, steps, disturbances, own, eager.Key(seed)) for own in rates]
        paths = np.stack([points for points, _ in walks], axis=1)
        read = np.stack([points if elsewhere is None else elsewhere for points, elsewhere in walks], axis=1)
    else:
        many = np.broadcast_to(begin, (len(LR_GRID), 2)).copy()
        paths, elsewhere = _walk(found, ground, many, steps, disturbances, {**bound, "lr": LR_GRID[:, None]})
        read = paths if elsewhere is None else elsewhere
    values = ground.value(read)
    finite = np.isfinite(values).all(axis=0) & np.isfinite(paths).all(axis=(0, 2))
    last = np.where(finite, values[-1], np.inf)
    if not np.isfinite(last).any():
        return None
    (x0, x1), (y0, y1) = ground.window
    with np.errstate(invalid="ignore"):
        inside = ((paths >= (x0, y0)) & (paths <= (x1, y1))).all(axis=(0, 2))
    score = np.where(inside, last, np.inf) if np.isfinite(last[inside]).any() else last
    return float(LR_GRID[int(np.argmin(score))])


def tuned_trace(
    rule: Rule | str,
    surface: str | Surface = "quadratic",
    start: Point | None = None,
    steps: int = 20,
    *,
    seed: int = 0,
    noise: float | None = None,
    **hypers: Any,
) -> Trace:
    """The path at the learning rate of `best_rate`; a rule without a learning rate runs as it is, and so does one that
    diverges at each, which is then not `tuned`."""
    found = rules.resolve(rule)
    if "lr" not in found.defaults:
        return trace(found, surface, start, steps, seed=seed, noise=noise, **hypers)
    rate = best_rate(found, surface, start, steps, seed=seed, noise=noise, **hypers)
    if rate is None:
        return trace(found, surface, start, steps, seed=seed, noise=noise, **hypers)
    return replace(trace(found, surface, start, steps, seed=seed, noise=noise, lr=rate, **hypers), tuned=True)


def _named(rule: Rule | str) -> Rule | str:
    """A rule of the catalogue by its name, so that a trace stays plain data."""
    return rule.name if isinstance(rule, Rule) and rules.CATALOGUE.get(rule.name) is rule else rule


def noise_of(surface: Surface, steps: int, seed: int, noise: float | None = None) -> Array | None:
    """What is added to the gradient at each step, [steps, 2]; None where there is no noise.

    Raises `InputError` for a noise that is negative or not finite, and for a seed below 0.
    """
    seed = whole("seed", seed, 0)
    scale = surface.noise if noise is None else noise
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise InputTypeError("noise", expected="a number, 0 or more", got=repr(noise))
    if not (math.isfinite(scale) and scale >= 0):
        raise InputError("noise", expected="a finite number, 0 or more", got=repr(noise))
    return scale * np.random.default_rng(seed).standard_normal((steps, 2)) if scale else None


def _walk(
    rule: Rule,
    surface: Surface,
    start: Array,
    steps: int,
    noise: Array | None,
    hypers: Mapping[str, Any],
    key: eager.Key = eager.NOBODYS,
) -> tuple[Array, Array | None]:
    """The points at which gradients are taken, and those at which the value is read, where they are others."""
    p, state = start, eager.State()
    points, read = [p], [p]
    with np.errstate(all="ignore"):
        for t in range(1, steps + 1):
            gradient = _disturbed(surface, noise, t)
            g, own = gradient(p), _told(surface, p, hypers)
            p, state = eager.whole_step(rule, p, g, state, t, own, gradient, key)
            points.append(p)
            read.append(eager.evaluated(rule, p, state, t, own))
    return np.stack(points), None if rule.point is None else np.stack(read)


def _told(surface: Surface, p: Array, hypers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The hyperparameters, with the surface's value at p as the loss, to a rule that asks for it."""
    return {**hypers, LOSS: float(surface.value(p))} if LOSS in hypers else hypers


def _disturbed(surface: Surface, noise: Array | None, t: int) -> Callable[[Array], Array]:
    """The gradient as step t sees it: where a rule looks twice, with the same noise, as a batch is the same."""
    return surface.gradient if noise is None else lambda p: surface.gradient(p) + noise[t - 1]


def _checked_start(start: object, surface: Surface) -> Array:
    point = surface.start if start is None else start
    try:
        array = np.asarray(point, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputTypeError("start", expected="two numbers x, y", got=repr(point)) from None
    if array.shape != (2,) or not np.isfinite(array).all():
        raise InputError("start", expected="two finite numbers x, y", got=repr(point))
    if not surface.holds(array):
        got = f"({array[0]:g}, {array[1]:g}), where its value is {surface.value(array):g}"
        if np.isfinite(surface.value(array)):
            got = f"({array[0]:g}, {array[1]:g}), where its gradient is not finite"
        raise InputError(f"start on {surface.name}", expected="a point where the surface is finite", got=got)
    return array
