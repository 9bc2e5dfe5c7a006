"""What decides what a thing computes, as a digest.

Two things of equal identity compute the same, so that a stored result of the one is a result of the other.
"""

from steprule.identity.walk import Identity, identify, identity, unknown, unknown_in

__all__ = ["Identity", "identify", "identity", "unknown", "unknown_in"]
