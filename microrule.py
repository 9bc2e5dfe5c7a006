"""Eight optimizers, their paths on a surface and a training on measured data, in plain Python.

    python microrule.py [airfoil_self_noise.dat]

An optimizer is one function. It takes a parameter p, its gradient g and what it remembers, and it
returns the new p and the new memory. A model has many parameters; each keeps a memory of its own.
The rest is a loop.

Read from top to bottom: eight rules, the loop, a surface, a data set. Then write a rule of your own
and give it a line in SETTINGS. The package steprule states these rules once more, for tensors, and
tests that both give the same numbers.
"""

import argparse
import hashlib
import os
import random
import sys
from functools import partial
from math import floor, sqrt
from operator import mul
from pathlib import Path
from statistics import fmean, pstdev

# The rules. Between g and the star stands the memory, with its values before the first step.


def sgd(p, g, *, lr=0.01):
    """Gradient descent: go downhill, the steeper the farther (Cauchy, 1847)."""
    return (p - lr * g,)


def momentum(p, g, v=0.0, *, lr=0.01, mu=0.9):
    """A heavy ball: a share mu of its velocity v is kept (Polyak, 1964)."""
    v = mu * v - lr * g
    return p + v, v


def adagrad(p, g, s=0.0, *, lr=0.01, eps=1e-10):
    """Divide by the size of all gradients so far (Duchi, Hazan, Singer, 2011)."""
    s = s + g * g  # only ever grows, so steps only ever shrink
    return p - lr * g / (sqrt(s) + eps), s


def rmsprop(p, g, s=0.0, *, lr=0.01, alpha=0.9, eps=1e-8):
    """AdaGrad that forgets: a running average replaces the sum (Tieleman, Hinton, 2012)."""
    s = alpha * s + (1 - alpha) * g * g
    return p - lr * g / (sqrt(s) + eps), s


def adadelta(p, g, s=0.0, u=0.0, *, rho=0.9, eps=1e-6):
    """RMSProp whose learning rate is the size of its own recent steps (Zeiler, 2012)."""
    s = rho * s + (1 - rho) * g * g
    step = sqrt(u + eps) / sqrt(s + eps) * g  # the first ones are tiny: u begins at 0
    u = rho * u + (1 - rho) * step * step
    return p - step, s, u


def adam(p, g, m=0.0, v=0.0, t=0, *, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """Momentum over RMSProp, both corrected for their start at 0 (Kingma, Ba, 2015)."""
    t = t + 1
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)  # the weights of the gradients so far sum to 1 - beta**t
    v_hat = v / (1 - beta2**t)
    return p - lr * m_hat / (sqrt(v_hat) + eps), m, v, t


def adamw(p, g, *memory, lr=0.001, weight_decay=0.01, **hypers):
    """Adam, and beside it the parameter shrinks (Loshchilov, Hutter, 2019)."""
    return adam(p - lr * weight_decay * p, g, *memory, lr=lr, **hypers)


