# %% [en]
# # 2. Momentum
#
# Momentum keeps a running sum of gradients, lets it fade by a factor $\mu$ each step, and walks along that sum. Along the valley all
# gradients point the same way, and they add up. Across the valley they alternate, and they cancel.
# %% [zh]
# # 2. 动量
#
# 动量把梯度累加起来，每一步让这个和按因子 $\mu$ 消退，并沿着它走。沿着山谷，梯度方向一致，彼此相加；横着山谷，梯度来回交替，彼此抵消。
# %% [lead]
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.reports.notebook import apart, figure, show
from steprule.reports.panels import curves, paths

walks = {
    "gradient descent": steprule.trace("sgd", lr=0.46),
    "momentum 0.5": steprule.trace("sgd", lr=0.46, momentum=0.5),
}


def running_sum(gradients):
    """What momentum 0.5 walks along, at each step."""
    total, found = None, []
    for g in gradients:
        _, total = rules.sgd(0.0, g, total, lr=1.0, momentum=0.5)
        found.append(total)
    return np.array(found)


agree, alternate = np.ones(12), (-1.0) ** np.arange(12)
width = np.array([1, 19])  # room for the limits' labels beside the lines
figure(
    paths(walks, title="learning rate 0.46"),
    curves(
        "gradients that agree, and their running sum",
        {"running sum": running_sum(agree), "gradient": agree},
        guides={"1/(1 − 0.5) = 2": (width, [2.0, 2.0])},
        marks=True,
        ticks=[1, 2],
    ),
    curves(
        "gradients that alternate, and their running sum",
        {"running sum": running_sum(alternate), "gradient": alternate},
        guides={"1/(1 + 0.5) ≈ 0.67": (width, np.full(2, 1 / 1.5))},
        marks=True,
        ticks=[-1, 0, 1],
    ),
    says="Gradients that agree add up to twice their size in momentum's running sum; gradients that alternate shrink to two thirds. So the"
    " path with momentum zigzags less and gets on faster along the valley.",
    playground="../../play.html",
)
# %% [fact]
assert abs(running_sum(agree)[-1] - 2) < 0.001
assert abs(abs(running_sum(alternate)[-1]) - 1 / 1.5) < 0.001
plain, rolling = walks.values()
assert abs(plain.points[20, 1]) > 0.05 > 0.005 > abs(rolling.points[20, 1])
assert abs(plain.points[20, 0]) > 0.7 > 0.1 > abs(rolling.points[20, 0])
# %% [en]
# With $\mu = 0.5$ what agrees grows to $1/(1-\mu) = 2$ times its size, and what alternates shrinks to $1/(1+\mu) = 2/3$.
#
# ## The formula
#
# This is the variant that runs when momentum is not 0. PyTorch's formula also has a dampening; here it is 0, as by default.
# %% [zh]
# 取 $\mu = 0.5$ 时，方向一致的部分增大到 $1/(1-\mu) = 2$ 倍，来回交替的部分缩小到 $1/(1+\mu) = 2/3$。
#
# ## 公式
#
# 这是动量不为 0 时的写法。PyTorch 的公式里还有一个阻尼（dampening）；这里取默认值 0。
# %%
show(rules.sgd, momentum=0.5, dampening=0)
# %% [en]
# ## The tutorial's path
#
# Learning rate 0.4, momentum 0.5, twenty steps. The third step by hand: `momentum_buffer` is the running sum, half of the old one plus
# the gradient.
# %% [zh]
# ## 教程里的路径
#
# 学习率 0.4，动量 0.5，二十步。手算第三步：`momentum_buffer` 就是累加的和，旧值的一半加上梯度。
# %%
tutorial = steprule.trace("sgd", lr=0.4, momentum=0.5)
print(tutorial)
apart(tutorial, 3)
# %% [fact]
assert np.allclose(tutorial.points[-1], (-0.062843, 0.001202), atol=1e-6)
# %% [en]
# ## On data
#
# From the formula, and by PyTorch's class: one curve again, from the same weights.
# %% [zh]
# ## 用在数据上
#
# 公式写法，和 PyTorch 的类：从相同的权重出发，仍是同一条曲线。
# %%
ours = steprule.train("sgd", lr=0.02, momentum=0.5)
theirs = steprule.train(torch.optim.SGD, lr=0.02, momentum=0.5)
print(
    f"{ours.final_loss:.5f} from the formula, {theirs.final_loss:.5f} by PyTorch's class"
)
# %% [fact]
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
# %% [en]
# ## Exercises
#
# 1. On a slope that never changes ($g = 1$ always), how long do the steps get with $\mu = 0.9$?
# 2. Momentum 0.5 at learning rate 0.6: plain descent would run away there. What happens?
# %% [zh]
# ## 练习
#
# 1. 在一个永远不变的坡上（始终 $g = 1$），$\mu = 0.9$ 时步子会变得多长？
# 2. 动量 0.5、学习率 0.6：普通梯度下降在这里会跑掉。现在会怎样？
# %% [solution]
p, buffer = 0.0, None
for _ in range(100):
    before = p
    p, buffer = rules.sgd(p, 1.0, buffer, lr=1.0, momentum=0.9)
assert abs(before - p - 10) < 1e-3  # the sum 1 + 0.9 + 0.81 + ... is 1 / (1 - 0.9)
# %% [solution]
kept = steprule.trace("sgd", lr=0.6, momentum=0.5)
assert kept.diverged_at is None
# With momentum mu the limit is 2 (1 + mu) / 4 = 0.75, not 0.5.
assert kept.values[-1] < 0.1
print(kept)
