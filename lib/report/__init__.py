"""Reports: one self-contained HTML page per reduction, and one for a session of many."""
