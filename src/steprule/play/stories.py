"""The playground's stories: a question with places to click, then scenes that play by themselves.

Which place is right follows from the path, so no number is typed twice; a test holds each sentence against the path.
"""

from __future__ import annotations

from dataclasses import dataclass

from steprule.errors import unknown_name

View = tuple[tuple[float, float], tuple[float, float]]
"""A part of the plane: ((x from, x to), (y from, y to))."""


@dataclass(frozen=True)
class Place:
    """One answer to a story's question: a place in the plane, and words for it."""

    at: tuple[float, float]
    words: str


@dataclass(frozen=True)
class Scene:
    """The picture up to a step of the paths: one sentence, the paths that are not drawn, the part of the plane."""

    at: int
    words: str
    hidden: tuple[int, ...] = ()
    view: View | None = None
    begins: int | None = None
    """The step from which it plays; the last step of the scene before if not given."""


@dataclass(frozen=True)
class Story:
    """A state of the page, as its address writes it, a question about one path, and the scenes that answer it."""

    name: str
    title: str
    state: str
    labels: tuple[str, ...]
    """The names of the paths in the picture."""
    question: Scene
    subject: int
    """The number of the path that the question is about."""
    asked: int
    """The right place is the nearest one to that path after this many steps."""
    places: tuple[Place, ...]
    scenes: tuple[Scene, ...]


