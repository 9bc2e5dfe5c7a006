"""What decides what a thing computes, as a digest: two things of equal identity compute the same, so that a stored result of the
one is a result of the other.

In reading order: whose.py (the user's own code, or an installed package's), code.py (what a function does and what it reaches),
arrays.py (numpy's and torch's things by value), definitions.py (functions, classes, modules), walk.py (everything else).
"""

from steprule.identity.walk import Identity, identify, identity, unknown, unknown_in

__all__ = ["Identity", "identify", "identity", "unknown", "unknown_in"]
