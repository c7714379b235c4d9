"""The microscope twin: a physically coupled, deterministic simulation of everything we drive."""
