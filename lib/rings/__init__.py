"""Powder rings: distance, beam centre, elliptical distortion, tilt; recentring of later images."""
