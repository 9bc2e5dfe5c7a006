# %% [en]
# # 1. Gradient descent
#
# To lower a function, look at its slope and take a step downhill. Gradient descent makes the step the slope times one number, the
# learning rate $\eta$.
#
# One number has to serve every direction. This bowl is twenty times as steep in $y$ as in $x$. What is nearly too long for $y$ is
# far too short for $x$.
# %% [zh]
# # 1. 梯度下降
#
# 要让函数变小，就看它的坡度，朝下坡走一步。梯度下降的一步是坡度乘以一个数，即学习率 $\eta$。
#
# 一个数要照顾所有的方向。这个碗在 $y$ 方向比 $x$ 方向陡二十倍。对 $y$ 几乎太长的一步，对 $x$ 却太短。
# %% [lead]
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.reports.notebook import apart, figure, show
from steprule.reports.panels import curves, paths
from steprule.tutorial import TUTORIAL

walked = steprule.trace("sgd", lr=0.4)
t = np.arange(21)
rates = np.linspace(0, 0.6, 121)

figure(
    paths({"gradient descent": walked}, title="learning rate 0.4"),
    curves(
        "learning rate 0.4: distance left (start: 1)",
        {
            "x, flat": (t, walked.points[:, 0] / -5),
            "y, steep": (t, np.abs(walked.points[:, 1]) / 2),
        },
        log="y",
    ),
    curves(
        "distance left after one step (before it: 1)",
        {
            "x, flat": (rates, np.abs(1 - 0.2 * rates)),
            "y, steep": (rates, np.abs(1 - 4 * rates)),
        },
        x="learning rate",
        guides={
            "above 1 it runs away": ([0.6, 0], [1, 1]),
            "0.4, as above": ([0.4, 0.4], [1.4, 0]),
        },
        ticks=[0, 0.5, 1],
        height=2.1,
    ),
    says="With one learning rate y, the steep direction, zigzags towards zero and x, the flat one, creeps. The learning rate that is best"
    " for y is far too small for x, and a little more than twice as much makes y run away.",
    playground="../../play.html",
)
# %% [fact]
assert np.allclose(walked.points[-1], (-0.943467, -0.000073), atol=1e-6)
assert np.allclose(walked.points[1:] / walked.points[:-1], (0.92, -0.6))
assert (
    np.sign(walked.points[:, 1]) == [(-1) ** (k + 1) for k in range(21)]
).all(), "y changes sides at every step"
assert walked.points[-1, 0] / -5 > 0.18 > 0.0001 > abs(walked.points[-1, 1]) / 2
# %% [en]
# With $\eta = 0.4$ each step leaves 92 % of the way in $x$ and lands on the other side of the valley, at 60 % of the height, in $y$.
#
# ## The formula
# %% [zh]
# 取 $\eta = 0.4$ 时，每一步在 $x$ 方向留下 92 % 的路；在 $y$ 方向则落到山谷的另一侧，离谷底的距离是原来的 60 %。
#
# ## 公式
# %%
show(rules.sgd)
# %% [en]
# The bowl is $f = x^2/10 + 2y^2$. At the start, $(-5, -2)$, the gradient is $(0.2x, 4y) = (-1, -8)$. The first step by hand:
# %% [zh]
# 这个碗是 $f = x^2/10 + 2y^2$。在起点 $(-5, -2)$ 处梯度为 $(0.2x, 4y) = (-1, -8)$。手算第一步：
# %%
apart(walked, 1)
# %% [en]
# ## On data
#
# Linear regression on the airfoil data: 1,500 measurements of noise in a wind tunnel (Brooks, Pope, Marcolini, NASA, 1989; UCI 291,
# CC BY 4.0), minibatches of ten, two passes. Once with the rule from its formula, once with PyTorch's class. From the same weights and
# with the same batches the two curves are one.
# %% [zh]
# ## 用在数据上
#
# 在翼型噪声数据（1,500 次风洞测量；Brooks, Pope, Marcolini, NASA, 1989；UCI 291，CC BY 4.0）上做线性回归：每批十个样本，两轮。一次用公式写成的规则，一次用 PyTorch 的类。
# 从相同的权重出发、用相同的批次，两条曲线是同一条。
# %%
ours = steprule.train("sgd", lr=0.05)
theirs = steprule.train(torch.optim.SGD, lr=0.05)
show(
    ours,
    theirs,
    says="The loss falls from 0.49 to 0.25; the curves of the formula and of PyTorch's class are one.",
)
# %% [fact]
assert np.allclose(ours.losses, theirs.losses, rtol=2e-5)
# %% [en]
# ## One seed is one seed
#
# The batches and the initial weights are drawn by chance. Twenty seeds show how far the final loss moves by that alone. Remember
# this width: a smaller gap between two methods says nothing when it comes from one seed each.
# %% [zh]
# ## 一个种子只是一个种子
#
# 批次和初始权重是随机的。二十个种子显示最终损失仅因此会移动多少。请记住这个宽度：如果两个方法各只跑一个种子，
# 比它更小的差距说明不了任何问题。
# %%
sgd = [run.competitor for run in TUTORIAL if run.method == "SGD"]
show(
    twenty := steprule.race(sgd, "airfoil", trials=0, seeds=20),
    says="The final losses of twenty seeds spread over about 0.008, by formula and by class.",
)
# %% [fact]
for setting in twenty.settings:
    assert 0.005 < np.ptp(setting.finals) < 0.011, np.ptp(setting.finals)
# %% [en]
# ## Exercises
#
# 1. In $y$ each step multiplies $y$ by $1 - 4\eta$. From which $\eta$ on does the path run away? Check it on both sides.
# 2. Which $\eta$ makes the first step land at $y = 0$ exactly? What becomes of $x$ then?
# %% [zh]
# ## 练习
#
# 1. 在 $y$ 方向每一步都把 $y$ 乘以 $1 - 4\eta$。$\eta$ 从多大起路径会跑掉？在两侧各验证一次。
# 2. 哪个 $\eta$ 让第一步正好落在 $y = 0$？这时 $x$ 怎样？
# %% [solution]
# |1 - 4 lr| = 1 at lr = 0.5
below = steprule.trace("sgd", steps=200, lr=0.49)
above = steprule.trace("sgd", steps=200, lr=0.51)
assert abs(below.points[-1, 1]) < 2 < abs(above.points[-1, 1])
print(below.values[-1], above.values[-1])
# %% [solution]
exact = steprule.trace("sgd", steps=20, lr=0.25)
assert exact.points[1, 1] == 0
# x is multiplied by 1 - 0.2 * 0.25 = 0.95 a step: 36 % of the way is left after 20
print(exact.points[-1])
# %% [en]
# **Where this leads.** Momentum averages the zigzag away. The methods after it give each coordinate a step size of its own.
#
# The links to the playground open in the built documentation. In a clone, `steprule play --out docs/play.html` makes the page that
# they look for.
# %% [zh]
# **接下来。** 动量把来回的震荡平均掉。再后面的方法给每个坐标自己的步长。
#
# 演示页的链接在建好的文档里可以直接打开。在克隆的仓库里，先用 `steprule play --out docs/play.html` 生成它们所指的页面。
