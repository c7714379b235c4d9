"""Laue class, systematic absences and a ranked list of space groups."""
