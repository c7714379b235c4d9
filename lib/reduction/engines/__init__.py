"""The programs that reduce a series, behind one protocol."""
