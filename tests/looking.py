"""Rules that look twice, as strangers write them."""

from __future__ import annotations

from steprule.hyper import Decay, Looks, MomentumBuffer, OnePerTensor, Rate, Whole
from steprule.maths import norm, sqrt, total
from steprule.rules import rule


@rule
def each_second(p, g, v, *, lr: Rate = 0.1, every: Whole = 2, rho: Rate = 0.05, t, gradient):  # type: ignore[no-untyped-def]
    """As LookSAM: it looks at some steps only, and keeps what it saw."""
    if t % every == 0:
        v = gradient(p + rho * g / (norm(g) + 1e-12)) - g
    return p - lr * (g + v), v


@rule
def thrice(p, g, *, lr: Rate = 0.1, gradient: Looks(2)):  # type: ignore[no-untyped-def, valid-type]
    """Runge and Kutta's step with three looks: each follows from the one before it."""
    half = gradient(p - lr / 2 * g)
    whole = gradient(p - lr * (2 * half - g))
    return p - lr * (g + 4 * half + whole) / 6


@rule
def crowded(p, g, buffer: MomentumBuffer, length: OnePerTensor(0.5), *, lr: Rate = 0.05, beta: Decay = 0.8, far: Rate = 0.3, t, gradient):  # type: ignore[no-untyped-def, valid-type]  # fmt: skip
    """The point follows from a slot that is absent at first, a number that a reduction gives, a total, and the step."""
    ahead = p if buffer is None else p - far * buffer
    seen = gradient(ahead - far * g / (length + sqrt(total(g**2)) + 0.1 / t))
    buffer = seen if buffer is None else beta * buffer + seen
    length = beta * length + (1 - beta) * norm(seen)
    return p - lr * buffer / (1 + length), buffer, length


@crowded.evaluated
def behind(p, buffer, *, far):  # type: ignore[no-untyped-def]
    return p + far * buffer


OWN = (each_second, thrice, crowded)
