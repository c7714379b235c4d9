"""Which of the rotations that the metric allows the intensities of a phase obey."""
