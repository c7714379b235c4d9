"""Unit cells, lattices and their symmetry."""
