"""What is optimised: surfaces.py (two dimensions, to look at), airfoil.py (measured data), models.py (what trains on it)."""
