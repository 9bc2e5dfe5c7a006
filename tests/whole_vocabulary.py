"""A rule that uses the whole vocabulary, and each operation of the language."""

from __future__ import annotations

from steprule import rule
from steprule.hyper import Rate
from steprule.maths import (
    abs,
    atan2,
    clamp,
    exp,
    lerp,
    log,
    max,
    maximum,
    mean,
    min,
    minimum,
    norm,
    sign,
    size,
    sqrt,
    sum,
    tanh,
    where,
)


@rule
def everything(p, g, m, *, lr: Rate = 0.1, power: Rate = 1.5):  # type: ignore[no-untyped-def]
    """The whole vocabulary, and each operation of the language."""
    m = lerp(m, clamp(g, -1.0, lr * 20), lr * 5) + lerp(p, g, sign(p)) - lerp(0.5, m, 0.25)
    scale = mean(abs(g)) + sum(g) / 100 + norm(m) + max(g) * min(p) / size(g)
    inner = (g > -1.0) & (p < 1.0) | ~(m > 0.0)
    m = m + where(inner, tanh(m), 0.1 * atan2(g, p))
    root = sqrt(abs(m)) + log(1 + abs(g)) + exp(-abs(g)) + abs(p) ** power
    update = where(g > 0, root, -root) + sign(g) * minimum(m, g) - maximum(m, p) ** 3 + (2 + m * m) ** -2
    return p - lr * update / (1 + where(scale <= 1.0, scale, 1 / scale)), m
