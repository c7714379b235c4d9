"""Powder rings: distance, beam centre, elliptical distortion and tilt; recentring of later images."""
