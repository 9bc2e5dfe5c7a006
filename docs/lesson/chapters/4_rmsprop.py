# %% [en]
# # 4. RMSProp
#
# AdaGrad remembers everything; RMSProp forgets. It keeps a running average of squared gradients, in which each one fades by a factor
# $\alpha$ per step. Once a steep part lies behind, the step size can grow again.
# %% [zh]
# # 4. RMSProp
#
# AdaGrad 什么都记得，RMSProp 会忘。它用梯度平方的滑动平均，其中每个梯度每一步按因子 $\alpha$ 消退。一旦陡的一段过去了，步长可以重新变大。
# %% [lead]
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.reports.notebook import apart, figure, show
from steprule.reports.panels import curves, heights, paths

back = np.arange(60)
gradients = np.where(
    np.arange(1, 91) <= 30, 10.0, 1.0
)  # steep for thirty steps, then flat


def divisors(rule, **settings):
    """What the rule divides the gradient by, at each step."""
    memory, found = 0.0, []
    for g in gradients:
        _, memory = rule(0.0, g, memory, **settings)
        found.append(np.sqrt(memory))
    return found


figure(
    curves(
        "weight of a squared gradient, the newest being 1",
        {"AdaGrad": (back, np.ones(60)), "RMSProp, decay 0.9": (back, 0.9**back)},
        x="steps back",
    ),
    curves(
        "what a method divides the gradient by,\nwhile the gradient falls from 10 to 1",
        {
            "AdaGrad": divisors(rules.adagrad_eps_inside),
            "RMSProp, decay 0.9": divisors(rules.rmsprop_eps_inside, alpha=0.9),
            "gradient": gradients,
        },
        log="y",
        height=2.4,
    ),
    says="In AdaGrad's memory every gradient weighs the same; in RMSProp's the weight fades by a factor 0.9 per step. So after the gradient"
    " has fallen from 10 to 1 RMSProp's divisor falls to 1 as well, and AdaGrad's stays at 55.",
)
# %% [fact]
remembered, faded = (
    divisors(rules.adagrad_eps_inside),
    divisors(rules.rmsprop_eps_inside, alpha=0.9),
)
assert round(remembered[29]) == round(remembered[-1]) == 55
assert 9.5 < faded[29] < 10
assert 1 < faded[-1] < 1.1
assert 1.4 < faded[70] < 1.6
# %% [en]
# The gradient is 10 for thirty steps and then 1. RMSProp's divisor follows it down, with a delay of some forty steps. AdaGrad's stays
# at 55 for good.
#
# ## The formula
# %% [zh]
# 梯度先有三十步是 10，之后是 1。RMSProp 的除数随之下降，大约迟四十步。AdaGrad 的除数永远停在 55。
#
# ## 公式
# %%
show(rules.rmsprop_eps_inside)
# %% [en]
# ## The tutorial's path
#
# Learning rate 0.4 for both. Both bend into the valley; then AdaGrad stays behind, and RMSProp arrives.
# %% [zh]
# ## 教程里的路径
#
# 两者的学习率都是 0.4。两者都弯进山谷；后来 AdaGrad 落在后面，RMSProp 走到了终点。
# %%
walks = {
    "AdaGrad": steprule.trace("adagrad_eps_inside", lr=0.4),
    "RMSProp": steprule.trace("rmsprop_eps_inside", lr=0.4, alpha=0.9),
}
print(walks["RMSProp"])
figure(
    paths(walks),
    says="After twenty steps AdaGrad is half-way and RMSProp at the minimum.",
    playground="../../play.html",
)
# %% [fact]
assert np.allclose(walks["RMSProp"].points[-1], (-0.010599, 0.0), atol=1e-6)
assert np.allclose(walks["AdaGrad"].points[-1], (-2.382563, -0.158591), atol=1e-6)
# %%
apart(walks["RMSProp"], 10)
# %% [en]
# ## Epsilon inside or outside the root
#
# The tutorial adds epsilon under the root, PyTorch behind it. These are two methods with one name, and here two rules. Under the root
# $\epsilon$ keeps the divisor above $\sqrt{\epsilon}$, behind it above $\epsilon$ itself.
# %% [zh]
# ## epsilon 在根号内还是根号外
#
# 教程把 epsilon 加在根号内，PyTorch 加在根号外。这是同一个名字下的两个方法，在这里是两条规则。在根号内，$\epsilon$ 使除数不小于
# $\sqrt{\epsilon}$；在根号外，则不小于 $\epsilon$ 本身。
# %%
show(rules.rmsprop)
# %%
settings = {
    "start": (-0.5, -0.2),
    "steps": 200,
    "lr": 0.1,
    "alpha": 0.9,
    "eps": 0.05,
}
both = {
    "epsilon inside": steprule.trace("rmsprop_eps_inside", **settings),
    "epsilon outside": steprule.trace("rmsprop", **settings),
}
sizes = {name: w.step_sizes[:, 1] for name, w in both.items()}
ends = np.array([1, 200])
figure(
    paths(both, height=1.8),
    heights(both),
    curves(
        "step size in y",
        sizes,
        guides={"above 0.5 y runs away": (ends, [0.5, 0.5])},
    ),
    says="With epsilon 0.05 outside the root the path comes near the minimum first and then circles it; with epsilon inside the root it"
    " arrives, because its step size stays below 0.5.",
    playground="../../play.html",
)
# %% [fact]
inside, outside = both.values()
assert sizes["epsilon inside"].max() < 0.1 / np.sqrt(0.05) < 0.5 < 0.1 / 0.05
assert sizes["epsilon outside"].max() > 0.5
assert (outside.values[1:23] < inside.values[1:23]).all()
assert inside.values[200] < 1e-17
assert outside.values[50:].min() > 1e-4
# %% [en]
# In $y$ a step size above 0.5 overshoots to a greater height than before. With $\epsilon = 0.05$ the bound inside is
# $0.1/\sqrt{0.05} = 0.45$, and the path arrives. The bound outside is $0.1/0.05 = 2$: the step size grows as the gradients get smaller,
# until the path jumps, and it circles for ever. Outside is ahead for the first 22 steps. So look at the whole curve: one step of it could
# tell the opposite.
#
# ## On data
#
# Here $\epsilon = 10^{-8}$ is too small to matter, and formula and class agree.
# %% [zh]
# 在 $y$ 方向，步长超过 0.5 就会冲到比原来更高的地方。取 $\epsilon = 0.05$ 时，根号内的上限是 $0.1/\sqrt{0.05} = 0.45$，路径会到达。根号外的上限是
# $0.1/0.05 = 2$：梯度越小步长越大，直到路径跳起来，从此一直打转。头 22 步里，根号外的领先。所以要看整条曲线：只看其中一步，会得出相反的结论。
#
# ## 用在数据上
#
# 这里 $\epsilon = 10^{-8}$ 太小，不起作用，公式写法与类一致。
# %%
ours = steprule.train("rmsprop", lr=0.01, alpha=0.9)
theirs = steprule.train(torch.optim.RMSprop, lr=0.01, alpha=0.9)
print(
    f"{ours.final_loss:.5f} from the formula, {theirs.final_loss:.5f} by PyTorch's class"
)
# %% [fact]
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
# %% [en]
# ## Exercises
#
# 1. How many steps back does the average look? Show that the weights of the last $1/(1-\alpha)$ gradients are 63 % of all.
# 2. Near a minimum the gradient goes to zero, and with it the average. What does that do to the step?
# %% [zh]
# ## 练习
#
# 1. 这个平均往回看多少步？证明最近 $1/(1-\alpha)$ 个梯度的权重占全部的 63 %。
# 2. 在极小点附近梯度趋于零，平均也随之趋于零。这对步子有什么影响？
# %% [solution]
alpha = 0.99
weights = (1 - alpha) * alpha ** np.arange(100)  # 100 = 1 / (1 - alpha)
print(f"{weights.sum():.3f}")  # 1 - 1/e
assert abs(weights.sum() - (1 - np.exp(-1))) < 0.003
# %% [solution]
nears = steprule.trace("rmsprop", lr=0.1, alpha=0.9, steps=300)
length = np.abs(np.diff(nears.points[-20:], axis=0)).max()
# g over its own size: the step does not shrink, the path circles.
print(f"still {length:.3f} a step after 300 steps")
assert length > 0.01
