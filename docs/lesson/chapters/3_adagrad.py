# %% [en]
# # 3. AdaGrad
#
# Give every coordinate a step size of its own. AdaGrad adds up the squares of all gradients that a coordinate has seen, and
# divides by the root of the sum: who has seen large gradients steps carefully, who has seen small ones may step boldly. A rare
# feature of the data keeps its large step until it turns up.
#
# The price is in the word *all*: the sum never falls, so the steps shrink for ever.
# %% [zh]
# # 3. AdaGrad
#
# 让每个坐标有自己的步长。AdaGrad 把一个坐标见过的所有梯度的平方加起来，再除以这个和的平方根：见过大梯度的坐标走得小心，只见过小梯度的
# 坐标可以大步走。数据里少见的特征会一直保留它的大步长，直到它出现。
#
# 代价就在“所有”二字：这个和永不减小，所以步子不断缩小。
# %%
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.races.as_given import TUTORIAL, compare
from steprule.reports.notebook import apart, show

show(rules.adagrad_eps_inside)
# %% [en]
# ## The path
#
# At learning rate 0.4 the path bends straight towards the valley: no zigzag, for $y$ got a smaller step size than $x$. But
# after twenty steps it has hardly covered half the way, and at 2 it arrives.
# %% [zh]
# ## 路径
#
# 学习率 0.4 时，路径直接弯向谷底：没有震荡，因为 $y$ 的步长比 $x$ 的小。但二十步之后它连一半的路都没有走完；取 2 时就走到了。
# %%
careful = steprule.trace("adagrad_eps_inside", lr=0.4)
bold = steprule.trace("adagrad_eps_inside", lr=2.0)
print(careful)
show(careful, bold)
# %% [en]
# ## Why it slows down
#
# The effective step size in a coordinate is the step over the gradient. It only falls.
# %% [zh]
# ## 为什么越走越慢
#
# 一个坐标的有效步长是步幅除以梯度。它只会下降。
# %%
x, y = careful.points[:-1].T
gradients = np.stack([0.2 * x, 4 * y], axis=1)
effective = np.abs(np.diff(careful.points, axis=0) / gradients)
print(effective[[0, 4, 9, 19]])
assert (np.diff(effective, axis=0) < 0).all()
apart(careful, 20)
# %% [en]
# ## On data
#
# From the formula with epsilon inside the root, and PyTorch's class with epsilon outside. At $10^{-6}$ and $10^{-10}$ neither
# matters here: the sum is soon far larger.
# %% [zh]
# ## 用在数据上
#
# 公式写法的 epsilon 在根号内，PyTorch 的类则在根号外。取 $10^{-6}$ 和 $10^{-10}$ 时两者在这里都无关紧要：和很快就远大于它们。
# %%
ours = steprule.train("adagrad_eps_inside", lr=0.1)
theirs = steprule.train(torch.optim.Adagrad, lr=0.1)
assert np.allclose(ours.losses, theirs.losses, rtol=1e-4)
show(ours, theirs)
# %% [en]
# The diamonds are what the book printed: one seed each. They lie inside the spread of the seeds, so the gap between formula and
# class that it seems to show is no gap.
# %% [zh]
# 菱形是书上印出的数：各只有一个种子。它们落在种子的散布之内，所以书上看起来的“公式与类之间的差距”并不是差距。
# %%
show(compare(TUTORIAL[4:6], seeds=20, init="tutorial"))
# %% [en]
# ## Exercises
#
# 1. On a slope that never changes, how does AdaGrad's $n$-th step depend on $n$?
# 2. Multiply the function by 100. What changes in the path?
#
# **Solutions**
# %% [zh]
# ## 练习
#
# 1. 在一个永远不变的坡上，AdaGrad 的第 $n$ 步怎样随 $n$ 变化？
# 2. 把函数乘以 100。路径有什么变化？
#
# **解答**
# %%
p, total, steps = 0.0, 0.0, []
for _ in range(100):
    q, total = rules.adagrad_eps_inside(p, 1.0, total, lr=1.0, eps=0.0)
    steps.append(p - q)
    p = q
# The n-th step is lr over the root of n.
assert np.allclose(steps, 1 / np.sqrt(np.arange(1, 101)))
# %%
times_100 = "10*x^2 + 200*y^2"
larger = steprule.trace("adagrad_eps_inside", times_100, (-5.0, -2.0), lr=0.4)
# Nothing: the size of the gradient is divided out.
assert np.allclose(larger.points, careful.points, atol=1e-5)
