"""Surfaces on which a rule walks: what one is, formulas of one's own, those that travel with the package."""
