"""The tutorial's own helper names, as `from steprule import d2l`; they live in tutorial/d2l."""

import sys

from steprule.tutorial import d2l

sys.modules[__name__] = d2l
