"""SerialRED on an instrument: look, choose, approach, rotate; each decision recorded.

The algorithms are in `lib.serialred`; here they meet microscope and camera. No Prefect, so that
everything can be tried from a notebook on the twin.
"""
