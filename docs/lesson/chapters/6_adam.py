# %% [en]
# # 6. Adam
#
# Adam joins the two ideas: momentum's running average of the gradient, over the root of RMSProp's running average of its
# square. And it corrects both for a mistake that they share: they start at zero, so in the first steps they are too small.
# %% [zh]
# # 6. Adam
#
# Adam 把两个想法合在一起：动量的梯度滑动平均，除以 RMSProp 的梯度平方滑动平均的根。并且它修正两者共有的一个错误：它们从零开始，
# 所以头几步太小。
# %%
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.races.as_given import TUTORIAL, compare
from steprule.reports.notebook import apart, show
from steprule.rules.lesson import adam_uncorrected

show(rules.adam)
# %% [en]
# ## The path
#
# At 0.4 Adam overshoots: its momentum carries it past the minimum and round again. At 0.1 it swings across the valley once, comes
# down along it, and is not quite there after sixty steps.
# %% [zh]
# ## 路径
#
# 学习率 0.4 时 Adam 会冲过头：动量带它越过极小点又绕回来。0.1 时它只横越山谷一次，再沿谷而下，六十步后还差一点。
# %%
wide = steprule.trace("adam", lr=0.4, steps=60)
calm = steprule.trace("adam", lr=0.1, steps=60)
print(wide)
assert calm.points[:, 0].max() < 0 < 1 < wide.points[:, 0].max()
show(wide, calm)
# %% [en]
# ## What the correction corrects
#
# After one step the average of the gradient is $(1-\beta_1) g = 0.1 g$, the average of its square $(1-\beta_2) g^2 = 0.001 g^2$.
# Divided by $1-\beta_1^t$ and $1-\beta_2^t$ they are $g$ and $g^2$, and the step is the learning rate in each coordinate. (The root
# is taken before the division: $\hat{s}$ is $|g|$. The number is the same, and no large square overflows.)
# %% [zh]
# ## 修正了什么
#
# 一步之后，梯度的平均是 $(1-\beta_1) g = 0.1 g$，平方的平均是 $(1-\beta_2) g^2 = 0.001 g^2$。除以 $1-\beta_1^t$ 和 $1-\beta_2^t$
# 之后就是 $g$ 和 $g^2$，于是每个坐标的一步恰好是学习率。（先开根号再除：$\hat{s}$ 就是 $|g|$。数值相同，而大的平方不会溢出。）
# %%
apart(calm, 1)
# %% [en]
# Without it the first step would be $0.1 / \sqrt{0.001} = 3.2$ times as long, just when the averages know least:
# %% [zh]
# 没有修正，第一步会是 $0.1 / \sqrt{0.001} = 3.2$ 倍长，而这正是平均值知道得最少的时候：
# %%
raw = steprule.trace(adam_uncorrected, lr=0.1, steps=10)
corrected = steprule.trace("adam", lr=0.1, steps=10)
print(np.diff(raw.points[:4], axis=0) / np.diff(corrected.points[:4], axis=0))
show(corrected, raw)
# %% [en]
# ## On data
# %% [zh]
# ## 用在数据上
# %%
ours = steprule.train("adam", lr=0.01)
theirs = steprule.train(torch.optim.Adam, lr=0.01)
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
show(ours, theirs)
# %%
show(compare(TUTORIAL[10:12], seeds=20, init="tutorial"))
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
race
# %% [en]
# ## Exercises
#
# 1. Multiply the loss by 1,000. What does Adam's first step become? What does plain descent's?
# 2. With a short memory ($\beta_1 = \beta_2 = 0.5$) and learning rate 0.4 Adam circles the minimum for ever. Show it, and show
#    that AMSGrad arrives. Why?
#
# **Solutions**
# %% [zh]
# ## 练习
#
# 1. 把损失乘以 1,000。Adam 的第一步变成什么？普通梯度下降的呢？
# 2. 记忆很短（$\beta_1 = \beta_2 = 0.5$）、学习率 0.4 时，Adam 永远绕着极小点打转。请验证，并验证 AMSGrad 会到达。为什么？
#
# **解答**
# %%
small = steprule.trace("adam", "x^2/10 + 2*y^2", (-5.0, -2.0), 1, lr=0.1)
large = steprule.trace("adam", "100*x^2 + 2000*y^2", (-5.0, -2.0), 1, lr=0.1)
# The same; plain descent's would be a thousand times as long.
assert np.allclose(small.points, large.points)
# %%
short = {"lr": 0.4, "beta1": 0.5, "beta2": 0.5, "steps": 150}
circles = steprule.trace("adam", **short)
arrives = steprule.trace("adam", amsgrad=True, **short)
assert circles.values[-20:].max() > 0.01
assert arrives.values[-20:].max() < 1e-8
# Adam's second moment falls as fast as the gradient, so their ratio, and with it
# the step, does not; AMSGrad keeps the largest one, and its steps shrink.
show(circles, arrives)
