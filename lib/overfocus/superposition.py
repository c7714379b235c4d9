"""All shadow images laid over each other in scan coordinates, and the control images beside it.

Weber et al., Methods: with the right matrices the sum is a sharp image of the specimen. Every point
t of the scan's grid takes from the frame of scan point ds the pixel nearest to
``c + A (t - ds) + D ds``. The points are visited in the order of the detector's memory, which
is what makes it fast: the offsets ``A t`` are the same for all frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import delayed
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from ..errors import UserError
from ..stem4d.scan import Scan4D
from .model import ScanMatrices

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ControlImages:
    """What a person looks at to see whether the parameters are right (Weber et al., Figs. 5 to 9).

    Attributes
    ----------
    point : (scan_row, scan_column) the detector pixel in the middle of the beam.
    selected : (scan_row, scan_column) one frame in scan coordinates; like `point` if scale,
        rotation and flip are right.
    shifted_sum : (scan_row, scan_column) the superposition.
    coverage : (scan_row, scan_column) how many usable pixels went into each point of it.
    sum : (row, column) of all frames; the aperture's edge is sharp if descan is.
    transformed_sum : (row, column) the sum turned and flipped, not scaled.
    """

    point: Floats
    selected: Floats
    shifted_sum: Floats
    coverage: Floats
    sum: Floats
    transformed_sum: Floats


@dataclass(frozen=True)
class Targets:
    """Where the points of the scan's grid lie on the detector, in the order of its memory.

    Attributes
    ----------
    order : (points,) index into the flat grid.
    y, x : (points,) A t, detector px.
    start : (2,) on the detector at the middle of the scan.
    movement : (2, 2) G, by which all of them move from one scan point to the next.
    """

    order: NDArray[np.int64]
    y: Floats
    x: Floats
    start: Floats
    movement: Floats

    @classmethod
    def of(cls, matrices: ScanMatrices, scan_shape: tuple[int, int]) -> Targets:
        """The targets of all points of a scan."""
        grid = np.indices(scan_shape).reshape(2, -1) - (np.array(scan_shape)[:, None] - 1) / 2
        y, x = matrices.scan_to_detector @ grid
        order = np.lexsort((x, np.floor(y)))
        return cls(order, y[order], x[order], matrices.centre_px, matrices.movement)


def superpose(scan: Scan4D, matrices: ScanMatrices) -> Floats:
    """The superposition in one pass over the frames, (scan_row, scan_column) counts.

    Masked pixels and missing frames add nothing.
    """
    return _superpose(scan, matrices, range(scan.scan_shape[0]), with_coverage=False)[0]


def superpose_with_coverage(scan: Scan4D, matrices: ScanMatrices) -> tuple[Floats, Floats]:
    """The superposition, and how many usable pixels went into each point of it."""
    total, coverage = _superpose(scan, matrices, range(scan.scan_shape[0]), with_coverage=True)
    return total, coverage


def superpose_dask(scan: Scan4D, matrices: ScanMatrices, rows_per_task: int = 1) -> Any:
    """The superposition as a dask task, a task for every few scan rows; `.compute()` makes it.

    Frames that are a zarr or dask array are read where the task runs; a scan need not fit in
    memory.
    """
    rows = range(scan.scan_shape[0])
    work = delayed(_superpose_rows)
    # the frames are one object of the graph, not one in every task
    shared = delayed(scan, pure=False, traverse=False)
    parts = [
        work(shared, matrices, rows[start : start + rows_per_task])
        for start in range(0, len(rows), rows_per_task)
    ]
    while len(parts) > 1:  # a tree, so that no worker holds all of them
        parts = [delayed(_total)(parts[k : k + 16]) for k in range(0, len(parts), 16)]
    return parts[0]


def control_images(
    scan: Scan4D, matrices: ScanMatrices, selected: tuple[int, int] | None = None
) -> ControlImages:
    """All control images.

    Parameters
    ----------
    selected : (scan_row, scan_column) of the frame shown by itself; the middle one if None.

    Raises
    ------
    UserError : the selected frame is missing, or the beam's middle is not on the detector.
    """
    rows, columns = scan.scan_shape
    selected = selected or (rows // 2, columns // 2)
    if scan.missing[selected]:
        raise UserError(
            f"{scan.name}: selected frame {selected}", "missing", "a recorded one", "choose another"
        )
    alone = np.ones(scan.scan_shape, bool)
    alone[selected] = False
    only = scan.with_(missing=alone)
    shown, _ = _superpose(only, matrices, [selected[0]], with_coverage=False)
    summed = _sum(scan)
    total, coverage = superpose_with_coverage(scan, matrices)
    return ControlImages(
        point=_point(scan, matrices),
        selected=shown,
        shifted_sum=total,
        coverage=coverage,
        sum=summed,
        transformed_sum=_turned(summed, matrices),
    )


def _superpose_rows(scan: Scan4D, matrices: ScanMatrices, rows: Sequence[int]) -> Floats:
    return _superpose(scan, matrices, rows, with_coverage=False)[0]


def _superpose(
    scan: Scan4D, matrices: ScanMatrices, rows: Sequence[int], with_coverage: bool
) -> tuple[Floats, Floats]:
    targets = Targets.of(matrices, scan.scan_shape)
    total, hits = np.zeros(len(targets.order)), np.zeros(len(targets.order))
    usable = ~scan.mask.ravel()
    index, target_rows = np.empty(len(total), np.int64), np.floor(targets.y)
    careful = with_coverage or not usable.all()
    for row in rows:
        frames = np.ascontiguousarray(scan.frames[row])
        scan_y = row - (scan.scan_shape[0] - 1) / 2
        _add_row(
            frames, scan.missing[row], scan_y, targets.start, targets.movement, targets.y,
            targets.x, target_rows, usable, careful, index, total, hits,
        )  # fmt: skip
    return _unsorted(total, targets, scan), _unsorted(hits, targets, scan)


def _unsorted(values: Floats, targets: Targets, scan: Scan4D) -> Floats:
    out = np.empty_like(values)
    out[targets.order] = values
    return out.reshape(scan.scan_shape)


def _total(parts: Sequence[Floats]) -> Floats:
    out: Floats = np.sum(parts, axis=0)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _add_row(  # type: ignore[no-untyped-def]
    frames, missing, scan_y, start, movement, ys, xs, rows, usable, careful, index, total, hits
):
    """Add a scan row's frames, (scan_column, row, column), to the targets' totals.

    `ys`, `xs` are sorted by `rows`, the former rounded down.
    """
    count, height, width = frames.shape
    for j in range(count):
        if missing[j]:
            continue
        flat = frames[j].reshape(-1)
        scan_x = j - (count - 1) / 2
        # half a pixel more, so that cutting decimals off rounds
        y0 = start[0] + movement[0, 0] * scan_y + movement[0, 1] * scan_x + 0.5
        x0 = start[1] + movement[1, 0] * scan_y + movement[1, 1] * scan_x + 0.5
        # in the order of detector rows, those that can be on it lie together
        first = np.searchsorted(rows, np.floor(-y0))
        last = np.searchsorted(rows, np.floor(height - y0), side="right")
        near_y, near_x = ys[first:last], xs[first:last]  # sliced: so it is known not to be < 0
        near_total, near_hits = total[first:last], hits[first:last]
        for m in range(len(near_y)):  # apart from the sums, so that it is vectorised
            y, x = y0 + near_y[m], x0 + near_x[m]
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            index[m] = np.int32(y) * width + np.int32(x) if inside else -1
        if careful:
            for m in range(len(near_y)):
                k = index[m]
                if k >= 0 and usable[k]:
                    near_total[m] += flat[k]
                    near_hits[m] += 1
        else:
            for m in range(len(near_y)):
                k = index[m]
                if k >= 0:
                    near_total[m] += flat[k]


def _sum(scan: Scan4D) -> Floats:
    out = np.zeros(scan.shape)
    for row in range(scan.scan_shape[0]):
        out += np.asarray(scan.frames[row])[~scan.missing[row]].sum(axis=0, dtype=np.float64)
    out[scan.mask] = 0
    return out


def _point(scan: Scan4D, matrices: ScanMatrices) -> Floats:
    """The pixel in the middle of the beam at each scan point; NaN where there is none."""
    rows, columns = scan.scan_shape
    grid = np.moveaxis(np.indices(scan.scan_shape), 0, -1) - (np.array(scan.scan_shape) - 1) / 2
    at = np.floor(matrices.centre_px + grid @ matrices.descan.T + 0.5).astype(int)
    if ((at < 0) | (at >= scan.shape)).any():
        raise UserError(
            "centre_px", f"({matrices.centre_px[0]:.1f}, {matrices.centre_px[1]:.1f})",
            f"the beam on the detector of {scan.shape[0]} x {scan.shape[1]} px all over the scan",
            "correct cy and cx, or the descan error",
        )  # fmt: skip
    out = np.full(scan.scan_shape, np.nan)
    for row in range(rows):
        y, x = at[row].T
        out[row] = np.asarray(scan.frames[row])[np.arange(columns), y, x]
    out[scan.missing | scan.mask[at[..., 0], at[..., 1]]] = np.nan
    return out


def _turned(image: Floats, matrices: ScanMatrices) -> Floats:
    """A detector image in the directions of the scan, at its own scale."""
    a = matrices.scan_to_detector
    turn = a / np.sqrt(abs(np.linalg.det(a)))
    out: Floats = affine_transform(
        image, turn, offset=matrices.centre_px - turn @ matrices.centre_px, order=1
    )
    return out
