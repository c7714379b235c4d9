"""Rotationally invariant variational autoencoders of 4D-STEM (rrVAE)."""
