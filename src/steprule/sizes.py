"""How large a race is where nothing else is said, for Python and for a command line that loads nothing for it."""

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
