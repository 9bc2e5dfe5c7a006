"""What is worth seeing first: each preset is a title, a sentence, and a state of the page as its address writes it."""

from __future__ import annotations

PRESETS = (
    {
        "title": "AdaGrad slows down",
        "sentence": "AdaGrad divides by all gradients since the start, so its steps shrink for ever, even where the way is still"
        " long; RMSProp forgets the old ones and arrives. Look at the effective step sizes.",
        "state": "rule=adagrad_eps_inside,lr=0.4&rule=rmsprop_eps_inside,lr=0.4&surface=quadratic&start=-5,-2&steps=20",
    },
    {
        "title": "The ravine",
        "sentence": "Plain descent has one learning rate for all directions: what is just small enough for the steep one makes it"
        " zigzag, and is far too small for the flat one. Momentum averages the zigzag out.",
        "state": "rule=sgd,lr=0.46&rule=sgd,lr=0.4,momentum=0.5&surface=quadratic&start=-5,-2&steps=20",
    },
    {
        "title": "Epsilon inside or outside the root",
        "sentence": "The same epsilon is not the same number: inside the root it counts as its square root, ten times as much"
        " here, and brakes where gradients are small. Papers and libraries disagree on it.",
        "state": "rule=rmsprop,lr=0.1,alpha=0.9,eps=0.01&rule=rmsprop_eps_inside,lr=0.1,eps=0.01&surface=quadratic"
        "&start=-0.5,-0.2&steps=20",
    },
    {
        "title": "AdaDelta starts slowly",
        "sentence": "AdaDelta takes its step size from its own past steps, and there are none yet: epsilon alone gets it going."
        " With 1e-6 it creeps, with 1e-3 it walks at once.",
        "state": "rule=adadelta&rule=adadelta,eps=0.001&surface=quadratic&start=-5,-2&steps=200",
    },
    {
        "title": "Adam's bias correction",
        "sentence": "Adam's averages start at zero. Corrected, the first step is as long as the learning rate; uncorrected, it"
        " divides by the root of a second moment that is far too small, and the first steps are three times as long.",
        "state": "rule=adam,lr=0.1&rule=adam_uncorrected,lr=0.1&surface=quadratic&start=-5,-2&steps=10&at=1",
    },
    {
        "title": "Adam circles, AMSGrad arrives",
        "sentence": "With a short memory Adam's second moment falls as fast as the gradient, so its steps never get shorter than"
        " the learning rate and it circles the minimum. AMSGrad divides by the largest second moment so far, and arrives.",
        "state": "rule=adam,lr=0.4,beta1=0.5,beta2=0.5&rule=adam,lr=0.4,beta1=0.5,beta2=0.5,amsgrad=true&surface=quadratic"
        "&start=-5,-2&steps=150",
    },
    {
        "title": "A saddle",
        "sentence": "Started almost on the ridge, plain descent is held up where the gradient nearly vanishes. Rules that divide"
        " by the gradient's size leave at once, for there the smallest slope counts in full.",
        "state": "rule=sgd,lr=0.1&rule=sgd,lr=0.1,momentum=0.9&rule=rmsprop,lr=0.1&rule=adam,lr=0.1&surface=saddle&start=-2,0.01&steps=60",
    },
)
