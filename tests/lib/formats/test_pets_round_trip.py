"""A project for PETS2: its peaks, listed as PETS2 does, lie on the crystal's lattice again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ewaldflow.lib.formats.pets import write_pets
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.orientation.from_pets import from_pets
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.series.rotation_series import RotationSeries
from ewaldflow.lib.simulation import Truth


def test_peaks_of_a_project_have_their_indices(
    simulated: tuple[RotationSeries, Truth], reduction: Reduction, tmp_path: Path
) -> None:
    series, truth = simulated
    lattice = reduction.lattices[0]
    undistorted = truth.geometry.with_(distortion=EllipticalDistortion())
    told = series.with_(
        frames=series.frames[:, :40, :40], mask=series.mask[:40, :40], geometry=undistorted,
        beam_centres_px=truth.beam_centres_px,
    )  # fmt: skip
    write_pets(told, tmp_path, cell=lattice.cell)
    r = lattice.reflections
    strong = np.argsort(-r.intensity)[:600]
    # where an undistorted lens would show them
    place = undistorted.to_pixel(truth.geometry.to_q(r.row[strong], r.column[strong]))
    frame = np.rint(r.frame[strong]).astype(int)
    inside = (frame >= 0) & (frame < len(series))
    order = np.flatnonzero(inside)[np.argsort(frame[inside])]
    rows = [
        (0, 0, 0, r.intensity[strong][k], np.sqrt(abs(r.intensity[strong][k])), 0, 0,
         place[k, 1] + 1, place[k, 0] + 1, r.angle_deg[strong][k], 0, frame[k] + 1)
        for k in order
    ]  # fmt: skip
    np.savetxt(tmp_path / f"{series.name}.rpl", rows, fmt="%.5f")
    data = from_pets(tmp_path / f"{series.name}.pts")
    assert data.intensities is not None
    assert len(data.intensities.hkl) > 0.9 * len(rows)
    # the axis and the scale are those of the series
    np.testing.assert_allclose(data.geometry.axis, undistorted.axis, atol=2e-3)
    assert data.geometry.wavelength_A * data.geometry.distance_mm / data.geometry.pixel_size_mm == (
        pytest.approx(
            undistorted.wavelength_A * undistorted.distance_mm / undistorted.pixel_size_mm, rel=5e-3
        )
    )
    np.testing.assert_allclose(data.angle_deg, series.angle_mid_deg, atol=1e-3)
