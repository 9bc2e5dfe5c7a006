"""Surfaces on which rules walk: the package's own, and formulas that a user types."""
