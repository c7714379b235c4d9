"""Peaks of PETS2, from a small project written here."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ewaldflow.lib.crystal.cell import cell_from_reciprocal_basis, reciprocal_basis
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import Geometry, rotation_about
from ewaldflow.lib.orientation.from_pets import from_pets, read_pts

CELL = (6.0, 8.0, 11.0, 90.0, 102.0, 90.0)
WAVELENGTH, SCALE = 0.0251, 0.004


def pts(angles, **changes):
    cards = {
        "lambda": f"{WAVELENGTH}", "geometry": "continuous", "omega": "230", "phi": "0.25",
        "aperpixel": f"{SCALE}", "center": "257.0 258.0",
        "referencecell": " ".join(map(str, CELL)) + " 1",
    } | changes  # fmt: skip
    lines = [f"{key} {value}" for key, value in cards.items()]
    lines += ["# a remark", "imagelist"]
    lines += [f"tiff\\{i:05d}.tiff {a:9.4f} 0.0 0.0 1.0 0 0 0 {int(i != 4)}"
              for i, a in enumerate(angles, 1)]  # fmt: skip
    return "\n".join([*lines, "endimagelist", ""])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pets")
    angles = -15 + 0.5 * np.arange(60)
    (folder / "a.pts").write_text(pts(angles))
    pixel = 0.055
    geometry = Geometry(WAVELENGTH, pixel, pixel / (SCALE * WAVELENGTH), (257.0, 256.0),
                        (np.cos(np.deg2rad(230)), -np.sin(np.deg2rad(230)), 0.0))  # fmt: skip
    orientation = Rotation.random(random_state=5).as_matrix() @ reciprocal_basis(CELL)
    hkl = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3, indexing="ij"), -1).reshape(-1, 3)
    length = np.linalg.norm(hkl @ orientation.T, axis=1)
    hkl = hkl[(length > 0) & (length < 0.9)]
    rows, truth = [], []
    for i, angle in enumerate(angles, 1):
        q = hkl @ orientation.T @ rotation_about(geometry.axis, angle).T
        s = np.linalg.norm(q + geometry.s0, axis=1) - 1 / WAVELENGTH
        for k in np.flatnonzero(np.abs(s) < 0.004):
            row, column = geometry.to_pixel(q[k])
            intensity = 100 * np.exp(-0.5 * (s[k] / 0.002) ** 2)
            x, y = column + 1, row + 1
            rows.append(f"0 0 0 {intensity:.2f} 2.0 {x:.0f} {y:.0f} {x:.3f} {y:.3f} {angle} 9 {i}")
            truth.append(hkl[k])
    (folder / "a.rpl").write_text("\n".join(rows) + "\n")
    return folder / "a.pts", np.array(truth), orientation


def test_peaks_are_indexed(project):
    path, truth, orientation = project
    data = from_pets(path)
    np.testing.assert_allclose(cell_from_reciprocal_basis(data.orientation), CELL, rtol=0.01)
    # indices up to the setting: one change of basis takes theirs to ours
    change = np.linalg.inv(data.orientation) @ orientation
    ours = np.rint(truth @ np.rint(change).T)
    np.testing.assert_allclose(change, np.rint(change), atol=0.03)
    assert len(data.intensities) > 0.98 * len(truth)
    found = {tuple(h) for h in data.intensities.hkl.tolist()}
    assert found <= {tuple(h) for h in ours.astype(int).tolist()}
    np.testing.assert_allclose(data.geometry.axis[2], 0, atol=0.02)
    assert data.exposure_deg[0] == 0.5


def test_a_passage_is_a_run_of_frames(project):
    r = from_pets(project[0]).intensities
    for crossing in np.unique(r.crossing)[:50]:
        own = r.crossing == crossing
        assert len(np.unique(r.hkl[own], axis=0)) == 1
        assert np.all(np.diff(np.sort(r.frame[own])) <= 3)


def test_frames_left_out_and_out_of_order_are_not_used(project, tmp_path):
    angles = -15 + 0.5 * np.arange(60)
    angles[30] -= 1.0
    path = tmp_path / "a.pts"
    path.write_text(pts(angles))
    (tmp_path / "a.rpl").write_text(project[0].with_suffix(".rpl").read_text())
    data = from_pets(path)
    assert np.flatnonzero(~data.used).tolist() == [3, 30]
    np.testing.assert_allclose(data.angle_deg, angles)


def test_bad_projects_are_refused(project, tmp_path):
    path = tmp_path / "b.pts"
    angles = np.arange(10.0)
    cases = {
        "continuous": pts(angles, geometry="precession"),
        "6 numbers": pts(angles, referencecell="5 6"),
        "imagelist": pts([]),
        "an angle": pts(angles).replace("imagelist\n", "imagelist\nno.tiff x\n", 1),
    }
    for words, content in cases.items():
        path.write_text(content)
        with pytest.raises(UserError, match=words):
            read_pts(path)
    path.write_text(pts(angles))
    with pytest.raises(UserError, match=r"no \.rpl or \.cor"):
        from_pets(path)
    (tmp_path / "b.rpl").write_text("1 2 3\n")
    with pytest.raises(UserError, match="3 columns"):
        from_pets(path)


def test_peaks_of_another_cell_are_told(project, tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "c.pts"
    path.write_text(pts(-15 + 0.5 * np.arange(60)))
    x, y = rng.uniform(50, 450, (2, 300))
    frame = rng.integers(1, 61, 300)
    (tmp_path / "c.rpl").write_text(
        "".join(f"0 0 0 50 2 0 0 {a:.2f} {b:.2f} 0 9 {f}\n"
                for a, b, f in zip(x, y, frame, strict=True))
    )  # fmt: skip
    with pytest.raises(UserError, match="no lattice explains"):
        from_pets(path)
