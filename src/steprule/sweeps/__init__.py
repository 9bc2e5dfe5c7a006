"""Thousands of trainings at once: every lane is a hyperparameter point and a seed."""

from steprule.sweeps.entry import Sweep, pays_after, sweep
from steprule.sweeps.points import save, sobol

__all__ = ["Sweep", "pays_after", "save", "sobol", "sweep"]
