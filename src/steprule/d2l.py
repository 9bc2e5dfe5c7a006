"""The tutorial's own helper names, as `from steprule import d2l`; they live in tutorial/d2l."""

import sys

from steprule.tutorial import d2l

for name in [n for n in sys.modules if n.startswith(f"{d2l.__name__}.")]:
    sys.modules[name.replace(d2l.__name__, __name__)] = sys.modules[name]
sys.modules[__name__] = d2l
