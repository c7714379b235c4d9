"""Orientation data from XDS: centroids of rocking curves, which is all that XDS keeps of them.

INTEGRATE.HKL has observed positions (XOBS, YOBS, ZOBS; zeros where a spot was too weak) and the
geometry. SPOT.XDS has those of strong spots, and needs the XPARM.XDS beside it. The ZD of
XDS_ASCII.HKL is a calculated value: to fit it would give the model back. What single frames do
cannot be told from centroids: stage A alone is possible.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, reciprocal_basis
from ..errors import UserError
from ..xds.hkl import read_hkl
from ..xds.spot_xds import read_spot_xds
from ..xds.xparm import XdsGeometry, read_xparm
from .observations import Centroids, OrientationData

#: XDS writes positions to a tenth, and takes the middle of a frame for a spot on one frame.
ROUNDED = 0.1 / np.sqrt(12)


def from_xds(path: str | Path, xparm: str | Path | None = None) -> OrientationData:
    """Centroids of an INTEGRATE.HKL or a SPOT.XDS.

    Parameters
    ----------
    path : the file; what it is is told from its content.
    xparm : geometry and orientation of a SPOT.XDS; None takes XPARM.XDS of the same folder.

    Raises
    ------
    UserError : another file (an XDS_ASCII.HKL among them, with the reason), no observed centroid
        in it, spots without indices, or a geometry that is missing or cannot be.
    """
    path = Path(path)
    try:
        start = path.read_bytes()[:200].lstrip()
    except OSError as error:
        raise UserError(
            path, str(error.strerror or error), "INTEGRATE.HKL or SPOT.XDS", "check the path"
        ) from None
    return _integrate(path) if start.startswith(b"!") else _spots(path, xparm)


def _integrate(path: Path) -> OrientationData:
    file = read_hkl(path)
    items = list(file.header.items)
    if not {"XOBS", "YOBS", "ZOBS"} <= set(items):
        raise UserError(
            path, f"a file of {file.header.program or 'another program'} without observed "
            "positions (ZD of XDS_ASCII.HKL is calculated)", "XOBS, YOBS, ZOBS",
            "give the INTEGRATE.HKL or SPOT.XDS of the same run",
        )  # fmt: skip
    if file.header.geometry is None:
        raise UserError(path, "no geometry in the header", "one of XDS since 2012", "run XDS again")
    columns = [items.index(name) for name in ("XOBS", "YOBS", "ZOBS")]
    table = np.loadtxt(path, comments="!", usecols=columns, ndmin=2, encoding="latin-1")
    x, y, z = table.T
    seen = (z > 0) & ((x > 0) | (y > 0)) & (file.intensity > 0)
    strength = np.maximum(file.intensity[seen] / file.sigma[seen], 1.0)
    return _data(
        path,
        file.header.geometry,
        file.header.data_range,
        file.hkl[seen],
        z[seen] + 0.5,
        strength,
        y[seen] - 1,
        x[seen] - 1,
        file.intensity[seen],
        file.header.mosaicity_esd_deg,
    )


def _spots(path: Path, xparm: str | Path | None) -> OrientationData:
    spots = read_spot_xds(path)
    if spots.hkl is None or not spots.indexed.any():
        raise UserError(path, "spots without indices", "a SPOT.XDS after IDXREF", "run IDXREF")
    geometry = read_xparm(xparm or path.with_name("XPARM.XDS"))
    use = spots.indexed
    # COLSPOT tells no errors: those of counting, and pixels are counts
    strength = np.sqrt(np.maximum(spots.intensity[use], 1.0))
    return _data(
        path,
        geometry,
        None,
        spots.hkl[use].astype(np.int32),
        spots.frame_number[use],
        strength,
        spots.row[use],
        spots.column[use],
        spots.intensity[use],
        float("nan"),
    )


def _data(
    path: Path,
    geometry: XdsGeometry,
    data_range: tuple[int, int] | None,
    hkl: NDArray[np.int32],
    number: Floats,
    strength: Floats,
    row: Floats,
    column: Floats,
    intensity: Floats,
    mosaicity_deg: float,
) -> OrientationData:
    if len(hkl) == 0:
        raise UserError(
            path, "no reflection with an observed position", "strong ones",
            "weak data tell no orientation: collect again with more dose",
        )  # fmt: skip
    first, last = data_range or (
        int(np.floor(number.min() + 0.5)),
        int(np.ceil(number.max() - 0.5)),
    )
    ours = geometry.geometry()
    n = last - first + 1
    step = abs(geometry.oscillation_deg)
    # standard deviation of a rocking curve over the root of what was counted
    width = mosaicity_deg if np.isfinite(mosaicity_deg) and mosaicity_deg > 0 else 0.2
    sd = np.sqrt((width / max(step, 1e-6) / strength) ** 2 + ROUNDED**2 + 0.05**2)
    row_px, column_px = ours.beam_centre_px
    return OrientationData(
        name=path.parent.name or path.stem,
        orientation=geometry.orientation(),
        reciprocal_basis=reciprocal_basis(geometry.cell),
        geometry=ours,
        angle_deg=geometry.angle_deg(np.arange(first, last + 1, dtype=float)),
        exposure_deg=np.full(n, geometry.oscillation_deg),
        used=np.ones(n, bool),
        beam_row=np.full(n, row_px),
        beam_column=np.full(n, column_px),
        intensities=None,
        centroids=Centroids(
            np.asarray(hkl, np.int32), number - first, sd, row, column, np.asarray(intensity, float)
        ),
    )
