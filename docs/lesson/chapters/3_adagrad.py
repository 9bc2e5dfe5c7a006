# %% [en]
# # 3. AdaGrad
#
# AdaGrad gives every coordinate a step size of its own. It adds up the squares of all gradients that the coordinate has seen,
# and divides by the root of the sum.
#
# The word *all* has a price. Here the gradients are noisy, as on real data. The sum grows with every step, so the step size
# falls like $1/\sqrt{t}$. RMSProp, the next chapter's method, divides by an average, which stays.
# %% [zh]
# # 3. AdaGrad
#
# AdaGrad 让每个坐标有自己的步长：把这个坐标见过的所有梯度的平方加起来，再除以这个和的平方根。
#
# 代价就在“所有”二字。这里的梯度带有噪声，就像在真实数据上那样。和每一步都在增大，所以步长像 $1/\sqrt{t}$ 那样缩小。
# 下一章的 RMSProp 除以的是平均，它不会一直增大。
# %% [lead]
import numpy as np
import torch

import steprule
from steprule import rules
from steprule.reports.notebook import apart, figure, show
from steprule.reports.panels import curves, paths
from steprule.tutorial import TUTORIAL

settings = {"lr": 0.4, "steps": 500, "noise": 1.0, "seed": 1}
walks = {
    "AdaGrad": steprule.trace("adagrad_eps_inside", **settings),
    "RMSProp": steprule.trace("rmsprop_eps_inside", **settings),
}
sizes = {name: w.step_sizes[:, 0] for name, w in walks.items()}  # in x
divisors = {name: (0.4 / size) ** 2 for name, size in sizes.items()}
t = np.arange(1, 501)

figure(
    paths(walks, title="every gradient has noise, of variance 1"),
    curves(
        "AdaGrad: the sum of squared gradients in x\nRMSProp: their running average",
        divisors,
        log="xy",
        height=2.0,
    ),
    curves(
        "step size in x: step over gradient",
        sizes,
        log="xy",
        guides={"grey: falls as 1/√t": (t, 0.1 / np.sqrt(t))},
        height=2.0,
    ),
    says="On a bowl with gradient noise AdaGrad's sum grows without end and its step size falls as 0.4/√t; RMSProp's average and"
    " step size stay level.",
    playground="../../play.html",
)
# %% [fact]
under = np.cumsum(walks["AdaGrad"].gradients[:, 0] ** 2)
assert np.allclose(divisors["AdaGrad"], under + 1e-6, rtol=1e-6)
assert abs(under[-1] / 500 - 1) < 0.05
assert np.allclose(sizes["AdaGrad"][100:] * np.sqrt(t[100:]), 0.4, rtol=0.1)
assert (np.diff(sizes["AdaGrad"]) < 0).all()
assert 0.7 < np.median(divisors["RMSProp"][100:]) < 1.4
first = {
    name: int(np.argmax(np.abs(w.points[:, 0]) < 1)) for name, w in walks.items()
}
assert first == {"AdaGrad": 88, "RMSProp": 8}, first
late = {name: float(np.abs(w.points[-100:, 0]).mean()) for name, w in walks.items()}
assert late["AdaGrad"] < 0.35 < 0.7 < late["RMSProp"]
# %% [en]
# The noise has variance 1. So each step adds about 1 to the sum, and the step size follows $0.4/\sqrt{t}$. RMSProp comes within 1
# of the valley's middle in 8 steps, AdaGrad in 88. But who never slows down never rests: at the end RMSProp still jumps about,
# and AdaGrad has settled.
#
# ## The formula
# %% [zh]
# 噪声的方差是 1，所以每一步给和加上大约 1，步长就沿着 $0.4/\sqrt{t}$ 走。RMSProp 用 8 步走到离谷底 $x = 0$ 不足 1 的地方，AdaGrad 用了 88 步。
# 但是从不慢下来，也就从不停下来：到最后 RMSProp 还在跳来跳去，AdaGrad 已经安定下来。
#
# ## 公式
# %%
show(rules.adagrad_eps_inside)
# %% [en]
# ## The tutorial's path
#
# Now without noise. At learning rate 0.4 the path bends straight towards the valley, without a zigzag, for $y$ has a smaller step
# size than $x$. After twenty steps it has covered 52 % of the way in $x$. At learning rate 2 it arrives.
# %% [zh]
# ## 教程里的路径
#
# 现在没有噪声。学习率 0.4 时，路径直接弯向谷底，没有震荡，因为 $y$ 的步长比 $x$ 的小。二十步之后它在 $x$ 方向走了全程的 52 %。学习率取 2 时就走到了。
# %%
careful = steprule.trace("adagrad_eps_inside", lr=0.4)
bold = steprule.trace("adagrad_eps_inside", lr=2.0)
print(careful)
figure(
    paths({"AdaGrad, lr 0.4": careful, "AdaGrad, lr 2": bold}),
    says="At learning rate 0.4 AdaGrad's path ends half-way; at 2 it ends at the minimum.",
    playground="../../play.html",
)
# %% [fact]
assert np.allclose(careful.points[-1], (-2.382563, -0.158591), atol=1e-6)
assert round(100 * (1 + careful.points[-1, 0] / 5)) == 52
assert (np.diff(careful.points, axis=0) > 0).all(), "no zigzag"
assert np.abs(bold.points[-1]).max() < 0.01
# %% [en]
# The second step by hand:
# %% [zh]
# 手算第二步：
# %%
apart(careful, 2)
# %% [en]
# ## Why anybody wants this: rare features
#
# AdaGrad was made for data in which some features are rare, such as words in text. Here are two features. The first is in every
# sample, the second in one of fifty. Both true weights are 1.
# %% [zh]
# ## 为什么有人要这样做：少见的特征
#
# AdaGrad 是为含有少见特征的数据而设计的，例如文本中的词。这里有两个特征：第一个每个样本都有，第二个五十个样本才出现一次。
# 两个权重的真值都是 1。
# %%
rng = np.random.default_rng(0)
t = np.arange(1, 501)
x = np.stack(
    [rng.choice([-1.0, 1.0], 500), t % 50 == 0], axis=1
)  # the common feature, the rare one
y = x.sum(axis=1) + 0.5 * rng.standard_normal(500)


