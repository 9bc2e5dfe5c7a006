"""Rates per element or per tensor from more than Adam's two moments: sums, signs, projections, norms, curvature.

`REFERENCE` in a docstring: what pytorch_optimizer does otherwise than the paper.
"""

from __future__ import annotations

from typing import Annotated, Any

import pytorch_optimizer as po
import torch
from published import against, alone

from steprule.hyper import AbsentAtFirst, OnePerTensor, StartsAt
from steprule.maths import abs, clamp, lerp, maximum, mean, minimum, norm, sign, sqrt, sum, where
from steprule.rules.rule import rule

Absent = Annotated[Any, AbsentAtFirst()]
Number = Annotated[Any, OnePerTensor(0.0)]
TINY = 1e-15
"""What pytorch_optimizer adds under the root of many rules, beside the eps that it documents."""


@against(
    lambda params, **same: po.MADGRAD(params, foreach=False, **same),
    lr=0.02, momentum=0.7, eps=1e-2, weight_decay=0.1,
)  # fmt: skip
@rule
def madgrad(p, g, s, grad_sum_sq, x0: Absent, *, lr=1e-2, momentum=0.9, eps=1e-6, weight_decay=0.0, t):
    """Defazio, Jelassi, 2021, arXiv 2101.11075: dual averaging with cube roots. As in the authors' code, eps is in the rate too."""
    g = g + weight_decay * p
    start = p if x0 is None else x0
    share = (lr + eps) * sqrt(t)
    grad_sum_sq = grad_sum_sq + share * g**2
    s = s + share * g
    z = start - s / (grad_sum_sq ** (1 / 3) + eps)
    return lerp(p, z, 1 - momentum), s, grad_sum_sq, start


@against(
    lambda params, beta1, beta2, power, **same: po.FAdam(
        params, betas=(beta1, beta2), p=power, momentum_dtype=torch.float64, fim_dtype=torch.float64, foreach=False, **same
    ),
    lr=0.03, beta1=0.8, beta2=0.95, power=0.4, clip=0.7, eps=0.02, eps_2=0.03, weight_decay=0.2,
)  # fmt: skip
@rule
def fadam(
    p, g, momentum, fim, *, lr=1e-3, beta1=0.9, beta2=0.999, power=0.5, clip=1.0, eps=1e-8, eps_2=1e-2, weight_decay=0.1, t
):  # fmt: skip
    """Hwang, 2024, arXiv 2405.12807: Adam as natural gradient; the decay is divided by the Fisher information too."""
    beta2 = (beta2**t - beta2) / (beta2**t - 1)
    fim = beta2 * fim + (1 - beta2) * g**2
    size = sqrt(mean(g**2))
    base = fim**power + where(size > 0, minimum(eps_2 * size, eps), eps) ** (2 * power)
    u, w = g / base, p / base
    momentum = lerp(momentum, u / maximum(sqrt(mean(u**2)) / clip, 1.0), 1 - beta1)
    w = w / maximum(sqrt(mean(w**2)) / clip, 1.0)
    return p - lr * (momentum + weight_decay * w), momentum, fim


@against(
    lambda params, lambda1, lambda2, **same: po.FTRL(params, lambda_1=lambda1, lambda_2=lambda2, foreach=False, **same),
    lr=0.2, lr_power=-0.4, beta=0.3, lambda1=0.8, lambda2=0.2,
)  # fmt: skip
@rule
def ftrl(p, g, z, n, *, lr=1e-3, lr_power=-0.5, beta=0.1, lambda1=0.0, lambda2=0.0):
    """McMahan et al., 2013. REFERENCE: the power is in sigma alone; below, n is always under a square root."""
    z = z + g - ((n + g**2) ** -lr_power - n**-lr_power) / lr * p
    n = n + g**2
    found = (sign(z) * lambda1 - z) / ((beta + sqrt(n)) / lr + lambda2)
    return where(abs(z) <= lambda1, 0.0, found), z, n


