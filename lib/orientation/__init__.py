"""The orientation of every frame, and what it tells of the goniometer.

Equations of the default method are in docs/orientation_method.md; `refine` runs it.
"""
