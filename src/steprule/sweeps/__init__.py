"""Thousands of trainings at once: every lane a hyperparameter point and a seed.

In reading order: model.py traces a model's step, kernel.py prints it over lanes, engine.py trains lanes of one rule and
seed, running.py is `steprule.sweep`, points.py draws points and writes lanes to files.
"""

from steprule.sweeps.points import save, sobol
from steprule.sweeps.running import Sweep, sweep

__all__ = ["Sweep", "save", "sobol", "sweep"]
