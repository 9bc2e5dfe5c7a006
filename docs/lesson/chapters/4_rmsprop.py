# %% [en]
# # 4. RMSProp
#
# AdaGrad remembers everything; RMSProp forgets. In place of the sum of all squared gradients it keeps a running average, in
# which a gradient fades by a factor $\alpha$ each step. The step size can grow again once the steep part lies behind.
# %% [zh]
# # 4. RMSProp
#
# AdaGrad 什么都记得，RMSProp 会忘。它不用所有梯度平方的和，而用滑动平均，其中每个梯度每一步按因子 $\alpha$ 消退。一旦陡的一段过去了，
# 步长可以重新变大。
# %%
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.races.as_given import TUTORIAL, compare
from steprule.reports.notebook import apart, show

show(rules.rmsprop_eps_inside)
# %% [en]
# ## The path
#
# The same learning rate, 0.4, and the same first bend as AdaGrad's. Then AdaGrad stays behind, and RMSProp arrives.
# %% [zh]
# ## 路径
#
# 学习率同为 0.4，起初与 AdaGrad 弯得一样。后来 AdaGrad 落在后面，RMSProp 走到了终点。
# %%
forgets = steprule.trace("rmsprop_eps_inside", lr=0.4, alpha=0.9)
remembers = steprule.trace("adagrad_eps_inside", lr=0.4)
print(forgets)
show(remembers, forgets)
# %%
apart(forgets, 10)
# %% [en]
# ## Epsilon inside or outside
#
# The tutorial adds epsilon under the root, PyTorch behind it. They are two methods with one name: under the root $10^{-2}$
# weighs as much as $10^{-1}$ behind it. Both are rules here, under their own names, so nothing is mixed up.
# %% [zh]
# ## epsilon 在根号内还是根号外
#
# 教程把 epsilon 加在根号内，PyTorch 加在根号外。这是同一个名字下的两个方法：根号内的 $10^{-2}$ 相当于根号外的 $10^{-1}$。
# 在这里两者是各有其名的规则，不会混淆。
# %%
show(rules.rmsprop)
# %%
settings = {"start": (-0.5, -0.2), "lr": 0.1, "alpha": 0.9, "eps": 1e-2}
inside = steprule.trace("rmsprop_eps_inside", **settings)
outside = steprule.trace("rmsprop", **settings)
for path in (inside, outside):
    print(f"{path.rule}: value {path.values[10]:.1e} after 10 steps")
show(inside, outside)
# %% [en]
# ## On data
# %% [zh]
# ## 用在数据上
# %%
ours = steprule.train("rmsprop", lr=0.01, alpha=0.9)
theirs = steprule.train(torch.optim.RMSprop, lr=0.01, alpha=0.9)
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
show(ours, theirs)
# %%
show(compare(TUTORIAL[6:8], seeds=20, init="tutorial"))
# %% [en]
# ## Exercises
#
# 1. How many steps back does the average look? Show that the weights of the last $1/(1-\alpha)$ gradients are 63 % of all.
# 2. Near a minimum the gradient goes to zero, and with it the average. What does that do to the step?
#
# **Solutions**
# %% [zh]
# ## 练习
#
# 1. 这个平均往回看多少步？证明最近 $1/(1-\alpha)$ 个梯度的权重占全部的 63 %。
# 2. 在极小点附近梯度趋于零，平均也随之趋于零。这对步子有什么影响？
#
# **解答**
# %%
alpha = 0.99
weights = (1 - alpha) * alpha ** np.arange(100)  # 100 = 1 / (1 - alpha)
print(f"{weights.sum():.3f}")  # 1 - 1/e
assert abs(weights.sum() - (1 - np.exp(-1))) < 0.003
# %%
nears = steprule.trace("rmsprop", lr=0.1, alpha=0.9, steps=300)
length = np.abs(np.diff(nears.points[-20:], axis=0)).max()
# g over its own size: the step does not shrink, the path circles.
print(f"still {length:.3f} a step after 300 steps")
assert length > 0.01
