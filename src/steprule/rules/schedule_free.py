"""Schedule-free gradient descent: the gradient is taken near an average of fast steps, which is the model."""

from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from steprule.hyper import Letter, Meaning, Neutral, OnePerTensor, Rate, Search, StartsAt, WeightDecay
from steprule.maths import lerp, maximum, minimum, where
from steprule.rules.rule import Paper, rule

DEFAZIO = Paper(
    "Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky", 2024, "The Road Less Scheduled", "https://arxiv.org/abs/2405.15682"
)  # fmt: skip
Fast = Annotated[Any, StartsAt("p"), Letter("z")]
LargestRate = Annotated[float, OnePerTensor(0.0), Letter(r"\eta^{\max}")]
WeightSum = Annotated[float, OnePerTensor(0.0), Letter("W")]
Nearness = Annotated[
    float, Gt(0), Lt(1), Meaning("how near to the average the gradient is taken", r"\beta"), Search(0.5, 0.99, "complement")
]  # fmt: skip
Warmup = Annotated[float, Ge(0), Neutral(0), Meaning("steps in which the learning rate rises", r"T_w"), Search(1, 1e4)]
StepPower = Annotated[float, Ge(0), Meaning("power of the step in its weight in the average"), Search(0, 3, "linear")]
RatePower = Annotated[
    float, Ge(0), Meaning("power of the largest rate in a step's weight in the average", "q"), Search(0, 2, "linear")
]  # fmt: skip


def warmed(lr: Any, warmup_steps: Any, t: Any) -> Any:
    """The learning rate of step t, which rises linearly at first."""
    return lr * minimum(t / maximum(warmup_steps, 1), 1)


def weight(t: Any, r: Any, lr_max: Any, weight_lr_power: Any) -> Any:
    """The weight of step t in the average."""
    return t**r * lr_max**weight_lr_power


def share(w: Any, weight_sum: Any) -> Any:
    """The step's part of the average; none while all weights are 0, as with a rate of 0."""
    return where(weight_sum > 0, w / weight_sum, 0)


def moved(p: Any, z: Any, d: Any, c: Any, gamma: Any, nearness: Any) -> tuple[Any, Any]:
    """p and z after a step of z by gamma d that makes a part c of the average, with p the same part of the way from z to it."""
    return lerp(p, z, c) + gamma * (nearness * (1 - c) - 1) * d, z - gamma * d


def average(p: Any, z: Any, nearness: Any) -> Any:
    """The average of z, which p lies a part `nearness` of the way to."""
    return lerp(p, z, 1 - 1 / nearness)


@rule(title="schedule-free SGD", family="gradient descent", paper=DEFAZIO)
def schedule_free_sgd(
    p, g, z: Fast, lr_max: LargestRate, weight_sum: WeightSum,
    *, lr: Rate = 1.0, momentum: Nearness = 0.9, weight_decay: WeightDecay = 0.0, warmup_steps: Warmup = 0.0,
    r: StepPower = 0.0, weight_lr_power: RatePower = 2.0, t,
):  # fmt: skip
    """Gradient descent without a schedule: p lies between the fast z and its average, at which the model is read."""
    gamma = warmed(lr, warmup_steps, t)
    lr_max = maximum(lr_max, gamma)
    w = weight(t, r, lr_max, weight_lr_power)
    weight_sum = weight_sum + w
    c = share(w, weight_sum)
    if weight_decay:
        g = g + weight_decay * p
    p, z = moved(p, z, g, c, gamma, momentum)
    return p, z, lr_max, weight_sum


@schedule_free_sgd.evaluated
def average_of_sgd(p, z, *, momentum):
    """The average of z."""
    return average(p, z, momentum)
