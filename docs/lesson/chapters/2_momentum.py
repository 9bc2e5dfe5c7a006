# %% [en]
# # 2. Momentum
#
# A ball does not stop where the slope changes sign; it carries its speed. Keep a running sum of gradients, let it fade by a
# factor $\mu$ each step, and walk along that sum. Where gradients agree they add up; where they alternate they cancel.
# %% [zh]
# # 2. 动量
#
# 小球不会在坡度变号的地方停下，它带着速度。把梯度累加起来，每一步让它按因子 $\mu$ 消退，并沿着这个和走。梯度方向一致时彼此相加，
# 来回交替时彼此抵消。
# %%
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.races.as_given import TUTORIAL, compare
from steprule.reports.notebook import apart, show

show(rules.sgd, momentum=0.5)  # the variant that runs when momentum is not 0
# %% [en]
# ## The path
#
# The same bowl, the same learning rate. Plain descent spends its steps crossing the valley. With $\mu = 0.5$ the crossing
# averages out, and along the valley the steps add up to nearly $1/(1-\mu) = 2$ times their length.
# %% [zh]
# ## 路径
#
# 同一个碗，同一个学习率。普通梯度下降把步子花在来回穿过山谷上。取 $\mu = 0.5$ 时，来回的部分被平均掉，沿着山谷的步子累加到
# 接近 $1/(1-\mu) = 2$ 倍长。
# %%
plain = steprule.trace("sgd", lr=0.4)
rolling = steprule.trace("sgd", lr=0.4, momentum=0.5)
print(rolling)
show(plain, rolling)
# %% [en]
# ## A step by hand
#
# The third step. `momentum_buffer` is the running sum: half of the old one, plus the gradient.
# %% [zh]
# ## 手算一步
#
# 第三步。`momentum_buffer` 就是累加的和：旧值的一半，加上梯度。
# %%
apart(rolling, 3)
# %% [en]
# ## On data
# %% [zh]
# ## 用在数据上
# %%
ours = steprule.train("sgd", lr=0.02, momentum=0.5)
theirs = steprule.train(torch.optim.SGD, lr=0.02, momentum=0.5)
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
show(ours, theirs)
# %%
show(compare(TUTORIAL[2:4], seeds=20, init="tutorial"))
# %% [en]
# ## Exercises
#
# 1. On a slope that never changes ($g = 1$ always), how long do the steps get with $\mu = 0.9$?
# 2. Momentum 0.5 at learning rate 0.6: plain descent would run away there. What happens?
#
# **Solutions**
# %% [zh]
# ## 练习
#
# 1. 在一个永远不变的坡上（始终 $g = 1$），$\mu = 0.9$ 时步子会变得多长？
# 2. 动量 0.5、学习率 0.6：普通梯度下降在这里会跑掉。现在会怎样？
#
# **解答**
# %%
p, buffer = 0.0, None
for _ in range(100):
    before = p
    p, buffer = rules.sgd(p, 1.0, buffer, lr=1.0, momentum=0.9)
assert abs(before - p - 10) < 1e-3  # the sum 1 + 0.9 + 0.81 + ... is 1 / (1 - 0.9)
# %%
kept = steprule.trace("sgd", lr=0.6, momentum=0.5)
assert kept.diverged_at is None
# With momentum mu the limit is 2 (1 + mu) / 4 = 0.75, not 0.5.
assert kept.values[-1] < 0.1
print(kept)
