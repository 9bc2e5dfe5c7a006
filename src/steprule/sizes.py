"""How large a race is where nothing else is said; a command line loads nothing more for it."""

TRIALS = 64
"""Trainings per study."""
STUDIES = 5
"""Independent tunings."""
FRESH = 30
"""Seeds that no study saw, on which winners are compared."""
SEEDS = 20
"""Of settings as given."""
MATTERS = 0.01
"""The smallest difference of losses that matters: one per cent."""