def learn(rule, lr):
    """The weights after each sample, [500, 2]."""
    w, state, found = np.zeros(2), np.zeros(2), []
    for features, target in zip(x, y, strict=True):
        w, state = rule(w, (features @ w - target) * features, state, lr=lr)
        found.append(w)
    return np.array(found)


learned = {
    "gradient descent": learn(rules.sgd, 0.05),
    "AdaGrad": learn(rules.adagrad_eps_inside, 0.5),
}
figure(
    curves(
        "weight of the common feature",
        {n: w[:, 0] for n, w in learned.items()},
        x="sample",
    ),
    curves(
        "weight of the rare feature",
        {n: w[:, 1] for n, w in learned.items()},
        x="sample",
    ),
    says="Both methods learn the common feature's weight within fifty samples. The rare feature's weight AdaGrad learns the first"
    " few times it turns up; gradient descent is half-way after five hundred samples.",
)
# %% [fact]
plain, ada = learned["gradient descent"], learned["AdaGrad"]
assert np.abs(plain[49, 0] - 1) < 0.1 > np.abs(ada[49, 0] - 1)
assert np.abs(ada[149:, 1] - 1).max() < 0.5
assert 0.4 < plain[499, 1] < 0.5
shaking = [float(w[250:, 0].std()) for w in (plain, ada)]
assert abs(shaking[0] / shaking[1] - 1) < 0.2
# %% [en]
# The two learning rates are such that the common weight shakes about equally. Then the rare one tells them apart. Gradient descent
# moves it by the same share each time it turns up. AdaGrad has kept a large step for it, because its sum has hardly grown.
#
# ## On data
#
# Once from the formula with epsilon inside the root, once PyTorch's class with epsilon outside. At $10^{-6}$ and $10^{-10}$ the
# difference does not matter here: the sum is soon far larger. The two runs are the same to four digits.
# %% [zh]
# 两个学习率取得使常见特征的权重抖动得差不多。这时少见的特征就显出差别：梯度下降在它每次出现时移动相同的比例；AdaGrad 则为它保留了大步长，
# 因为它的和几乎没有增大。
#
# ## 用在数据上
#
# 一次用公式写法，epsilon 在根号内；一次用 PyTorch 的类，epsilon 在根号外。取 $10^{-6}$ 和 $10^{-10}$ 时差别在这里无关紧要：和很快就远大于它们。
# 两次训练前四位数字相同。
# %%
ours = steprule.train("adagrad_eps_inside", lr=0.1)
theirs = steprule.train(torch.optim.Adagrad, lr=0.1)
print(
    f"{ours.final_loss:.6f} from the formula, {theirs.final_loss:.6f} by PyTorch's class"
)
# %% [fact]
assert np.allclose(ours.losses, theirs.losses, rtol=1e-4)
# %% [en]
# The diamonds are what the book printed, from one seed each. They lie inside the spread of the seeds. So the gap between formula
# and class that the book seems to show is no gap.
# %% [zh]
# 菱形是书上印出的数，各只有一个种子。它们落在种子的散布之内，所以书上看起来的“公式与类之间的差距”并不是差距。
# %%
adagrads = [run.competitor for run in TUTORIAL if run.method == "AdaGrad"]
show(
    steprule.race(adagrads, "airfoil", trials=0, seeds=20),
    says="The final losses of twenty seeds, by formula and by class, overlap; the book's figures lie among them.",
)
# %% [en]
# ## Exercises
#
# 1. On a slope that never changes, how does AdaGrad's $n$-th step depend on $n$?
# 2. Multiply the function by 100. What changes in the path?
# %% [zh]
# ## 练习
#
# 1. 在一个永远不变的坡上，AdaGrad 的第 $n$ 步怎样随 $n$ 变化？
# 2. 把函数乘以 100。路径有什么变化？
# %% [solution]
p, total, steps = 0.0, 0.0, []
for _ in range(100):
    q, total = rules.adagrad_eps_inside(p, 1.0, total, lr=1.0, eps=0.0)
    steps.append(p - q)
    p = q
# The n-th step is lr over the root of n.
assert np.allclose(steps, 1 / np.sqrt(np.arange(1, 101)))
# %% [solution]
larger = steprule.trace(
    "adagrad_eps_inside", "10*x^2 + 200*y^2", (-5.0, -2.0), lr=0.4
)
# Nothing: the size of the gradient is divided out.
assert np.allclose(larger.points, careful.points, atol=1e-5)
