"""Schedule-free Adam: the steps of AdamW or RAdam, each from a fast z, and the average of z is the model."""

from typing import Annotated

from steprule.hyper import Decay, Epsilon, Meaning, Rate, SecondMoment, WeightDecay
from steprule.maths import maximum, sqrt, where
from steprule.rules.rule import rule
from steprule.rules.schedule_free import (
    DEFAZIO,
    Fast,
    LargestRate,
    Nearness,
    RatePower,
    StepPower,
    Warmup,
    WeightSum,
    average,
    moved,
    share,
    warmed,
    weight,
)

Silent = Annotated[bool, Meaning("stand still while the second moment is not known yet, instead of plain descent")]


@rule(title="schedule-free AdamW", family="Adam", paper=DEFAZIO)
def schedule_free_adamw(
    p, g, z: Fast, exp_avg_sq: SecondMoment, lr_max: LargestRate, weight_sum: WeightSum,
    *, lr: Rate = 2.5e-3, beta1: Nearness = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, weight_decay: WeightDecay = 0.0,
    warmup_steps: Warmup = 0.0, r: StepPower = 0.0, weight_lr_power: RatePower = 2.0, t,
):  # fmt: skip
    """AdamW without a schedule: p lies between the fast z and its average, at which the model is read."""
    gamma = warmed(lr, warmup_steps, t)
    lr_max = maximum(lr_max, gamma)
    w = weight(t, r, lr_max, weight_lr_power)
    weight_sum = weight_sum + w
    c = share(w, weight_sum)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    d = g / (sqrt(exp_avg_sq) / sqrt(1 - beta2**t) + eps)
    if weight_decay:
        d = d + weight_decay * p
    p, z = moved(p, z, d, c, gamma, beta1)
    return p, z, exp_avg_sq, lr_max, weight_sum


@schedule_free_adamw.evaluated
def average_of_adamw(p, z, *, beta1):
    """The average of z."""
    return average(p, z, beta1)


@rule(title="schedule-free RAdam", family="Adam", paper=DEFAZIO)
def schedule_free_radam(
    p, g, z: Fast, exp_avg_sq: SecondMoment, lr_max: LargestRate, weight_sum: WeightSum,
    *, lr: Rate = 2.5e-3, beta1: Nearness = 0.9, beta2: Decay = 0.999, eps: Epsilon = 1e-8, weight_decay: WeightDecay = 0.0,
    r: StepPower = 0.0, weight_lr_power: RatePower = 2.0, silent_sgd_phase: Silent = True, t,
):  # fmt: skip
    """RAdam without a schedule: its rectification is the warm-up, and the average of z is the model."""
    rho_inf = 2 / (1 - beta2) - 1
    rho_t = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    rectified = sqrt((rho_t - 4) * (rho_t - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho_t))
    gamma = lr * where(rho_t > 4, rectified, 0 if silent_sgd_phase else 1)
    lr_max = maximum(lr_max, gamma)
    w = weight(t, r, lr_max, weight_lr_power)
    weight_sum = weight_sum + w
    c = share(w, weight_sum)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g * g
    d = where(rho_t > 4, g / (sqrt(exp_avg_sq) / sqrt(1 - beta2**t) + eps), g)
    if weight_decay:
        d = d + weight_decay * p
    p, z = moved(p, z, d, c, gamma, beta1)
    return p, z, exp_avg_sq, lr_max, weight_sum


@schedule_free_radam.evaluated
def average_of_radam(p, z, *, beta1):
    """The average of z."""
    return average(p, z, beta1)
