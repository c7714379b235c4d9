"""The orientation of every frame, and what it tells of the goniometer."""
