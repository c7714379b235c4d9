"""Ewaldflow: runs an electron-diffraction laboratory.

The four rooms are `flows` (what a scientist schedules), `tasks` (one verb each),
`lib` (the science) and `hardware` (the instrument).
"""

__version__ = "0.1.0"
