"""A rotation series: frames, their angles, and the geometry they were taken with."""

from .rotation_series import RotationSeries, SourceFile

__all__ = ["RotationSeries", "SourceFile"]
