"""Adam and its kin: a mean of gradients over the root of a mean of their squares, with something changed.

`REFERENCE` in a docstring: what pytorch_optimizer does otherwise than the paper.
"""

from __future__ import annotations

from typing import Annotated, Any

import pytorch_optimizer as po
from published import against
from tolerances import PUBLISHED_FLOAT32_COUNTERS

from steprule.hyper import AbsentAtFirst, OnePerTensor
from steprule.maths import abs, clamp, exp, lerp, log, maximum, minimum, norm, sign, sqrt, where
from steprule.rules.rule import rule

Absent = Annotated[Any, AbsentAtFirst()]
Number = Annotated[Any, OnePerTensor(0.0)]
TINY = 1e-15
"""What pytorch_optimizer adds under the root of many rules, beside the eps that it documents."""


@against(
    lambda params, beta1, beta2, threshold, **same: po.AdaBelief(
        params, betas=(beta1, beta2), n_sma_threshold=threshold, rectify=True, foreach=False, **same
    ),
    lr=0.03, beta1=0.8, beta2=0.95, eps=1e-3, threshold=4.5,
)  # fmt: skip
@rule
def adabelief_rectified(p, g, exp_avg, exp_avg_var, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-16, threshold=5, t):
    """AdaBelief with RAdam's rectification, and eps beside the root before its correction."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_var = beta2 * exp_avg_var + (1 - beta2) * (g - exp_avg) ** 2 + eps
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    r = sqrt((1 - beta2**t) * (rho - 4) / (rho_inf - 4) * (rho - 2) / rho * rho_inf / (rho_inf - 2))
    step = where(rho >= threshold, r * exp_avg / (sqrt(exp_avg_var) + eps), exp_avg)
    return p - lr / (1 - beta1**t) * step, exp_avg, exp_avg_var


@against(
    lambda params, beta1, beta2, warmup, **same: po.SimplifiedAdEMAMix(
        params, betas=(beta1, beta2), beta1_warmup=warmup, foreach=False, **same
    ),
    lr=0.03, beta1=0.95, beta2=0.9, alpha=0.7, warmup=4, min_beta1=0.5, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def simplified_ademamix(
    p, g, exp_avg, exp_avg_sq,
    *, lr=1e-4, beta1=0.99, beta2=0.95, alpha=0.1, warmup=8, min_beta1=0.9, eps=1e-8, weight_decay=0.0, t,
):  # fmt: skip
    """Morwani et al., 2025, arXiv 2502.02431. beta1's half-life grows linearly.

    REFERENCE: it averages the gradients where the authors add them up, and divides by the root of 1 - beta2^t where they multiply.
    """
    p = p * (1 - lr * weight_decay)
    first, last = log(0.5) / log(min_beta1 + 1e-8), log(0.5) / log(beta1 + 1e-8)
    half_life = (1 - t / warmup) * (first - 1) + t / warmup * (last - 1)
    beta = where(t < warmup, 0.5 ** (1 / (half_life + 1)), beta1)
    exp_avg = lerp(exp_avg, g, 1 - beta)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    root = sqrt(1 - beta2**t)
    return p - lr * (exp_avg + alpha * g) / (sqrt(exp_avg_sq) + root * eps) / root, exp_avg, exp_avg_sq


@against(
    lambda params, beta1, beta2, **same: po.Grams(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def grams(p, g, exp_avg, exp_avg_sq, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.0, t):
    """Cao et al., 2024, arXiv 2412.17107: Adam's length, the gradient's direction."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    u = exp_avg / (1 - beta1**t) / (sqrt(exp_avg_sq) / sqrt(1 - beta2**t) + eps)
    return p * (1 - lr * weight_decay) - lr * sign(g) * abs(u), exp_avg, exp_avg_sq


@against(
    lambda params, beta1, beta2, nu1, nu2, **same: po.QHAdam(
        params, betas=(beta1, beta2), nus=(nu1, nu2), foreach=False, **same
    ),
    lr=0.03, beta1=0.8, beta2=0.95, nu1=0.7, nu2=0.6, eps=0.05, weight_decay=0.1, tolerance=PUBLISHED_FLOAT32_COUNTERS,
)  # fmt: skip
@rule
def qhadam(
    p, g, exp_avg, exp_avg_sq, *, lr=1e-3, beta1=0.9, beta2=0.999, nu1=1.0, nu2=1.0, eps=1e-8, weight_decay=0.0, t
):  # fmt: skip
    """Ma, Yarats, 2018, arXiv 1810.06801: a share nu of the mean, the rest of the gradient itself."""
    g = g + weight_decay * p
    exp_avg = lerp(exp_avg, g, (1 - beta1) / (1 - beta1**t))
    exp_avg_sq = lerp(exp_avg_sq, g**2, (1 - beta2) / (1 - beta2**t))
    m = nu1 * exp_avg + (1 - nu1) * g
    return p - lr * m / (sqrt(nu2 * exp_avg_sq + (1 - nu2) * g**2) + eps), exp_avg, exp_avg_sq


