"""What a calibration by rings hands to other programs and to people.

XDS takes maps, which hold all that was found; an instrument's YAML keeps camera lengths and
distortion for every later series. (`statement` has what our own readers take.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from ..artefacts.manifest import plain
from ..formats.geo_corr import X_MAP, Y_MAP, hundredths, write_xds_cbf
from .calibration import RingCalibration
from .camera_lengths import camera_lengths
from .ideal import effective, to_ideal


def correction_maps(
    calibration: RingCalibration,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """X- and Y-GEO_CORR for XDS, with all that was found: ellipse, radial, three-fold and tilt.

    They correct to a detector normal to the beam, `distance_mm` away, with ORGX, ORGY at the beam
    centre (`lib.formats.geo_corr` has the sign).

    Returns
    -------
    (rows, columns) int32 each, in hundredths of a pixel, along columns (x) and rows (y).
    """
    row, column = np.indices(calibration.shape).astype(float)
    ideal = to_ideal(calibration, row, column)
    return hundredths(ideal[..., 1] - column), hundredths(ideal[..., 0] - row)


def write_correction_maps(calibration: RingCalibration, folder: Path) -> tuple[str, str]:
    """Write `correction_maps` as the files that XDS reads; their names."""
    for name, values in zip((X_MAP, Y_MAP), correction_maps(calibration), strict=True):
        write_xds_cbf(folder / name, values)
    return X_MAP, Y_MAP


def calibration_text(calibrations: Sequence[RingCalibration]) -> str:
    """All of the calibrations as YAML, standard errors beside what was fitted."""
    records = []
    for one in calibrations:
        record = plain(one)
        record["standard_errors"] = {name: one.sd(name) for name in one.parameters}
        record["per_A_per_px"] = one.per_A_per_px
        records.append(record)
    return str(yaml.safe_dump({"calibrations": records}, sort_keys=False, default_flow_style=None))


def instrument_text(calibrations: Sequence[RingCalibration], source: str) -> str:
    """Lines for the YAML of an instrument: camera lengths or distance, and distortion.

    Parameters
    ----------
    calibrations : of one camera; the distortion is that of the first.
    source : where they are kept, for the comment.
    """
    first = calibrations[0]
    distance, ellipse, _ = effective(first)
    told: dict[str, object] = {}
    if all(one.camera_length_mm for one in calibrations):
        table = camera_lengths(calibrations)
        told["camera_lengths"] = {
            float(f"{nominal:.6g}"): round(float(real), 4)
            for nominal, real in zip(table.nominal_mm, table.distance_mm, strict=True)
        }
    else:
        told["distance_mm"] = round(distance, 4)
    if ellipse.ratio > 1:
        told["distortion"] = {
            "ratio": round(ellipse.ratio, 5), "azimuth_deg": round(ellipse.azimuth_deg, 3)
        }  # fmt: skip
    if first.radial_per_mm2:
        told["radial_per_mm2"] = float(f"{first.radial_per_mm2:.5g}")
    head = f"# from {source}, {first.calibrant}; for the YAML of an instrument\n"
    return head + str(yaml.safe_dump(told, sort_keys=False, default_flow_style=None))
