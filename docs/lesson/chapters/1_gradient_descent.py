# %% [en]
# # 1. Gradient descent
#
# To lower a function, look at its slope and take a step downhill. How long a step? Gradient descent makes it the slope times
# one number, the learning rate $\eta$. That is the whole method, and its whole trouble: one number has to serve every
# direction.
# %% [zh]
# # 1. 梯度下降
#
# 要让函数变小，就看它的坡度，朝下坡走一步。走多长？梯度下降取坡度乘以一个数，即学习率 $\eta$。方法就是这些，麻烦也在这里：
# 一个数要照顾所有的方向。
# %%
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.races.as_given import TUTORIAL, compare
from steprule.reports.notebook import apart, show

show(rules.sgd)
# %% [en]
# ## The path
#
# A bowl that is twenty times as steep in $y$ as in $x$: $f = x^2/10 + 2y^2$. With $\eta = 0.4$ the step in $y$ lands on the
# other side of the valley at a bit over half the height, again and again, while $x$ creeps.
# %% [zh]
# ## 路径
#
# 这个碗在 $y$ 方向比 $x$ 方向陡二十倍：$f = x^2/10 + 2y^2$。取 $\eta = 0.4$ 时，$y$ 方向的一步总是落到山谷的另一侧，高度是原来的一半多一点，
# 而 $x$ 方向只是慢慢爬。
# %%
slow = steprule.trace("sgd", lr=0.1)
quick = steprule.trace("sgd", lr=0.4)
show(slow, quick)
# %%
for path in (slow, quick):
    print(path)
# %% [en]
# ## A step by hand
#
# The first step: the gradient at $(-5, -2)$ is $(0.2x, 4y) = (-1, -8)$. Times $0.4$, subtracted.
# %% [zh]
# ## 手算一步
#
# 第一步：在 $(-5, -2)$ 处梯度为 $(0.2x, 4y) = (-1, -8)$。乘以 $0.4$，再减去。
# %%
apart(quick, 1)
# %% [en]
# ## On data
#
# Linear regression on the airfoil data (1,500 wind-tunnel measurements of noise): minibatches of ten, two passes. Once with the
# rule from its formula, once with PyTorch's class. From the same weights and with the same batches the two curves are one.
# %% [zh]
# ## 用在数据上
#
# 在翼型噪声数据（1,500 次风洞测量）上做线性回归：每批十个样本，两轮。一次用公式写成的规则，一次用 PyTorch 的类。
# 从相同的权重出发、用相同的批次，两条曲线是同一条。
# %%
ours = steprule.train("sgd", lr=0.05)
theirs = steprule.train(torch.optim.SGD, lr=0.05)
show(ours, theirs)
# %%
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
# %% [en]
# ## One seed is one seed
#
# The batches and the initial weights are drawn by chance. Twenty seeds show how far the final loss moves by that alone. Keep
# this width in mind: a gap between two methods that is smaller says nothing when it comes from one seed each.
# %% [zh]
# ## 一个种子只是一个种子
#
# 批次和初始权重是随机的。二十个种子显示最终损失仅因此会移动多少。请记住这个宽度：如果两个方法各只跑一个种子，
# 比它更小的差距说明不了任何问题。
# %%
show(compare(TUTORIAL[0:2], seeds=20, init="tutorial"))
# %% [en]
# ## Exercises
#
# 1. In $y$ each step multiplies $y$ by $1 - 4\eta$. From which $\eta$ on does the path run away? Check it on both sides.
# 2. Which $\eta$ makes the first step land at $y = 0$ exactly? What becomes of $x$ then?
#
# **Solutions**
# %% [zh]
# ## 练习
#
# 1. 在 $y$ 方向每一步都把 $y$ 乘以 $1 - 4\eta$。$\eta$ 从多大起路径会跑掉？在两侧各验证一次。
# 2. 哪个 $\eta$ 让第一步正好落在 $y = 0$？这时 $x$ 怎样？
#
# **解答**
# %%
# |1 - 4 lr| = 1 at lr = 0.5
below = steprule.trace("sgd", steps=200, lr=0.49)
above = steprule.trace("sgd", steps=200, lr=0.51)
assert abs(below.points[-1, 1]) < 2 < abs(above.points[-1, 1])
print(below.values[-1], above.values[-1])
# %%
exact = steprule.trace("sgd", steps=20, lr=0.25)
assert exact.points[1, 1] == 0
# x is multiplied by 1 - 0.2 * 0.25 = 0.95 a step: 36 % of the way is left after 20
print(exact.points[-1])
# %% [en]
# **Where this leads.** One learning rate for all directions is either too long for the steep one or too short for the flat
# one. Momentum averages the zigzag away; the methods after it give each coordinate a step size of its own.
# %% [zh]
# **接下来。** 所有方向共用一个学习率，不是对陡的方向太大，就是对平的方向太小。动量把来回的震荡平均掉；再后面的方法给每个坐标自己的步长。