def lion(p, g, m=0.0, *, lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Only the sign of the momentum counts: each step is lr long (Chen et al., 2023)."""
    c = beta1 * m + (1 - beta1) * g
    m = beta2 * m + (1 - beta2) * g
    sign = (c > 0) - (c < 0)
    return p - lr * (sign + weight_decay * p), m


SETTINGS = {  # rule: (on the surface, in the training)
    sgd: (dict(lr=0.4), dict(lr=0.05)),
    momentum: (dict(lr=0.4, mu=0.5), dict(lr=0.02, mu=0.5)),
    adagrad: (dict(lr=0.4), dict(lr=0.1)),
    rmsprop: (dict(lr=0.4), dict(lr=0.01)),
    adadelta: (dict(eps=0.01), dict(eps=1e-5)),
    adam: (dict(lr=0.4), dict(lr=0.01)),
    adamw: (dict(lr=0.4, weight_decay=0.5), dict(lr=0.01)),
    lion: (dict(lr=0.25), dict(lr=0.01)),
}


# The loop. A walk on a surface and a training differ only in the functions they go down.
def descend(rule, p, functions, **hypers):
    """Yield the list p before the first step and after each. A function: p -> (value, gradient)."""
    memories = [()] * len(p)  # so that the first step takes each rule's defaults
    yield p
    for function in functions:
        _, gradient = function(p)
        steps = [rule(x, g, *m, **hypers) for x, g, m in zip(p, gradient, memories, strict=True)]
        p, memories = [x for x, *_ in steps], [m for _, *m in steps]
        yield p


# A surface: a ravine, steep across and flat along, with its lowest point at (0, 0).
def ravine(p):
    """0.1 x^2 + 2 y^2, and its derivatives by x and y."""
    x, y = p
    return 0.1 * x * x + 2 * y * y, [0.2 * x, 4 * y]


def walk(rule, hypers):
    """Lines of text: 20 steps as letters, from a to u, over rings of equal height."""
    path = list(descend(rule, [-5.0, -2.0], [ravine] * 20, **hypers))
    xs, ys = [-5.4 + 0.18 * i for i in range(38)], [1.35 - 0.3 * k for k in range(13)]
    picture = [[" ."[floor(sqrt(ravine((x, y))[0])) % 2] for x in xs] for y in ys]
    for letter, (x, y) in reversed(list(zip("abcdefghijklmnopqrstu", path))):
        if -5.49 < x < 1.35 and -2.4 < y < 1.5:
            picture[round((1.35 - y) / 0.3)][round((x + 5.4) / 0.18)] = letter
    title = " ".join([rule.__name__, *(f"{name}={value}" for name, value in hypers.items())])
    end = "u is ({:.6f}, {:.6f})".format(*path[-1])
    return [f"{line:38}" for line in (title, *map("".join, picture), end, "")]


# A data set: how loud is a wing? Five properties of it, and the sound pressure in decibels.
# Brooks, Pope, Marcolini, NASA RP-1218 (1989); doi 10.24432/C5VW2C, CC BY 4.0.
FILE, SHA1 = "airfoil_self_noise.dat", "d9dfd00ed1ff52487b87aceb5ff20462d8e0801c"


def load(path):
    """1,500 rows ([five properties, 1], loudness), each column scaled to mean 0 and deviation 1."""
    raw = Path(path).read_bytes().replace(b"\r\n", b"\n")
    if hashlib.sha1(raw).hexdigest() != SHA1:
        raise ValueError(f"Not the 58,481 bytes of the airfoil data: {str(path)!r}")
    table, scaled = [map(float, line.split(b"\t")) for line in raw.splitlines()], []
    for column in zip(*table):
        mean, deviation = fmean(column), pstdev(column)
        scaled.append([(v - mean) / deviation for v in column])
    return [([*x, 1.0], y) for *x, y in zip(*scaled)][:1500]


def half_mse(w, rows):
    """Half the mean squared error of the linear model w, and its derivatives by each weight."""
    errors = [sum(map(mul, w, x)) - y for x, y in rows]
    gradient = [sum(map(mul, errors, column)) / len(rows) for column in zip(*(x for x, _ in rows))]
    return sum(map(mul, errors, errors)) / (2 * len(rows)), gradient


def train(rule, hypers, rows, seed):
    """The loss on all rows after 0, 10, 30, 100 and 300 batches of ten: twice through the data."""
    draw = random.Random(seed)
    w = [*(draw.gauss(0, 0.01) for _ in range(5)), 0.0]
    shuffled = draw.sample(rows, len(rows)) + draw.sample(rows, len(rows))
    losses = [partial(half_mse, rows=shuffled[k : k + 10]) for k in range(0, len(shuffled), 10)]
    path = list(descend(rule, w, losses, **hypers))
    return [half_mse(path[k], rows)[0] for k in (0, 10, 30, 100, 300)]


def main():
    """Print every walk, then every training."""
    here = Path(__file__).resolve().parent
    places = [here / FILE, here / "src/steprule/problems/data" / FILE]  # a download, a clone
    parser = argparse.ArgumentParser(description="Eight optimizers, their paths and a training.")
    parser.add_argument("data", nargs="?", default=next(filter(Path.exists, places), places[0]))
    data = parser.parse_args().data
    try:
        rows = load(data)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}; put {FILE} beside this file or name its place\n")

    print("Walks on 0.1 x^2 + 2 y^2: a is the start (-5, -2), u is step 20.\n")
    rules = list(SETTINGS.items())
    for k in range(0, len(rules), 2):
        for lines in zip(*(walk(rule, hypers) for rule, (hypers, _) in rules[k : k + 2])):
            print("   ".join(lines).rstrip())

    print("Trainings on the airfoil data: the loss after so many samples, a mean of 10 seeds.\n")
    print(f"        {0:>9}{100:>9}{300:>9}{1000:>9}{3000:>9}   lowest and highest")
    for rule, (_, hypers) in rules:
        curves = [train(rule, hypers, rows, seed) for seed in range(10)]
        means = "".join(f"{sum(losses) / 10:9.4f}" for losses in zip(*curves))
        *_, ends = zip(*curves)
        print(f"{rule.__name__:8}{means}   {min(ends):.4f} .. {max(ends):.4f}")
    *_, least = descend(momentum, [0.0] * 6, [partial(half_mse, rows=rows)] * 60, lr=0.3, mu=0.5)
    lowest, _ = half_mse(least, rows)
    print(f"\nNo linear model is below {lowest:.4f}. Ranges that overlap rank nothing.")


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read this has seen enough, as `head` has
        os._exit(0)
