# %% [en]
# # 6. Adam
#
# Adam joins two ideas: momentum's running average of the gradient, over the root of RMSProp's running average of its square. And it
# corrects a mistake of both. The averages start at zero, so in the first steps they are too small, and not equally so. Without the
# correction the first hundred steps would be 3.2 to 6.6 times as long.
# %% [zh]
# # 6. Adam
#
# Adam 把两个想法合在一起：动量的梯度滑动平均，除以 RMSProp 的梯度平方滑动平均的根。并且它修正两者共有的一个错误：平均从零开始，所以头几步太小，
# 而且两者小的程度不同。如果没有修正，头一百步会是 3.2 到 6.6 倍长。
# %% [lead]
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.reports.notebook import apart, figure, show
from steprule.reports.panels import curves, heights, paths
from steprule.tutorial.rules import adam_uncorrected

t = np.arange(1, 2001)


def averages_and_steps():
    """Both averages of a gradient that is always 1, and the steps at learning rate 1: without correction, by Adam; each [2000]."""
    found, m, v = [], 0.0, 0.0
    for k in t:
        raw, *_ = adam_uncorrected(0.0, 1.0, m, v, lr=1.0)
        corrected, m, v, *_ = rules.adam(0.0, 1.0, m, v, lr=1.0, t=float(k))
        found.append((m, np.sqrt(v), -raw, -corrected))
    return np.array(found).T


