"""The built-in reduction engine: from a rotation series to integrated intensities."""
