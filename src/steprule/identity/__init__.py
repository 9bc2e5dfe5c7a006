"""The identity of a thing is a digest of all that decides what it computes.

Two things of equal identity compute the same, so a stored result of one is a result of the other.
"""

from steprule.identity.walk import Identity, identify, identity, unknown, unknown_in

__all__ = ["Identity", "identify", "identity", "unknown", "unknown_in"]
