"""`python -m steprule`."""

from steprule.cli import run

run()