@against(
    lambda params, beta1, beta2, **same: po.AdaShift(
        params, betas=(beta1, beta2), keep_num=3, reduce_func=None, foreach=False, **same
    ),
    lr=0.03, beta1=0.8, beta2=0.95, eps=1e-2,
)  # fmt: skip
@rule
def adashift(
    p, g, exp_avg, exp_avg_sq, g1: Absent, g2: Absent, g3: Absent, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-10, t
):  # fmt: skip
    """Zhou et al., 2018, arXiv 1810.00143, with three gradients kept and no reduction: it moves from the fourth step on."""
    weights = 1 + beta1 + beta1**2
    if g3 is None:
        return p, beta1 * exp_avg + g / weights, exp_avg_sq, g, g1, g2
    exp_avg = beta1 * (exp_avg - beta1**2 / weights * g3) + g / weights
    exp_avg_sq = lerp(exp_avg_sq, g3**2, 1 - beta2)
    v = exp_avg_sq / (1 - beta2 ** maximum(t - 3, 1))
    return p - lr * exp_avg / (sqrt(v) + eps), exp_avg, exp_avg_sq, g, g1, g2


@against(
    lambda params, beta1, beta2, **same: po.Aida(params, betas=(beta1, beta2), k=2, foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, xi=0.05, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def aida(p, g, exp_avg, exp_avg_var, *, lr=1e-3, beta1=0.9, beta2=0.999, xi=1e-20, eps=1e-8, weight_decay=0.0, t):
    """Zhang et al., 2022, arXiv 2203.13273: AdaBelief's variance between two mutual projections; here two rounds of them."""
    g = g + weight_decay * p
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    of_g, of_m = g, exp_avg
    for _ in range(2):
        product = sum(of_g * of_m)
        of_g, of_m = of_g * (product / (sum(of_g**2) + xi)), of_m * (product / (sum(of_m**2) + xi))
    exp_avg_var = beta2 * exp_avg_var + (1 - beta2) * (of_m - of_g) ** 2 + eps
    step = lr / (1 - beta1**t) * exp_avg / ((sqrt(exp_avg_var + TINY) + eps) / sqrt(1 - beta2**t))
    return p - step, exp_avg, exp_avg_var


@against(
    lambda params, beta1, beta2, **same: po.AvaGrad(alone(params), betas=(beta1, beta2), foreach=False, **same),
    lr=0.3, beta1=0.8, beta2=0.95, eps=0.05, weight_decay=0.1,
)  # fmt: skip
@rule
def avagrad(p, g, exp_avg, exp_avg_sq, gamma: Number, *, lr=0.1, beta1=0.9, beta2=0.999, eps=0.1, weight_decay=0.0, t):
    """Savarese et al., 2019, arXiv 1912.01823: the rate is over the mean of the last rates, those of one tensor here.

    REFERENCE: that mean is one step older, and the first step is left out.
    """
    p = p * (1 - lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    root = sqrt(exp_avg_sq)
    u = exp_avg / (root / sqrt(1 - beta2 ** (t - 1)) + eps)
    p = where(t > 1, p - gamma * lr / (1 - beta1**t) * u, p)
    gamma = 1 / sqrt(mean(1 / (root / sqrt(1 - beta2**t) + eps) ** 2))
    return p, exp_avg, beta2 * exp_avg_sq + (1 - beta2) * g**2, gamma


@against(
    lambda params, beta1, beta2, **same: po.Adai(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.3, beta1=0.2, beta2=0.95, dampening=0.8, eps=0.02, weight_decay=0.1, shapes=((3, 5),),
)  # fmt: skip
@rule
def adai(
    p, g, exp_avg, exp_avg_sq, beta1_prod: Annotated[Any, StartsAt(1.0)],
    *, lr=1e-3, beta1=0.1, beta2=0.99, dampening=1.0, eps=1e-3, weight_decay=0.0, t,
):  # fmt: skip
    """Xie et al., 2020, arXiv 2006.15815: momentum per element from v over its mean, which is one tensor's here."""
    g = g + weight_decay * p
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    v = exp_avg_sq / (1 - beta2**t)
    ratio = v / maximum(mean(v), eps)
    beta = clamp(1 - beta1 * ratio ** (1 / (3 - 2 * dampening)), 0.0, 1 - eps)
    beta1_prod = beta1_prod * beta
    exp_avg = beta * exp_avg + (1 - beta) ** dampening * g
    m = exp_avg / (1 - beta1_prod) * beta1 ** (1 - dampening)
    return p - lr * m, exp_avg, exp_avg_sq, beta1_prod


@against(
    lambda params, **same: po.Amos(params, foreach=False, **same),
    lr=0.2, beta=0.9, momentum=0.6, extra_l2=0.1, c_coef=0.4, d_coef=0.3, eps=1e-2, shapes=((7,), (15,)),
)  # fmt: skip
@rule
def amos(
    p, g, exp_avg, exp_avg_sq: Number, decay: Number,
    *, lr=1e-3, beta=0.999, momentum=0.0, extra_l2=0.0, c_coef=0.25, d_coef=0.25, eps=1e-18, t,
):  # fmt: skip
    """Tian, Parikh, 2022, arXiv 2210.11693: a decay that follows from the rate. A vector's expected scale is 1/2."""
    square, rate = mean(g**2), lr * 0.5
    exp_avg_sq = lerp(exp_avg_sq, square, 1 - beta)
    r = (1 - beta**t) / (exp_avg_sq + eps)
    gamma = lr**2 * r * square / sqrt(1 + c_coef * sqrt(lr) * decay)
    u = ((gamma - extra_l2) / 2 * p + rate * sqrt(r) * g) / (1 + d_coef * sqrt(rate) * decay)
    exp_avg = lerp(exp_avg, u, 1 - momentum)
    return p - exp_avg, exp_avg, exp_avg_sq, decay * (1 + gamma) + gamma


@against(
    lambda params, **same: po.Kate(params, foreach=False, **same),
    lr=0.3, delta=0.2, eps=1e-2, weight_decay=0.1,
)  # fmt: skip
@rule
def kate(p, g, m, b, *, lr=1e-3, delta=0.0, eps=1e-8, weight_decay=0.0):
    """Choudhury et al., 2024, arXiv 2403.02648: AdaGrad whose steps do not change where the data are scaled."""
    p = p * (1 - lr * weight_decay)
    square = b**2 + g**2 + eps
    m = sqrt(m**2 + delta * g**2 + g**2 / square)
    return p - lr * m * g / square, m, sqrt(square)


@against(
    lambda params, beta1, beta2, **same: po.AdaSmooth(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.4, beta2=0.9, eps=1e-2, weight_decay=0.1,
)  # fmt: skip
@rule
def adasmooth(
    p, g, s, n, exp_avg_sq, prev_param: Absent, *, lr=1e-3, beta1=0.5, beta2=0.99, eps=1e-6, weight_decay=0.0
):  # fmt: skip
    """Lu, 2022, arXiv 2204.00825: the straighter the path, the shorter the memory. The path is counted from the first step."""
    g = g + weight_decay * p
    moved = p - (p if prev_param is None else prev_param)
    s, n = s + moved, n + abs(moved)
    c = (beta2 - beta1) * abs(s) / (n + eps) + (1 - beta2)
    exp_avg_sq = lerp(exp_avg_sq, g**2, c**2)
    return p - lr * g / sqrt(exp_avg_sq + eps), s, n, exp_avg_sq, p


@against(
    lambda params, **same: po.BCOS(params, foreach=False, **same),
    lr=0.03, beta=0.7, eps=1e-2, weight_decay=0.2,
)  # fmt: skip
@rule
def bcos(p, g, m: Absent, *, lr=1e-3, beta=0.9, eps=1e-6, weight_decay=0.1):
    """Jiang, Xiao, 2025, arXiv 2507.08963, by a conditional estimator. REFERENCE: it means the old m, but has the new."""
    p = p * (1 - lr * weight_decay)
    m = g if m is None else lerp(m, g, 1 - beta)
    v = (3 * beta**2 - 2 * beta**3) * m**2 + (1 - beta) ** 2 * g**2 + 2 * beta * (1 - beta) ** 2 * m * g
    return p - lr * m / (sqrt(v) + eps), m


@against(
    lambda params, beta1, beta2, **same: po.Ano(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, eps=1e-2, weight_decay=0.1,
)  # fmt: skip
@rule
def ano(p, g, exp_avg, exp_avg_sq, *, lr=1e-4, beta1=0.92, beta2=0.99, eps=1e-8, weight_decay=0.0, t):
    """Kegreisz, 2025, arXiv 2508.18258: the mean gives the sign alone, the gradient the length, Yogi's moment the rate."""
    p = p * (1 - lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * sign(g**2 - exp_avg_sq) * g**2
    return p - lr * abs(g) * sign(exp_avg) / (sqrt(exp_avg_sq / (1 - beta2**t)) + eps), exp_avg, exp_avg_sq


def later_rate(params: list[torch.Tensor], lr: float, max_lr: float, **same: Any) -> torch.optim.Optimizer:
    """AdamC as it is once a scheduler has lowered its rate from the largest."""
    optimizer = po.AdamC(params, lr=max_lr, normalized=True, foreach=False, **same)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return optimizer


@against(
    lambda params, beta1, beta2, **same: later_rate(params, betas=(beta1, beta2), **same),
    lr=0.03, max_lr=0.05, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.3,
)  # fmt: skip
@rule
def adamc(p, g, exp_avg, exp_avg_sq, *, lr=1e-3, max_lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, t):
    """Defazio, 2025, arXiv 2506.02285: the decay falls with the square of the rate. REFERENCE: eps is corrected for the start too."""
    p = p * (1 - lr**2 / max_lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    u = exp_avg / (1 - beta1**t) / ((sqrt(exp_avg_sq + TINY) + eps) / sqrt(1 - beta2**t))
    return p - lr * u, exp_avg, exp_avg_sq


@against(
    lambda params, beta1, beta2, **same: po.EXAdam(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, eps=1e-2, weight_decay=0.1,
)  # fmt: skip
@rule
def exadam(p, g, exp_avg, exp_avg_sq, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, t):
    """Adly, 2024, arXiv 2412.20302: each moment is corrected by the other."""
    p = p * (1 - lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    by_v = 1 + exp_avg_sq / (exp_avg_sq + eps) * beta2**t
    by_m = 1 + exp_avg**2 / (exp_avg**2 + eps) * beta1**t
    m = (exp_avg + g) / (1 - beta1**t) * by_v
    return p - lr * m / (sqrt(exp_avg_sq / (1 - beta2**t) * by_m) + eps), exp_avg, exp_avg_sq


@against(
    lambda params, **same: po.MSVAG(params, foreach=False, **same),
    lr=0.03, beta=0.7,
)  # fmt: skip
@rule
def msvag(p, g, exp_avg, exp_avg_sq, *, lr=1e-2, beta=0.9, t):
    """Balles, Hennig, 2017, arXiv 1705.07774: each element's step shrinks by the share of its variance."""
    exp_avg = lerp(exp_avg, g, 1 - beta)
    exp_avg_sq = beta * exp_avg_sq + (1 - beta) * g**2
    m, v = exp_avg / (1 - beta**t), exp_avg_sq / (1 - beta**t)
    rho = (1 - beta ** (2 * t)) * (1 - beta) ** 2 / ((1 - beta**2) * (1 - beta**t) ** 2)
    rho = minimum(rho, 0.9999)
    variance = (v - m**2) / (1 - rho)
    factor = where(abs(m) > 0, clamp(m**2 / (m**2 + rho * variance), 0.0, 1.0), 0.0)
    return p - lr * factor * m, exp_avg, exp_avg_sq


@against(
    lambda params, beta1, beta2, **same: po.DualAdam(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, switch_rate=0.17, eps=1e-2, weight_decay=0.1,
)  # fmt: skip
@rule
def dual_adam(
    p, g, exp_avg, exp_avg_sq, *, lr=1e-3, beta1=0.9, beta2=0.999, switch_rate=0.01, eps=1e-8, weight_decay=0.0, t
):  # fmt: skip
    """arXiv 2603.07122: from Adam with its denominator as a factor, step by step, to Adam."""
    g = g + weight_decay * p
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    root = sqrt(exp_avg_sq / (1 - beta2**t)) + eps
    inverse = maximum(1 - t * switch_rate, 0.0)
    factor = where(inverse >= switch_rate, lerp(1 / root, root, inverse), 1 / root)
    return p - lr * exp_avg / (1 - beta1**t) * factor, exp_avg, exp_avg_sq


@against(
    lambda params, **same: po.VSGD(params, foreach=False, **same),
    lr=0.05, ghattg=20.0, ps=0.05, tau1=0.7, tau2=0.85, eps=1e-2, weight_decay=0.1,
)  # fmt: skip
@rule
def vsgd(p, g, mug, bg, bhg, *, lr=0.1, ghattg=30.0, ps=1e-8, tau1=0.81, tau2=0.9, eps=1e-8, weight_decay=0.0, t):
    """Chen et al., 2024: SGD as variational inference of the true gradient's and the noise's variance."""
    p = p * (1 - lr * weight_decay)
    shape, prior, noise = 2 * ps + 1 + 1e-4, 2 * ps, 2 * ghattg * ps
    sg = where(t > 1, bg / shape, prior / (shape - 1))
    shg = where(t > 1, bhg / shape, noise / (shape - 1))
    m = (mug * shg + g * sg) / (sg + shg)
    square = m**2 + sg * shg / (sg + shg)
    bg = lerp(bg, prior + square - 2 * m * mug + mug**2, t**-tau1)
    bhg = lerp(bhg, noise + square - 2 * g * m + g**2, t**-tau2)
    return p - lr / (sqrt(square) + eps) * m, m, bg, bhg


@against(
    lambda params, **same: po.ApolloDQN(params, foreach=False, **same),
    lr=0.05, init_lr=0.01, beta=0.8, warmup_steps=4, eps=1e-3, weight_decay=0.1,
)  # fmt: skip
@rule
def apollo(
    p, g, exp_avg_grad, approx_hessian, update,
    *, lr=1e-2, init_lr=1e-5, beta=0.9, warmup_steps=500, eps=1e-4, weight_decay=0.0, t,
):  # fmt: skip
    """Ma, 2020, arXiv 2009.13586: a diagonal quasi-Newton step, its curvature at least 0.01 (rectified by a constant)."""
    rate = where(t >= warmup_steps, lr, (lr - init_lr) * t / warmup_steps + init_lr)
    g = g + weight_decay * p
    alpha = (1 - beta) / (1 - beta**t)
    change = g - exp_avg_grad
    exp_avg_grad = exp_avg_grad + alpha * change
    length = sum(update**4) ** 0.25 + eps / 0.01
    d = update / length
    curvature = -alpha * sum(change / length * d) - sum(approx_hessian * d**2)
    approx_hessian = approx_hessian + curvature * d**2
    update = exp_avg_grad / maximum(abs(approx_hessian), 0.01)
    return p - rate * update, exp_avg_grad, approx_hessian, update


@against(
    lambda params, beta1, beta2, **same: po.Lamb(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, eps=1e-2, weight_decay=0.2, shapes=((7,), (5, 11)),
)  # fmt: skip
@rule
def lamb_bounded(p, g, exp_avg, exp_avg_sq, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.0, t):
    """LAMB otherwise than in the catalogue. REFERENCE: v is left uncorrected, the norm of p counts up to 10, decay is decoupled."""
    p = p * (1 - lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    u = exp_avg / (sqrt(exp_avg_sq) + eps)
    length = minimum(norm(p), 10.0)
    trust = where(length > 0, where(norm(u) > 0, length / (norm(u) + eps), 1.0), 1.0)
    return p - lr / (1 - beta1**t) * trust * u, exp_avg, exp_avg_sq


@against(
    lambda params, beta1, beta2, **same: po.SWATS(alone(params), betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.9, eps=0.3, weight_decay=0.1,
)  # fmt: skip
@rule
def swats(
    p, g, exp_avg, exp_avg_sq, exp_avg2: Number, momentum_buffer, rate: Number,
    *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.0, t,
):  # fmt: skip
    """Keskar, Socher, 2017, arXiv 1712.07628: Adam until the length of SGD's step that its own amounts to settles; then SGD.

    `rate` is that of SGD, 0 in Adam's phase. Each tensor is a group of its own, with its own phase.
    REFERENCE: eps is the tolerance of settling too.
    """
    g = g + weight_decay * p
    sgd = rate > 0
    momentum_buffer = where(sgd, beta1 * momentum_buffer + g, momentum_buffer)
    exp_avg = where(sgd, exp_avg, lerp(exp_avg, g, 1 - beta1))
    exp_avg_sq = where(sgd, exp_avg_sq, beta2 * exp_avg_sq + (1 - beta2) * g**2)
    d = -lr * sqrt(1 - beta2**t) / (1 - beta1**t) * exp_avg / (sqrt(exp_avg_sq + TINY) + eps)
    along = sum(d * g)
    scaling = -sum(d**2) / along
    measured = where(sgd, 0.0, abs(along)) > 0
    exp_avg2 = where(measured, lerp(exp_avg2, scaling, 1 - beta2), exp_avg2)
    found = exp_avg2 / (1 - beta2**t)
    near = where(abs(found - scaling) <= 1e-8 + eps * abs(scaling), found, 0.0)
    switched = where(measured, where(t > 1, maximum(near, 0.0), 0.0), 0.0)
    p = where(sgd, p - rate * (1 - beta1) * momentum_buffer, p + d)
    return p, exp_avg, exp_avg_sq, exp_avg2, momentum_buffer, where(sgd, rate, switched)