@against(
    lambda params, beta1, beta2, amsgrad, **same: po.AdaBound(
        params, betas=(beta1, beta2), ams_bound=amsgrad, foreach=False, **same
    ),
    lr=0.03, beta1=0.8, beta2=0.95, final_lr=0.05, gamma=0.2, eps=1e-3, weight_decay=0.2, amsgrad=True,
)  # fmt: skip
@rule
def adabound(
    p, g, exp_avg, exp_avg_sq, max_exp_avg_sq,
    *, lr=1e-3, beta1=0.9, beta2=0.999, final_lr=0.1, gamma=1e-3, eps=1e-8, weight_decay=0.0, amsgrad=False, t,
):  # fmt: skip
    """Luo et al., 2019: Adam's rate per element between bounds that close in on that of SGD."""
    p = p * (1 - lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    v = exp_avg_sq
    if amsgrad:
        max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)
        v = max_exp_avg_sq
    rate = lr * sqrt(1 - beta2**t) / (1 - beta1**t) / (sqrt(v + TINY) + eps)
    rate = clamp(rate, final_lr * (1 - 1 / (gamma * t + 1)), final_lr * (1 + 1 / (gamma * t)))
    return p - rate * exp_avg, exp_avg, exp_avg_sq, max_exp_avg_sq


