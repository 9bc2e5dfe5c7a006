"""Thousands of trainings at once: every lane a hyperparameter point and a seed.

In reading order: points.py is what differs from point to point, cost.py and estimate.py say what trainings will take, result.py is
`Sweep`, entry.py is `steprule.sweep`, pays.py says whether compiling was worth it, saving.py writes lanes to files.
"""

from steprule.sweeps.entry import Options, sweep
from steprule.sweeps.pays import pays_after
from steprule.sweeps.points import sobol
from steprule.sweeps.result import Sweep
from steprule.sweeps.saving import save

__all__ = ["Options", "Sweep", "pays_after", "save", "sobol", "sweep"]
