"""How large a race is where nothing else is said; a command line loads nothing more for it."""

RULES = (
    "sgd", "adagrad", "adagrad_eps_inside", "rmsprop", "rmsprop_eps_inside", "adadelta", "adam", "adamw", "adamax", "nadam", "radam",
    "lion", "lars", "lamb",
)  # fmt: skip
"""Of a race that names none. Not the whole catalogue: each further rule costs every race its trials, and Holm's correction power."""
TRIALS = 64
"""Trainings of a tuning."""
STUDIES = 5
"""How many times as many are trained."""
FRESH = 30
"""Seeds that no trial saw, on which winners are compared."""
ABLATED_FRESH = 15
"""The same of an ablation. What differs with the part and without it varies more between studies than between seeds: the error is least
where a study has some ten to twenty."""
STAGES = 8
"""How many times a race until decided is run at most, the first time included."""
SEEDS = 20
"""Of settings as given."""
MATTERS = 0.01
"""The smallest difference of losses that matters: one per cent."""
