"""Drop-ins for torch.optim, made from rules: torch's classes, Lion, and a class from any rule.

Every rule of the catalogue has a class: torch's eleven by torch's names, the others by the rule's title, as `Lion` and `LAMB`.

>>> import torch, steprule
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = steprule.optim.RMSprop(model.parameters(), lr=0.01)
>>> isinstance(optimizer, torch.optim.RMSprop)
True
"""

from __future__ import annotations

from steprule.errors import UnknownNameError
from steprule.modules import no_attribute, public
from steprule.optim.classes import (
    ASGD,
    NAMES,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    class_of,
    from_rule,
)
from steprule.optim.optimizer import RuleOptimizer

__all__ = [
    "ASGD", "NAMES", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "from_rule",
]  # fmt: skip
# The classes of the catalogue's other rules are made at their first use.
__all__ += [name for name in NAMES if name not in __all__]


def __getattr__(name: str) -> type[RuleOptimizer]:
    if name.startswith("_"):
        raise no_attribute(name, None, __name__)
    try:
        return class_of(name)
    except UnknownNameError as error:
        raise no_attribute(name, error, __name__) from None


__dir__ = public(globals())
