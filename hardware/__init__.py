"""Microscope and camera protocols, their adapters and the safety guard (none yet)."""
