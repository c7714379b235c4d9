"""4D-STEM scans: what every stage that learns from them shares."""
