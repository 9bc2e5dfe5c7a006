"""Steps along the gradient, a mean of it or its sign; norms per tensor; averages of the parameter itself.

`REFERENCE` in a docstring: what pytorch_optimizer does otherwise than the paper.
"""

from __future__ import annotations

from typing import Annotated, Any

import pytorch_optimizer as po
import torch
from published import against

from steprule.hyper import AbsentAtFirst, OnePerTensor, StartsAt
from steprule.maths import clamp, lerp, maximum, norm, sign, sqrt, sum, where
from steprule.rules.rule import rule

Absent = Annotated[Any, AbsentAtFirst()]
Number = Annotated[Any, OnePerTensor(0.0)]


@against(
    lambda params, beta1, beta2, **same: po.Lion(params, betas=(beta1, beta2), cautious=True, foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.95, weight_decay=0.1,
)  # fmt: skip
@rule
def cautious_lion(p, g, exp_avg, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Liang et al., 2024, arXiv 2411.16085: an element that goes against its gradient waits; the others go the further."""
    p = p * (1 - lr * weight_decay)
    u = sign(lerp(exp_avg, g, 1 - beta1))
    agree = u * g > 0
    return p - lr * u * agree * (sum(p**0) / (sum(agree) + 1)), lerp(exp_avg, g, 1 - beta2)


@against(
    lambda params, beta1, **same: po.MARS(
        params, betas=(beta1, 0.99), mars_type="lion", optimize_1d=True, foreach=False, **same
    ),
    lr=0.03, beta1=0.8, gamma=0.1, weight_decay=0.1,
)  # fmt: skip
@rule
def mars_lion(p, g, exp_avg, last_grad, *, lr=3e-3, beta1=0.95, gamma=0.025, weight_decay=0.0):
    """Yuan et al., 2024, arXiv 2411.10438: the sign of a mean from which variance is taken."""
    c = g + gamma * beta1 / (1 - beta1) * (g - last_grad)
    exp_avg = lerp(exp_avg, c / maximum(norm(c), 1.0), 1 - beta1)
    return p * (1 - lr * weight_decay) - lr * sign(exp_avg), exp_avg, g


@against(
    lambda params, **same: po.QHM(params, foreach=False, **same),
    lr=0.03, momentum=0.8, nu=0.7, weight_decay=0.1,
)  # fmt: skip
@rule
def qhm(p, g, momentum_buffer, *, lr=1e-3, momentum=0.9, nu=1.0, weight_decay=0.0):
    """Ma, Yarats, 2018, arXiv 1810.06801: a share nu of the mean, the rest of the gradient itself."""
    g = g + weight_decay * p
    momentum_buffer = lerp(momentum_buffer, g, 1 - momentum)
    return p - lr * (nu * momentum_buffer + (1 - nu) * g), momentum_buffer


@against(
    lambda params, **same: po.SignSGD(params, foreach=False, **same),
    lr=0.03, momentum=0.7, weight_decay=0.1,
)  # fmt: skip
@rule
def signum(p, g, momentum_buffer, *, lr=1e-3, momentum=0.9, weight_decay=0.0):
    """Bernstein et al., 2018, arXiv 1802.04434: the sign of a mean."""
    momentum_buffer = lerp(momentum_buffer, g, 1 - momentum)
    return p * (1 - lr * weight_decay) - lr * sign(momentum_buffer), momentum_buffer


@against(
    lambda params, **same: po.Tiger(params, foreach=False, **same),
    lr=0.03, beta=0.8, weight_decay=0.2,
)  # fmt: skip
@rule
def tiger(p, g, exp_avg, *, lr=1e-3, beta=0.965, weight_decay=0.01):
    """Su, 2023: Lion with one beta, so that gradients can be added into its one state."""
    exp_avg = lerp(exp_avg, g, 1 - beta)
    return p * (1 - lr * weight_decay) - lr * sign(exp_avg), exp_avg


@against(
    lambda params, beta1, beta2, **same: po.FOCUS(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.9, gamma=0.3, weight_decay=0.2,
)  # fmt: skip
@rule
def focus(p, g, exp_avg, pbar, *, lr=1e-2, beta1=0.9, beta2=0.999, gamma=0.1, weight_decay=0.0, t):
    """Liu et al., 2025, arXiv 2501.12243: signs of the mean gradient and of the way from the mean parameter."""
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    pbar = lerp(pbar, p, 1 - beta2)
    middle = pbar / (1 - beta2**t)
    p = p - lr * weight_decay * middle
    return p - lr * (sign(exp_avg) + gamma * sign(p - middle)), exp_avg, pbar


@against(
    lambda params, **same: po.SGDW(params, foreach=False, **same),
    lr=0.03, momentum=0.8, dampening=0.3, weight_decay=0.1, nesterov=True,
)  # fmt: skip
@rule
def sgdw(p, g, momentum_buffer: Absent, *, lr=1e-4, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False):
    """Loshchilov, Hutter, 2017, arXiv 1711.05101: momentum with decoupled decay. As torch's SGD, it starts at the gradient."""
    p = p * (1 - lr * weight_decay)
    b = g if momentum_buffer is None else momentum * momentum_buffer + (1 - dampening) * g
    return p - lr * (g + momentum * b if nesterov else b), b


@against(
    lambda params, **same: po.AccSGD(params, foreach=False, **same),
    lr=0.03, kappa=20.0, xi=4.0, constant=0.6, weight_decay=0.1,
)  # fmt: skip
@rule
def accsgd(p, g, momentum_buffer: Absent, *, lr=1e-3, kappa=1000.0, xi=10.0, constant=0.7, weight_decay=0.0):
    """Kidambi et al., 2018: accelerated SGD by a second sequence, which takes long steps."""
    start = p if momentum_buffer is None else momentum_buffer
    g = g + weight_decay * p
    beta = xi * constant**2 / kappa
    b = beta * ((1 / beta - 1) * start - lr * kappa / constant * g + p)
    return lerp(p - lr * g, b, beta / (constant + beta)), b


@against(
    lambda params, beta1, beta2, beta3, **same: po.AggMo(params, betas=(beta1, beta2, beta3), foreach=False, **same),
    lr=0.03, beta1=0.3, beta2=0.6, beta3=0.95, weight_decay=0.1,
)  # fmt: skip
@rule
def aggmo(p, g, b1, b2, b3, *, lr=1e-3, beta1=0.0, beta2=0.9, beta3=0.99, weight_decay=0.0):
    """Lucas et al., 2018, arXiv 1804.00325: the mean of several momenta."""
    g = g + weight_decay * p
    b1, b2, b3 = beta1 * b1 + g, beta2 * b2 + g, beta3 * b3 + g
    return p - lr * (b1 + b2 + b3) / 3, b1, b2, b3


@against(
    lambda params, beta1, beta2, **same: po.PNM(params, betas=(beta1, beta2), foreach=False, **same),
    lr=0.03, beta1=0.8, beta2=0.6, weight_decay=0.1,
)  # fmt: skip
@rule
def pnm(p, g, newer, older, *, lr=1e-3, beta1=0.9, beta2=1.0, weight_decay=0.0):
    """Xie et al., 2021, arXiv 2103.17182: of two momenta in turn, more than all of one less a part of the other."""
    p = p * (1 - lr * weight_decay)
    m = lerp(older, g, 1 - beta1**2)
    return p - lr * ((1 + beta2) * m - beta2 * newer) / sqrt((1 + beta2) ** 2 + beta2**2), m, newer


@against(
    lambda params, **same: po.PID(params, foreach=False, **same),
    lr=0.003, momentum=0.7, dampening=0.2, derivative=6.0, integral=3.0, weight_decay=0.1,
)  # fmt: skip
@rule
def pid(
    p, g, i_buffer, d_buffer, grad_buffer: Absent,
    *, lr=1e-3, momentum=0.9, dampening=0.1, derivative=10.0, integral=5.0, weight_decay=0.0,
):  # fmt: skip
    """An et al., 2018: a controller's three terms: the gradient, its sum, its change."""
    g = g + weight_decay * p
    change = g - (g if grad_buffer is None else grad_buffer)
    i_buffer = momentum * i_buffer + (1 - dampening) * g
    d_buffer = momentum * d_buffer + (1 - momentum) * change
    return p - lr * (g + integral * i_buffer + derivative * d_buffer), i_buffer, d_buffer, g


@against(
    lambda params, **same: po.SRMM(params, foreach=False, **{**same, "memory_length": int(same["memory_length"])}),
    lr=0.03, beta=0.6, memory_length=3,
)  # fmt: skip
@rule
def srmm(p, g, mov_avg_grad, mov_avg_param, count: Number, *, lr=1e-2, beta=0.5, memory_length=100):
    """Lyu, 2022, arXiv 2201.01652: means of the gradient and the parameter that begin anew from time to time."""
    count = where(count + 1 >= memory_length, 0.0, count + 1)
    weight = (count + 1) ** -beta
    mov_avg_grad = lerp(mov_avg_grad, g, weight)
    mov_avg_param = lerp(mov_avg_param, p, weight) - lr * mov_avg_grad
    return mov_avg_param, mov_avg_grad, mov_avg_param, count


@against(
    lambda params, bound, **same: po.Fromage(params, p_bound=bound, foreach=False, **same),
    lr=0.3, bound=1.05,
)  # fmt: skip
@rule
def fromage(p, g, limit: Number, *, lr=0.01, bound=2.0, t):
    """Bernstein et al., 2020, arXiv 2002.03432: steps as long as a share of the tensor, whose norm is bounded by its first one."""
    limit = where(t > 1, limit, bound * norm(p))
    relative = where(norm(p) > 0, where(norm(g) > 0, norm(p) / norm(g), 1.0), 1.0)
    p = (p - lr * relative * g) / sqrt(1 + lr**2)
    return where(norm(p) > limit, p * limit / norm(p), p), limit


@against(
    lambda params, incremental, **same: po.A2Grad(params, variant="inc" if incremental else "uni", foreach=False, **same),
    beta=3.0, lips=4.0, incremental=True,
)  # fmt: skip
@rule
def a2grad(p, g, avg_grad, x_k: Absent, v_k: Number, *, beta=10.0, lips=10.0, incremental=False, t):
    """Deng et al., 2018, arXiv 1810.00553: Nesterov's acceleration with adaptive steps, uniform or incremental."""
    start = p if x_k is None else x_k
    gamma, alpha, before = 2 * lips / (t + 1), 2 / (t + 3), where(t > 1, 2 / (t + 2), 1.0)
    avg_grad = lerp(avg_grad, g, 1 / t)
    far = sum((g - avg_grad) ** 2)
    if incremental:
        v_k = v_k * (t / (t + 1)) ** 2 + far
        h = sqrt(v_k) * sqrt(t + 1)
    else:
        v_k = v_k + far
        h = sqrt(v_k)
    rate = 1 / (gamma + beta * h)
    x_k = start - rate * g
    return lerp(p, x_k, alpha) - (1 - alpha) * before * rate * g, avg_grad, x_k, v_k


@against(
    lambda params, **same: po.A2Grad(params, variant="exp", foreach=False, **same),
    beta=3.0, lips=4.0, rho=0.7,
)  # fmt: skip
@rule
def a2grad_exp(p, g, avg_grad, x_k: Absent, v_k: Number, v_kk: Number, *, beta=10.0, lips=10.0, rho=0.5, t):
    """The same with a mean of squares that forgets exponentially and never falls."""
    start = p if x_k is None else x_k
    gamma, alpha, before = 2 * lips / (t + 1), 2 / (t + 3), where(t > 1, 2 / (t + 2), 1.0)
    avg_grad = lerp(avg_grad, g, 1 / t)
    v_kk = lerp(v_kk, sum((g - avg_grad) ** 2), 1 - rho)
    v_k = maximum(v_kk, v_k)
    rate = 1 / (gamma + beta * sqrt(v_k) * sqrt(t + 1))
    x_k = start - rate * g
    return lerp(p, x_k, alpha) - (1 - alpha) * before * rate * g, avg_grad, x_k, v_k, v_kk


@against(
    lambda params, k, alpha, **same: po.Lookahead(torch.optim.SGD(params, foreach=False, **same), k=k, alpha=alpha),
    lr=0.05, momentum=0.7, k=3, alpha=0.6,
)  # fmt: skip
@rule
def lookahead(p, g, momentum_buffer, slow_params: Absent, count: Number, *, lr=1e-2, momentum=0.9, k=5, alpha=0.5):
    """Zhang et al., 2019, arXiv 1907.08610, around momentum: each k steps, slow weights go a share of the way to the fast ones."""
    slow = p if slow_params is None else slow_params
    momentum_buffer = momentum * momentum_buffer + g
    fast = p - lr * momentum_buffer
    due = count + 1 >= k
    slow = where(due, lerp(slow, fast, alpha), slow)
    return where(due, slow, fast), momentum_buffer, slow, where(due, 0.0, count + 1)


@against(
    lambda params, **same: po.OrthoGrad(torch.optim.SGD(params, foreach=False, **same), foreach=False),
    lr=0.05, momentum=0.7,
)  # fmt: skip
@rule
def orthograd(p, g, momentum_buffer, *, lr=1e-2, momentum=0.9):
    """Prieto et al., 2025, arXiv 2501.04697, before momentum: the part across p, as long as the whole.

    A gradient parallel to p but for rounding is nothing in the reference; no drawn gradient is.
    """
    across = g - sum(p * g) / (sum(p**2) + 1e-30) * p
    momentum_buffer = momentum * momentum_buffer + across * (norm(g) / (norm(across) + 1e-30))
    return p - lr * momentum_buffer, momentum_buffer


@against(
    lambda params, low, high, smallest, largest, **same: torch.optim.Rprop(
        params, etas=(low, high), step_sizes=(smallest, largest), foreach=False, **same
    ),
    lr=0.03, low=0.4, high=1.3, smallest=0.02, largest=0.06,
)  # fmt: skip
@rule
def rprop(
    p, g, prev, step_size: Annotated[Any, StartsAt("lr")], *, lr=0.01, low=0.5, high=1.2, smallest=1e-6, largest=50.0
):  # fmt: skip
    """Riedmiller, Braun, 1993: a step size per element that grows while the sign stays; where it turned, the element waits."""
    turn = sign(g * prev)
    step_size = clamp(step_size * where(turn > 0, high, where(turn < 0, low, 1.0)), smallest, largest)
    g = where(turn < 0, 0.0, g)
    return p - step_size * sign(g), g, step_size


@against(
    lambda params, decay, **same: torch.optim.ASGD(params, lambd=decay, foreach=False, **same),
    lr=0.05, decay=0.1, alpha=0.6, t0=3, weight_decay=0.2,
)  # fmt: skip
@rule
def asgd(p, g, ax, *, lr=0.01, decay=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0, t):
    """Polyak, Juditsky, 1992: SGD with a falling rate, and the mean of its points from step t0 on."""
    eta = lr / (1 + decay * lr * (t - 1)) ** alpha
    p = p * (1 - decay * eta) - eta * (g + weight_decay * p)
    return p, lerp(ax, p, 1 / maximum(t - 1 - t0, 1))


@against(
    lambda params, beta1, beta2, threshold, k, **same: po.Ranger(
        params, betas=(beta1, beta2), n_sma_threshold=threshold, k=int(k), degenerated_to_sgd=True, use_gc=False, foreach=False, **same
    ),
    lr=0.03, beta1=0.8, beta2=0.95, eps=1e-2, weight_decay=0.1, threshold=4.5, k=3, alpha=0.6,
)  # fmt: skip
@rule
def ranger(
    p, g, exp_avg, exp_avg_sq, slow_buffer: Absent, count: Number,
    *, lr=1e-3, beta1=0.95, beta2=0.999, eps=1e-5, weight_decay=0.0, threshold=5, k=6, alpha=0.5, t,
):  # fmt: skip
    """Wright, 2019: RAdam in Lookahead, here without centring gradients."""
    slow = p if slow_buffer is None else slow_buffer
    p = p * (1 - lr * weight_decay)
    exp_avg = lerp(exp_avg, g, 1 - beta1)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    r = sqrt((1 - beta2**t) * (rho - 4) / (rho_inf - 4) * (rho - 2) / rho * rho_inf / (rho_inf - 2))
    fast = p - lr / (1 - beta1**t) * where(rho >= threshold, r * exp_avg / (sqrt(exp_avg_sq) + eps), exp_avg)
    due = count + 1 >= k
    slow = where(due, lerp(slow, fast, alpha), slow)
    return where(due, slow, fast), exp_avg, exp_avg_sq, slow, where(due, 0.0, count + 1)
