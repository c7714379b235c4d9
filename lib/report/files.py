"""What the files are that a result hands over, in a few words for its page."""

from __future__ import annotations

import re

# By what a name looks like; the first that fits counts.
_WHAT = {
    r"frames.*\.csv": "every frame: orientation, zone axis, errors, flags",
    r"orientations.*\.cif_pets": "orientations and intensities, as PETS2 gives them to JANA2020",
    r"orientations.*\.xds": "cell axes of each frame in the laboratory frame of XDS",
    r"scan_varying.*\.expt": "scan-varying crystal for DIALS",
    r".*\.poni": "geometry for pyFAI",
    r".*CORR.*": "a map of distortion for XDS",
    r".*\.cenloc": "centres for PETS2",
    r"superposition\.tif": "all frames laid over each other",
    r"bright_field\.tif": "counts in the beam's disc",
    r".*_settings\.py|ptyrad\.yaml": "lines that set another program to it",
    r".*\.(npz|pt|safetensors)": "weights, to be applied to other scans",
    r".*\.yaml": "all of it, with errors, for people and programs",
    r".*\.csv": "a table",
    r".*\.tiff?": "an image",
    r".*\.json": "what the page was made from",
    r".*\.html": "a page",
}


def what_is(name: str) -> str:
    """A file's purpose by its name; "" if it is of no known sort."""
    return next((what for form, what in _WHAT.items() if re.fullmatch(form, name)), "")