mean, root, raw, corrected = averages_and_steps()
figure(
    curves(
        "running average of a gradient that is always 1",
        {
            "without bias correction": mean,
            "Adam, with bias correction": mean / (1 - 0.9**t),
        },
        log="x",
        height=1.5,
    ),
    curves(
        "root of the running average of its square",
        {
            "without bias correction": root,
            "Adam, with bias correction": root / np.sqrt(1 - 0.999**t),
        },
        log="x",
        height=1.5,
    ),
    curves(
        "length of the step, in learning rates",
        {"without bias correction": raw, "Adam, with bias correction": corrected},
        log="x",
        ticks=[1, 3, 5],
        height=1.9,
    ),
    says="Both averages start at zero and need ten and thousands of steps to reach 1; corrected they are 1 at once. Their ratio, the step,"
    " is at first 3.2 to 6.6 times too long without correction; Adam's is one learning rate from the first step on.",
)
# %% [fact]
assert np.allclose(corrected, 1, atol=1e-6)
assert np.allclose(mean / (1 - 0.9**t), 1)
assert np.allclose(root / np.sqrt(1 - 0.999**t), 1)
assert abs(raw[0] - 0.1 / np.sqrt(0.001)) < 1e-4
assert round(raw[:100].min(), 1) == 3.2
assert round(raw.max(), 1) == 6.6
assert raw.argmax() + 1 == 12
# %% [en]
# ## The formula
#
# The root is taken before the division, so that no large square overflows: $\hat{s}$ is the corrected root.
# %% [zh]
# ## 公式
#
# 先开根号再除，这样大的平方不会溢出：$\hat{s}$ 是修正后的根。
# %%
show(rules.adam)
# %% [en]
# ## The first step by hand
#
# After one step the average of the gradient is $(1-\beta_1) g = 0.1 g$, the average of its square $(1-\beta_2) g^2 = 0.001 g^2$. Corrected
# they are $g$ and $g^2$, and the step is the learning rate in each coordinate. Uncorrected it is $0.1/\sqrt{0.001} = 3.2$ times as long.
# %% [zh]
# ## 手算第一步
#
# 一步之后，梯度的平均是 $(1-\beta_1) g = 0.1 g$，平方的平均是 $(1-\beta_2) g^2 = 0.001 g^2$。修正之后就是 $g$ 和 $g^2$，于是每个坐标的一步恰好是
# 学习率。没有修正，它是 $0.1/\sqrt{0.001} = 3.2$ 倍长。
# %%
first = {
    "without bias correction": steprule.trace(adam_uncorrected, lr=0.1, steps=10),
    "Adam": steprule.trace("adam", lr=0.1, steps=10),
}
figure(
    paths(first),
    says="In ten steps at learning rate 0.1 Adam goes one unit in each coordinate, without correction it goes several.",
    playground="../../play.html",
)
# %% [fact]
moves = {name: np.diff(path.points, axis=0) for name, path in first.items()}
assert np.allclose(moves["Adam"][0], 0.1, atol=1e-6)
assert np.allclose(
    moves["without bias correction"][0] / moves["Adam"][0],
    0.1 / np.sqrt(0.001),
    rtol=1e-3,
)
# %%
apart(first["Adam"], 1)
# %% [en]
# ## The path
#
# At learning rate 0.4 Adam overshoots: its momentum carries it past the minimum and round again. At 0.1 it swings across the valley
# once, comes down along it, and is not quite there after sixty steps.
# %% [zh]
# ## 路径
#
# 学习率 0.4 时 Adam 会冲过头：动量带它越过极小点又绕回来。0.1 时它只横越山谷一次，再沿谷而下，六十步后还差一点。
# %%
rates = {
    "Adam, lr 0.4": steprule.trace("adam", lr=0.4, steps=60),
    "Adam, lr 0.1": steprule.trace("adam", lr=0.1, steps=60),
}
figure(
    paths(rates),
    says="At learning rate 0.4 Adam passes the minimum and comes back; at 0.1 it does not pass it.",
    playground="../../play.html",
)
# %% [fact]
wide, calm = rates.values()
assert calm.points[:, 0].max() < 0 < 1 < wide.points[:, 0].max()
assert 0.05 < np.abs(calm.points[-1]).max() < 1
assert (calm.points[30:50, 1] > 0).all()
# %% [en]
# ## On data
# %% [zh]
# ## 用在数据上
# %%
ours = steprule.train("adam", lr=0.01)
theirs = steprule.train(torch.optim.Adam, lr=0.01)
print(
    f"{ours.final_loss:.5f} from the formula, {theirs.final_loss:.5f} by PyTorch's class"
)
# %% [fact]
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
# %% [en]
# ## So which is best?
#
# All figures of this lesson side by side would rank the six methods, and the ranking would be worth nothing: learning rates were
# given, not tuned, and the spread over seeds is as wide as the gaps. A race tunes everyone alike, repeats the tuning, confirms
# the winners on seeds that no tuning saw, and says which differences are real. This is a small one:
# %% [zh]
# ## 那么哪个最好？
#
# 把这一课所有的数并排放在一起，可以给六个方法排名，而这个排名毫无价值：学习率是给定的，没有调过，而种子之间的散布与差距一样宽。
# 比赛对所有方法做同样的调参，重复调参，用任何调参都没见过的种子来确认，再指出哪些差别是真实的。下面是一场小比赛：
# %%
race = steprule.race(
    ["sgd", "adagrad", "rmsprop", "adadelta", "adam"],
    "airfoil-linear",
    trials=16,
    seeds=3,
    fresh=10,
    schedules=["linear"],
)
print(race)
show(
    race, says="The five rules' test losses after tuning; their intervals overlap."
)
# %% [en]
# ## Exercises
#
# 1. Multiply the loss by 1,000. What does Adam's first step become? What does plain descent's?
# 2. With a short memory ($\beta_1 = \beta_2 = 0.5$) and learning rate 0.4 Adam circles the minimum for ever. Show it, and show
#    that AMSGrad arrives. Why?
# %% [zh]
# ## 练习
#
# 1. 把损失乘以 1,000。Adam 的第一步变成什么？普通梯度下降的呢？
# 2. 记忆很短（$\beta_1 = \beta_2 = 0.5$）、学习率 0.4 时，Adam 永远绕着极小点打转。请验证，并验证 AMSGrad 会到达。为什么？
# %% [solution]
small = steprule.trace("adam", "x^2/10 + 2*y^2", (-5.0, -2.0), 1, lr=0.1)
large = steprule.trace("adam", "100*x^2 + 2000*y^2", (-5.0, -2.0), 1, lr=0.1)
# The same; plain descent's would be a thousand times as long.
assert np.allclose(small.points, large.points)
# %% [solution]
short = {"lr": 0.4, "beta1": 0.5, "beta2": 0.5, "steps": 150}
ways = {
    "Adam": steprule.trace("adam", **short),
    "AMSGrad": steprule.trace("adam", amsgrad=True, **short),
}
assert ways["Adam"].values[-20:].max() > 0.01
assert ways["AMSGrad"].values[-20:].max() < 1e-8
# Adam's second moment falls as fast as the gradient, so their ratio, and with it
# the step, does not; AMSGrad keeps the largest one, and its steps shrink.
figure(
    paths(ways),
    heights(ways),
    says="Adam circles the minimum, AMSGrad arrives.",
    playground="../../play.html",
)
