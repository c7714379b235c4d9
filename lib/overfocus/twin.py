"""The same column built of TemGym Basic's components, and its traced rays fitted by matrices.

Weber et al. build their model of TemGym Basic (Landers et al. 2023, J. Appl. Cryst. 56, 1267) and
fit its rays by least squares. Here it is a second opinion on the closed form of `model`, and what
the ray diagram (their Fig. 3) is drawn from; nothing else needs it. TemGym Basic is an extra
(`twin`) under the GPL. It counts heights up from the detector and slopes against the beam.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError
from .model import ScanMatrices, check_parameters, flip, matrices_of, rotation
from .parameters import OverfocusParameters
from .ray_transfer import Column, descan_shift_m, scan_shift_m

Floats = NDArray[np.float64]

RAYS = 32
#: Half the scan and half the illuminated specimen that rays are traced over, in scan px.
REACH_PX = 32.0
#: Rows of TemGym's rays.
X, SLOPE_X, Y, SLOPE_Y = range(4)


def _temgym(module: str) -> Any:
    # its components belong to a window, which must not look for a screen
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    try:
        return importlib.import_module(f"temgymbasic.{module}")
    except ImportError as error:
        raise UserError(
            "temgymbasic", f"not importable ({error})", "TemGym Basic 0.5.5",
            "install the extra: pip install 'ewaldflow[twin]'",
        ) from error  # fmt: skip


class TemGymColumn:
    """Source, scan coils, lens, specimen, descan coils and detector of TemGym Basic.

    Parameters
    ----------
    parameters : of the scan.
    column : where lens and coils are; the results do not depend on it.

    Raises
    ------
    UserError : TemGym Basic is not installed, or as `check_parameters`.
    """

    def __init__(self, parameters: OverfocusParameters, column: Column | None = None) -> None:
        self.parameters = parameters
        self.column = place = column or Column.of(parameters)
        components = _temgym("components")
        p = parameters
        length = p.camera_length_m
        lens_z = length + p.overfocus_m + place.focal_length_m
        pivot_z = lens_z + place.focal_length_m
        self.coils = components.DoubleDeflector(
            pivot_z + 2 * place.coils_apart_m, pivot_z + place.coils_apart_m, "scan coils"
        )
        # slopes against the beam: a lens converges if its focal length is negative
        self.lens = components.Lens(lens_z, "lens", f=-place.focal_length_m)
        self.specimen = components.Sample(length, "specimen")
        self.descan = components.DoubleDeflector(
            length * (1 - place.descan_above),
            length * (1 - place.descan_above - place.descan_apart),
            "descan coils",
        )
        self.model = _temgym("model").Model(
            [self.coils, self.lens, self.specimen, self.descan],
            beam_z=pivot_z + 3 * place.coils_apart_m,
            num_rays=RAYS,
            beam_type="paralell",
            beam_width=REACH_PX * p.scan_pixel_size_m * place.focal_length_m / abs(p.overfocus_m),
        )

    @property
    def heights_m(self) -> Floats:
        """(planes,) above the detector: source, coils, lens, specimen, descan coils, detector."""
        return np.array(self.model.z_positions, float)

    def trace(self, scan_px: ArrayLike) -> Floats:
        """Rays with the beam at a scan point (2,) from the middle: (planes, 5, rays), metres."""
        y, x = scan_shift_m(self.parameters, scan_px) / self.column.focal_length_m
        # kicks against the beam; the lower coils kick back twice, through the pivot
        self.coils.updefx, self.coils.updefy = x, y
        self.coils.lowdefx, self.coils.lowdefy = -2 * x, -2 * y
        self.coils.set_matrices()
        apart = self.descan.z_up - self.descan.z_low
        y, x = descan_shift_m(self.parameters, scan_px) / apart
        self.descan.updefx, self.descan.updefy = -x, -y
        self.descan.lowdefx, self.descan.lowdefy = x, y
        self.descan.set_matrices()
        out: Floats = self.model.step().copy()
        return out

    def hits(self, scan_px: ArrayLike) -> tuple[Floats, Floats]:
        """Where the rays go through the specimen, in scan px, and hit the detector, in px.

        Returns
        -------
        specimen, detector : (rays, 2).
        """
        p, rays = self.parameters, self.trace(scan_px)
        plane = self.heights_m.tolist().index(self.specimen.z)
        specimen = rays[plane, [Y, X]].T @ rotation(p.scan_rotation_deg).T / p.scan_pixel_size_m
        detector = rays[-1, [Y, X]].T @ flip(p.flip_y) / p.detector_pixel_size_m
        return specimen, detector + np.array([p.cy, p.cx])


def traced_matrices(parameters: OverfocusParameters) -> ScanMatrices:
    """A, D and centre by least squares on rays traced at nine scan points.

    ``x = c + A (p - ds) + D ds`` with p where a ray goes through the specimen.

    Raises
    ------
    UserError : as `TemGymColumn`.
    """
    check_parameters(parameters)
    column = TemGymColumn(parameters)
    at = [(y, x) for y in (-REACH_PX, 0.0, REACH_PX) for x in (-REACH_PX, 0.0, REACH_PX)]
    known, seen = [], []
    for scan_px in at:
        specimen, detector = column.hits(scan_px)
        there = np.broadcast_to(scan_px, specimen.shape)
        known.append(np.column_stack((specimen, there, np.ones(len(specimen)))))
        seen.append(detector)
    fitted = np.linalg.lstsq(np.concatenate(known), np.concatenate(seen), rcond=None)[0].T
    a, movement = fitted[:, :2], fitted[:, 2:4]
    return ScanMatrices(a, movement + a, fitted[:, 4])


def verify_twin(parameters: OverfocusParameters) -> float:
    """How far the closed form is from TemGym's traced rays: the largest relative difference.

    A and D count in parts of the scale M, the centre in parts of its distance from the corner.
    Rounding of heights allows about 2e-16 times camera length over overfocus.

    Raises
    ------
    UserError : TemGym Basic is not installed, or as `check_parameters`.
    """
    ours, theirs = matrices_of(parameters), traced_matrices(parameters)
    scale = np.linalg.norm(ours.scan_to_detector, 2)
    matrices = np.abs([
        theirs.scan_to_detector - ours.scan_to_detector, theirs.descan - ours.descan
    ]) / scale  # fmt: skip
    centre = np.abs(theirs.centre_px - ours.centre_px) / max(1.0, np.abs(ours.centre_px).max())
    return float(max(matrices.max(), centre.max()))


def ray_diagram(
    parameters: OverfocusParameters,
    scan_px: Sequence[Sequence[float]] = ((0.0, -REACH_PX), (0.0, 0.0), (0.0, REACH_PX)),
    exaggerate: float = 1e4,
) -> Figure:
    """The rays through the column for some scan points, as Weber et al., Fig. 3.

    Parameters
    ----------
    scan_px : scan points (y, x) from the middle, a colour each.
    exaggerate : overfocus and scan step are enlarged by it, or they could not be seen. The scale M
        is nearly that of the exaggerated parameters' own.

    Raises
    ------
    UserError : as `TemGymColumn`.
    """
    check_parameters(parameters)
    p = parameters
    shown = p.with_(
        overfocus_m=p.overfocus_m * exaggerate, scan_pixel_size_m=p.scan_pixel_size_m * exaggerate
    )
    column = TemGymColumn(shown)
    figure = Figure(figsize=(6.3, 7.5), layout="constrained")
    axes = figure.subplots()
    heights = column.heights_m
    for number, point in enumerate(scan_px):
        rays = column.trace(point)
        # the axis and the two rays farthest out in the plane of the paper
        order = np.argsort(rays[0, X])
        for ray in (order[0], int(np.argmin(np.hypot(rays[0, X], rays[0, Y]))), order[-1]):
            axes.plot(rays[:, X, ray] * 1e3, heights, color=f"C{number}", lw=0.9)
        label = f"scan point ({point[0]:g}, {point[1]:g})"
        axes.plot([], [], color=f"C{number}", label=label)
    _draw_components(axes, column)
    axes.set(xlabel="x / mm", ylabel="height above the detector / m")
    axes.set_title(f"overfocus and scan step enlarged {exaggerate:g} times", fontsize="small")
    figure.legend(fontsize="x-small", loc="outside lower center", ncols=len(scan_px))
    return figure


def _draw_components(axes: Axes, column: TemGymColumn) -> None:
    half = 1.15 * max(abs(side) for side in axes.get_xlim())
    axes.set_xlim(-half, half)

    def line(height: float, name: str, parts: Iterable[tuple[float, float]], colour: str) -> None:
        for start, end in parts:
            axes.plot([start * half, end * half], [height, height], color=colour, lw=2)
        axes.annotate(
            name, (0.98, height), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize="small",
        )  # fmt: skip

    gap = ((-0.75, -0.35), (0.35, 0.75))
    for pair in (column.coils, column.descan):
        line(pair.z_up, pair.name, gap, "tab:red")
        line(pair.z_low, "", gap, "tab:red")
    lens = Ellipse(
        (0, column.lens.z), 1.5 * half, 0.02 * column.heights_m[0], fc="lightblue", ec="tab:blue"
    )
    axes.add_patch(lens)
    line(column.lens.z, column.lens.name, (), "tab:blue")
    line(column.specimen.z, column.specimen.name, ((-0.75, 0.75),), "0.4")
    line(0.0, "detector", ((-0.95, 0.95),), "k")