@against(
    lambda params, beta1, beta2, **same: po.PAdam(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, partial=0.2, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def padam(p, g, exp_avg, exp_avg_sq, *, lr=0.1, beta1=0.9, beta2=0.999, partial=0.25, eps=1e-8, weight_decay=0.0, t):
    """Chen et al., 2018, arXiv 1806.06763: the second moment to a power between SGD's 0 and Adam's 1/2."""
    g = g + weight_decay * p
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    rate = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    return p - rate * exp_avg / (sqrt(exp_avg_sq) + eps) ** (2 * partial), exp_avg, exp_avg_sq


@against(
    lambda params, beta1, beta2, alpha, lamb, after, **same: po.GrokFastAdamW(
        params, betas=(beta1, beta2), grokfast_alpha=alpha, grokfast_lamb=lamb, grokfast_after_step=after, foreach=False, **same
    ),
    lr=0.03, beta1=0.8, beta2=0.95, alpha=0.7, lamb=1.5, after=2, eps=0.4, weight_decay=0.1,
)  # fmt: skip
@rule
def grokfast_adamw(
    p, g, exp_avg, exp_avg_sq, grok_exp_avg: Absent,
    *, lr=1e-4, beta1=0.9, beta2=0.99, alpha=0.98, lamb=2.0, after=0, eps=1e-8, weight_decay=0.0, t,
):  # fmt: skip
    """Lee et al., 2024, arXiv 2405.20233: the slow part of the gradient is amplified. REFERENCE: the rate is divided by 1 + lamb."""
    lr = lr / (1 + lamb)
    p = p * (1 - lr * weight_decay)
    grok = g if grok_exp_avg is None else grok_exp_avg
    grok = where(t > after, lerp(grok, g, 1 - alpha), grok)
    g = g + where(t > after, lamb * grok, 0.0)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    step = lr / (1 - beta1**t) * exp_avg / maximum(sqrt(exp_avg_sq) / sqrt(1 - beta2**t), eps)
    return p - step, exp_avg, exp_avg_sq, grok


@against(
    lambda params, beta1, beta2, beta3, scale, power, **same: po.AdamG(
        params, betas=(beta1, beta2, beta3), p=scale, q=power, foreach=False, **same
    ),
    lr=0.4, beta1=0.8, beta2=0.95, beta3=0.9, scale=0.3, power=0.3, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def adamg(
    p, g, m, v, r,
    *, lr=1.0, beta1=0.95, beta2=0.999, beta3=0.95, scale=0.2, power=0.24, eps=1e-8, weight_decay=0.0, t,
):  # fmt: skip
    """Pan, Chen, 2024, arXiv 2405.04376: a golden step size from the mean of what the numerator function gives for v."""
    g = g + weight_decay * p
    v = beta2 * v + (1 - beta2) * g**2
    r = lerp(r, scale * v**power, 1 - beta3)
    m = beta1 * m + (1 - beta1) * r * g
    return p - minimum(lr, 1 / sqrt(t)) / (1 - beta1**t) * m / (sqrt(v / (1 - beta2**t)) + eps), m, v, r


@against(
    lambda params, beta1, beta2, **same: po.DiffGrad(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def diffgrad(
    p, g, exp_avg, exp_avg_sq, previous_grad, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, t
):
    """Dubey et al., 2019, arXiv 1909.11015: where the gradient hardly changes, the step is halved."""
    p = p * (1 - lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    friction = 1 / (1 + exp(-abs(previous_grad - g)))
    rate = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
    return p - rate * friction * exp_avg / (sqrt(exp_avg_sq + TINY) + eps), exp_avg, exp_avg_sq, g


@against(
    lambda params, beta1, beta2, beta3, **same: po.AdaMod(params, betas=(beta1, beta2, beta3), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, beta3=0.7, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def adamod(
    p, g, exp_avg, exp_avg_sq, exp_avg_lr, *, lr=1e-3, beta1=0.9, beta2=0.99, beta3=0.9999, eps=1e-8, weight_decay=0.0, t
):  # fmt: skip
    """Ding et al., 2019, arXiv 1910.12249: the rate per element is bounded by its own mean."""
    p = p * (1 - lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    rate = lr * sqrt(1 - beta2**t) / (1 - beta1**t) / (sqrt(exp_avg_sq) + eps)
    exp_avg_lr = lerp(exp_avg_lr, rate, 1 - beta3)
    return p - minimum(rate, exp_avg_lr) * exp_avg, exp_avg, exp_avg_sq, exp_avg_lr


@against(
    lambda params, beta1, beta2, **same: po.AdaNorm(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, r=0.6, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def adanorm(
    p, g, exp_avg, exp_avg_var, exp_grad_norm: Number,
    *, lr=1e-3, beta1=0.9, beta2=0.99, r=0.95, eps=1e-8, weight_decay=0.0, t,
):  # fmt: skip
    """Dubey et al., 2022, arXiv 2210.06364: a gradient shorter than usual is drawn out. REFERENCE: eps is corrected too."""
    p = p * (1 - lr * weight_decay)
    exp_grad_norm = r * exp_grad_norm + (1 - r) * norm(g)
    longer = where(norm(g) > 0, where(exp_grad_norm > norm(g), exp_grad_norm / norm(g), 1.0), 1.0)
    exp_avg = lerp(exp_avg, longer * g, 1 - beta1)
    exp_avg_var = beta2 * exp_avg_var + (1 - beta2) * g**2
    step = lr / (1 - beta1**t) * exp_avg / ((sqrt(exp_avg_var + TINY) + eps) / sqrt(1 - beta2**t))
    return p - step, exp_avg, exp_avg_var, exp_grad_norm


@against(
    lambda params, beta1, beta2, beta3, amsgrad, **same: po.AdaPNM(
        params, betas=(beta1, beta2, beta3), ams_bound=amsgrad, foreach=False, **same
    ),
    lr=0.03, beta1=0.8, beta2=0.95, beta3=0.6, eps=1e-3, weight_decay=0.1, amsgrad=True,
)  # fmt: skip
@rule
def adapnm(
    p, g, newer, older, exp_avg_sq, max_exp_avg_sq,
    *, lr=1e-3, beta1=0.9, beta2=0.999, beta3=1.0, eps=1e-8, weight_decay=0.0, amsgrad=False, t,
):  # fmt: skip
    """Xie et al., 2021, arXiv 2103.17182: of two momenta in turn, more than all of one less a part of the other."""
    p = p * (1 - lr * weight_decay)
    m = lerp(older, g, 1 - beta1**2)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    v = exp_avg_sq
    if amsgrad:
        max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)
        v = max_exp_avg_sq
    u = ((1 + beta3) * m - beta3 * newer) / sqrt((1 + beta3) ** 2 + beta3**2)
    step = lr / (1 - beta1**t) * u / ((sqrt(v + TINY) + eps) / sqrt(1 - beta2**t))
    return p - step, m, newer, exp_avg_sq, max_exp_avg_sq