STORIES = (
    Story(
        "adagrad-slows",
        "AdaGrad slows down",
        "rule=adagrad,lr=0.1&rule=rmsprop,lr=0.1,alpha=0.9&surface=quadratic&start=-5,-2&steps=100&noise=0.5",
        ("AdaGrad", "RMSProp"),
        Scene(
            100,
            "AdaGrad and RMSProp start at the ring, with the same learning rate and the same noisy gradients. After 100 steps"
            " RMSProp is at the star. Where is AdaGrad?",
            hidden=(0,),
        ),
        0,
        100,
        (
            Place((-0.3, -0.35), "at the star, too"),
            Place((-2.3, -0.4), "half way"),
            Place((-3.5, -0.6), "a third of the way"),
        ),
        (
            Scene(
                10,
                "Both divide the gradient by a root of past squares. AdaGrad adds up all of them; RMSProp averages the last ten"
                " or so.",
            ),
            Scene(
                40,
                "AdaGrad's sum only grows. So its effective step size, charted for x and for y, falls and falls.",
            ),
            Scene(
                100,
                "RMSProp forgets old gradients, so its step size recovers and it arrives, trembling with the noise. AdaGrad"
                " forgets none: its step size in x is a tenth of the first, and it has come a third of the way.",
            ),
        ),
    ),
    Story(
        "ravine",
        "The ravine",
        "rule=sgd,lr=0.46&rule=sgd,lr=0.46,momentum=0.5&surface=quadratic&start=-5,-2&steps=20",
        ("plain", "momentum"),
        Scene(
            0,
            "This valley is curved twenty times as strongly across as along. Gradient descent has one learning rate for"
            " both: 0.46. Where does its first step land?",
            hidden=(1,),
        ),
        0,
        1,
        (
            Place((-4.2, -1.75), "a little along the valley"),
            Place((-4.54, 1.68), "across, on the other side"),
            Place((-2.4, -0.3), "on the valley's floor"),
        ),
        (
            Scene(
                1,
                "Across the valley the step is nearly twice as long as the way to the floor: the path lands on the other side.",
                hidden=(1,),
            ),
            Scene(20, "So it zigzags, and along the valley, where the slope is gentle, it creeps.", hidden=(1,)),
            Scene(
                20,
                "Momentum keeps half of the step before. Steps across alternate and cancel, steps along add up: with the same"
                " learning rate its value ends two thousand times lower.",
                begins=0,
            ),
        ),
    ),
    Story(
        "epsilon",
        "Epsilon inside or outside the root",
        "rule=rmsprop,lr=0.1,alpha=0.9,eps=0.05&rule=rmsprop_eps_inside,lr=0.1,eps=0.05&surface=quadratic"
        "&start=-0.5,-0.2&steps=60",
        ("ε outside", "ε inside"),
        Scene(
            10,
            "RMSProp twice, both with ε = 0.05. Added outside the root, it is almost at the star after 10 steps. Where"
            " is it with ε inside the root?",
            hidden=(1,),
            view=((-0.55, 0.1), (-0.24, 0.16)),
        ),
        1,
        10,
        (
            Place((0.012, 0.03), "at the star, too"),
            Place((-0.19, -0.03), "a little over half way"),
            Place((-0.43, -0.12), "hardly away"),
        ),
        (
            Scene(
                2,
                "Inside the root ε counts as its own root: 0.05 as 0.22. Its steps are shorter from the first one on.",
                view=((-0.55, 0.1), (-0.24, 0.16)),
            ),
            Scene(
                10,
                "The smaller the gradients, the more it brakes: x is still 0.2 short, where ε outside has almost arrived.",
                view=((-0.55, 0.1), (-0.24, 0.16)),
            ),
            Scene(
                60,
                "At the star ε alone divides. Outside, the step size in y goes past 0.5, where every step overshoots more: the"
                " path is thrown out again. Inside it stays below 0.1/√0.05 = 0.45, and settles.",
                view=((-0.12, 0.06), (-0.11, 0.11)),
            ),
        ),
    ),
    Story(
        "adadelta-starts",
        "AdaDelta finds its own pace",
        "rule=adadelta&rule=adadelta,eps=0.001&surface=quadratic&start=-5,-2&steps=200",
        ("ε = 1e-6", "ε = 1e-3"),
        Scene(
            100,
            "AdaDelta takes the size of its step from its own past steps, and at first there are none. With ε = 0.001 it is at"
            " the star after 100 steps. Where is it with ε = 0.000001?",
            hidden=(0,),
        ),
        0,
        100,
        (
            Place((-0.35, -0.35), "at the star, too"),
            Place((-2.4, -0.6), "half way"),
            Place((-4.6, -1.4), "hardly away"),
        ),
        (
            Scene(
                1,
                "The first step is the root of ε/0.1, whatever the gradient: 0.1 with the larger ε, 0.003 with the smaller.",
                view=((-5.15, -4.75), (-2.1, -1.78)),
            ),
            Scene(
                100,
                "Steps learn from steps, so short ones stay short for long. The larger ε walks at once.",
            ),
            Scene(
                200,
                "At the star gradients and steps vanish, both averages run empty, and ε over ε is 1: in y, where 0.5"
                " is too much, the path is thrown out to 0.1 on either side. (The smaller ε is still far off.)",
                hidden=(0,),
                view=((-0.25, 0.25), (-0.2, 0.2)),
            ),
        ),
    ),
    Story(
        "bias-correction",
        "Adam's bias correction",
        "rule=adam,lr=0.1&rule=adam_uncorrected,lr=0.1&surface=quadratic&start=-5,-2&steps=10",
        ("corrected", "uncorrected"),
        Scene(
            1,
            "Adam's two averages start at zero, too low. Corrected for that, the first step is as long as the learning"
            " rate, 0.1, in x and in y. Where does it end without the correction?",
            hidden=(1,),
            view=((-5.15, -4.45), (-2.12, -1.56)),
        ),
        1,
        1,
        (
            Place((-4.97, -1.97), "a third as far"),
            Place((-4.88, -1.91), "at the same place"),
            Place((-4.684, -1.684), "three times as far"),
        ),
        (
            Scene(
                1,
                "Three times as far. The average of squares is the emptier of the two, and Adam divides by its root.",
                view=((-5.15, -4.45), (-2.12, -1.56)),
            ),
            Scene(
                3,
                "Corrected, the first steps are 0.1 long in x and in y. Uncorrected, they are three to five times as long.",
                view=((-5.3, -3.3), (-2.3, -0.6)),
            ),
            Scene(
                10,
                "The average of squares starts at zero and fills slowest (decay 0.999). Its root, too small, divides, so the"
                " steps are too long. Here that happens to pay, but nobody asked for it: the learning rate is 0.1.",
            ),
        ),
    ),
    Story(
        "amsgrad",
        "Adam with hardly any memory",
        "rule=adam,lr=0.4,beta1=0.5,beta2=0.5&rule=adam,lr=0.4,beta1=0.5,beta2=0.5,amsgrad=true&surface=quadratic"
        "&start=-5,-2&steps=150",
        ("Adam", "AMSGrad"),
        Scene(
            20,
            "This Adam has hardly any memory, both decays are 0.5. After 20 steps it is near the star. Where is it after"
            " 150?",
            hidden=(1,),
            view=((-0.75, 0.75), (-0.6, 0.6)),
        ),
        0,
        150,
        (
            Place((0.0, 0.0), "at the star"),
            Place((0.06, 0.13), "beside it, as before"),
            Place((0.6, 0.45), "far out again"),
        ),
        (
            Scene(
                20,
                "Both come down the valley. AMSGrad, behind, divides by the largest average of squares so far.",
                begins=0,
            ),
            Scene(
                80,
                "Adam's average of squares falls as fast as the gradient. So its steps never get shorter, and it never"
                " settles.",
                view=((-0.75, 0.75), (-0.6, 0.6)),
            ),
            Scene(
                150,
                "AMSGrad divides by the largest average so far, which cannot fall: its steps shrink with the gradient, and it"
                " arrives. Adam's average falls along, so its steps do not.",
                view=((-0.75, 0.75), (-0.6, 0.6)),
            ),
        ),
    ),
    Story(
        "saddle",
        "A saddle",
        "rule=sgd,lr=0.1&rule=sgd,lr=0.1,momentum=0.9&rule=rmsprop,lr=0.1&rule=adam,lr=0.1&surface=saddle&start=-2,0.01&steps=60",
        ("plain", "momentum", "RMSProp", "Adam"),
        Scene(
            0,
            "Down the ridge from the ring, at (0, 0), lies a saddle: no slope at all, and no minimum. Where is gradient descent"
            " after 25 steps?",
            hidden=(0, 1, 2, 3),
        ),
        0,
        25,
        (
            Place((-0.1, 0.15), "at the saddle"),
            Place((0.0, 1.414), "at the upper minimum"),
            Place((0.0, -1.414), "at the lower minimum"),
        ),
        (
            Scene(
                5,
                "RMSProp is down after five steps: divided by its own size, even the smallest slope in y counts in full.",
                hidden=(0, 1, 3),
            ),
            Scene(
                25,
                "Gradient descent is held up, for near the saddle there is hardly a gradient. Adam, from the same start, has"
                " left.",
                hidden=(1,),
                begins=0,
            ),
            Scene(
                60,
                "Gradient descent gets away in the end: each step takes it a tenth farther from the ridge (y = 0), and after"
                " 52 it is one unit away. Momentum, which adds up, needs 19; Adam and RMSProp, which divide by the gradient's"
                " own size, 11 and 1.",
            ),
        ),
    ),
)
"""In the order of the lesson."""


def named(name: str) -> Story:
    """The story of this name. Raises `UnknownNameError` with the nearest one."""
    found = {story.name: story for story in STORIES}
    if name not in found:
        raise unknown_name("story", name, found)
    return found[name]
