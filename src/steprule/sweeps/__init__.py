"""Thousands of trainings at once: every lane a hyperparameter point and a seed.

In reading order: model.py traces a model's step, kernel.py prints it over lanes, driver.py is the loop of a training,
engine.py trains lanes of one rule, cost.py says what that will take,
running.py is `steprule.sweep`, points.py draws points and writes lanes to files.
"""

from steprule.sweeps.entry import Sweep, pays_after, sweep
from steprule.sweeps.points import save, sobol

__all__ = ["Sweep", "pays_after", "save", "sobol", "sweep"]
