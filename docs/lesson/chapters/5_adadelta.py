# %% [en]
# # 5. AdaDelta
#
# Where did the learning rate go? AdaDelta looks at units: a step should be measured in units of the parameter, but a gradient
# over a root of squared gradients has no unit at all. So it multiplies by the root of its own past squared steps. The
# learning rate is gone; what stands in its place at the very first step is epsilon.
# %% [zh]
# # 5. AdaDelta
#
# 学习率去哪了？AdaDelta 从单位出发：一步应当以参数的单位来量，而梯度除以梯度平方的根却没有单位。于是它再乘以自己过去步子平方的根。
# 学习率没有了；在最初的一步，代替它的是 epsilon。
# %%
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.races.as_given import TUTORIAL, Entry, compare
from steprule.reports.notebook import apart, show

show(rules.adadelta)
# %% [en]
# ## The path
#
# With PyTorch's epsilon, $10^{-6}$, two hundred steps go a fifth of the way: there were no past steps to learn a size from.
# With $10^{-3}$ it walks at once.
# %% [zh]
# ## 路径
#
# 用 PyTorch 的 epsilon $10^{-6}$，两百步只走了五分之一的路：没有过去的步子可以学到大小。用 $10^{-3}$ 则立刻就走。
# %%
creeps = steprule.trace("adadelta", steps=200)
walks = steprule.trace("adadelta", steps=200, eps=1e-3)
print(creeps)
print(walks)
show(creeps, walks)
# %% [en]
# ## The first step by hand
#
# $\sqrt{0 + \epsilon}$ over $\sqrt{(1-\rho) g^2 + \epsilon}$ times $g$: about $\sqrt{\epsilon/(1-\rho)}$ in each coordinate,
# whatever the gradient.
# %% [zh]
# ## 手算第一步
#
# $\sqrt{0 + \epsilon}$ 除以 $\sqrt{(1-\rho) g^2 + \epsilon}$，再乘以 $g$：无论梯度多大，每个坐标都约为 $\sqrt{\epsilon/(1-\rho)}$。
# %%
print(np.sqrt(1e-6 / 0.1))
apart(creeps, 1)
# %% [en]
# ## On data, and a riddle
#
# The book's formula ends at 0.2465 and 0.2437 in its two editions, its run of PyTorch's class at 0.2421, the best of all. Over
# twenty seeds the class is not the best; it is far behind. The book's figure for it comes up about three times in ten
# thousand seeds.
# %% [zh]
# ## 用在数据上，和一个谜
#
# 书上公式写法的结果在两个版本里是 0.2465 和 0.2437，PyTorch 的类是 0.2421，看起来最好。而二十个种子显示类并不是最好的，它远远落后。
# 书上的那个数大约每一万个种子才出现三次。
# %%
show(compare(TUTORIAL[8:10], seeds=20, init="tutorial"))
# %% [en]
# Why is the class slow? It differs from the formula in **two** things: epsilon ($10^{-6}$ against $10^{-5}$) and the initial
# weights (`nn.Linear`'s own against nearly zero). A gap may be attributed only after varying one thing at a time:
# %% [zh]
# 类为什么慢？它与公式写法有**两处**不同：epsilon（$10^{-6}$ 对 $10^{-5}$）和初始权重（`nn.Linear` 自带的，对接近零的）。
# 只有一次只改变一处，才可以把差距归因于它：
# %%
small, larger = {"rho": 0.9, "eps": 1e-6}, {"rho": 0.9, "eps": 1e-5}
theirs = torch.optim.Adadelta
four = compare(
    [
        Entry("near zero, eps 1e-5", "adadelta", larger, "AdaDelta"),
        Entry("near zero, eps 1e-6", "adadelta", small, "AdaDelta"),
        Entry("nn.Linear's, eps 1e-5", theirs, larger, "AdaDelta"),
        Entry("nn.Linear's, eps 1e-6", theirs, small, "AdaDelta"),
    ],
    seeds=40,
    init="tutorial",
)
means = {row.label: row.mean for row in four.rows}
for row in four.rows:
    print(f"{row.label:24s} {row.mean:.4f} +- {row.sd:.4f}")
show(four)
# %% [en]
# Neither alone explains it. A small epsilon costs little from weights near zero, for they are near the answer; far weights cost
# little with the larger epsilon, for it can walk there. Together they cost a lot: a long way, and no legs yet.
# %% [zh]
# 单独哪一个都解释不了。从接近零的权重出发，小的 epsilon 代价很小，因为离答案不远；用较大的 epsilon 时，远的权重代价也很小，因为走得到。
# 两者合在一起代价就大了：路很远，而又还迈不开腿。
# %%
both = means["nn.Linear's, eps 1e-6"] - means["near zero, eps 1e-5"]
eps_alone = means["near zero, eps 1e-6"] - means["near zero, eps 1e-5"]
init_alone = means["nn.Linear's, eps 1e-5"] - means["near zero, eps 1e-5"]
assert both > 1.5 * (eps_alone + init_alone)
# %% [en]
# With everything the same, formula and class are one curve:
# %% [zh]
# 一切都相同时，公式写法与类是同一条曲线：
# %%
ours = steprule.train("adadelta", rho=0.9, eps=1e-5)
theirs = steprule.train(torch.optim.Adadelta, rho=0.9, eps=1e-5)
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
show(ours, theirs)
# %% [en]
# ## Exercises
#
# 1. Multiply the function by 100. What changes in the path? Why does that make AdaDelta's units right?
# 2. Stretch $x$ tenfold instead. AdaGrad's step does not follow; does AdaDelta's?
#
# **Solutions**
# %% [zh]
# ## 练习
#
# 1. 把函数乘以 100。路径有什么变化？为什么说这使 AdaDelta 的单位是对的？
# 2. 改为把 $x$ 拉长十倍。AdaGrad 的步子不会跟着变；AdaDelta 的呢？
#
# **解答**
# %%
settings = {"start": (-5.0, -2.0), "steps": 100, "eps": 1e-12}
usual = steprule.trace("adadelta", "x^2/10 + 2*y^2", **settings)
scaled = steprule.trace("adadelta", "10*x^2 + 200*y^2", **settings)
# Nothing: g over the root of g^2 has no unit.
assert np.allclose(usual.points, scaled.points, atol=1e-6)
# %%
settings["start"] = (-50.0, -2.0)
long = steprule.trace("adadelta", "x^2/1000 + 2*y^2", **settings)
moved, moved_long = (p.points[-1, 0] - p.points[0, 0] for p in (usual, long))
# Not ten: the first step comes from epsilon alone, which has no unit of x.
print(moved_long / moved)
assert moved_long < 5 * moved
