"""Drop-ins for torch.optim, made from rules: torch's classes, Lion, and a class from any rule.

>>> import torch, steprule
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = steprule.optim.RMSprop(model.parameters(), lr=0.01)
>>> isinstance(optimizer, torch.optim.RMSprop)
True
"""

from steprule.optim.classes import (
    NAMES,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    from_rule,
)

__all__ = [
    "NAMES",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "RAdam",
    "RMSprop",
    "from_rule",
]
