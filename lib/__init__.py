"""The science: plain Python on numpy, scipy and numba; no Prefect, no hardware, no global state."""
