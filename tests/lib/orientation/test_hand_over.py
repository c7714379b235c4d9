"""Hand-over files: formulae by hand, and read back."""

import csv
import json
import shutil
import subprocess
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import Geometry, rotation_about
from ewaldflow.lib.orientation.from_dials import from_dials
from ewaldflow.lib.orientation.geometry import rotation_by
from ewaldflow.lib.orientation.hand_over import (
    omega_of,
    pets_matrix,
    principal_errors,
    settings,
    write_cif_pets,
    write_dials,
    write_table,
    write_xds_like,
    zone_axes,
)
from ewaldflow.lib.orientation.observations import (
    FrameIntensities,
    FrameOrientations,
    OrientationData,
)

WAVELENGTH = 0.0251
CELL = (7.0, 9.0, 11.0, 90.0, 105.0, 90.0)
NUMBERS = np.arange(5, 25)


@pytest.fixture
def made():
    n = len(NUMBERS)
    rng = np.random.default_rng(1)
    basis = reciprocal_basis(CELL)
    u = Rotation.random(random_state=2).as_matrix()
    angle = -5 + 0.5 * np.arange(n)
    geometry = Geometry(WAVELENGTH, 0.055, 400.0, (250.0, 260.0), (0.6, -0.8, 0.0))
    shake = rotation_by(rng.normal(0, 2e-3, (n, 3)))
    rotation = shake @ rotation_about(geometry.axis, angle) @ u
    rows = FrameIntensities(
        np.array([[1, 2, 3], [-1, 0, 4]], np.int32), np.array([0, 1]), np.array([3, 7]),
        np.array([100.0, -2.0]), np.array([25.0, 9.0]), np.zeros(2), np.zeros(2),
    )  # fmt: skip
    data = OrientationData(
        "made-up", u @ basis, basis, geometry, angle, np.full(n, 0.5), np.ones(n, bool),
        np.full(n, 250.0), np.full(n, 260.0), rows,
    )  # fmt: skip
    covariance = np.tile(np.diag([4e-4, 1e-4]), (n, 1, 1))
    found = FrameOrientations(
        "stage B", rotation, -rotation[:, 2, :] / WAVELENGTH, np.zeros((n, 2)), np.zeros((n, 2)),
        covariance, covariance, np.zeros(n), np.full(n, 0.1), np.full(n, 1.1), np.full(n, 30),
        np.ones(n), ("",) * (n - 1) + ("few spots",), np.array([1.0, 0, 0]), 1.0, {}, (),
    )  # fmt: skip
    return data, found, shake


def test_zone_axis_is_the_lattice_direction_towards_the_source(made):
    data, found, _ = made
    # a crystal with c along -z (towards the source): [001]
    plain = replace(found, centre=np.tile(np.array([0, 0, 1 / WAVELENGTH]), (len(NUMBERS), 1)))
    cubic = np.eye(3) * 0.1
    np.testing.assert_allclose(zone_axes(plain, cubic)[0], [0, 0, 1], atol=1e-12)
    # in general: u a + v b + w c in the laboratory is against the beam
    real = np.linalg.inv(data.reciprocal_basis).T
    direction = found.rotation @ (zone_axes(found, data.reciprocal_basis) @ real.T)[:, :, None]
    unit = direction[:, :, 0] / np.linalg.norm(direction, axis=1)
    np.testing.assert_allclose(unit, np.tile([0, 0, -1.0], (len(NUMBERS), 1)), atol=1e-12)
    assert np.abs(zone_axes(found, data.reciprocal_basis)).max() == pytest.approx(1)


def test_settings_are_one_matrix_for_a_perfect_goniometer(made):
    data, found, shake = made
    perfect = replace(found, rotation=np.linalg.inv(shake) @ found.rotation)
    np.testing.assert_allclose(
        settings(data, perfect), np.tile(data.orientation, (len(NUMBERS), 1, 1)), atol=1e-12
    )


def test_errors_along_their_own_directions():
    turn = rotation_about([0, 0, 1], 30.0)[:2, :2]
    sd, direction = principal_errors(
        np.array([turn @ np.diag([9e-4, 1e-4]) @ turn.T, np.full((2, 2), np.nan)])
    )
    np.testing.assert_allclose(sd[0], [0.03, 0.01])
    assert direction[0] == pytest.approx(30)
    assert np.isnan(sd[1]).all()


def test_the_table_holds_every_frame(made, tmp_path):
    data, found, _ = made
    write_table(tmp_path / "t.csv", data, found, NUMBERS)
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == NUMBERS.tolist()
    u = np.array([[float(rows[3][f"u_{i}{j}"]) for j in range(3)] for i in range(3)])
    np.testing.assert_allclose(u, found.rotation[3], atol=1e-7)
    assert float(rows[0]["worst_sd_deg"]) == pytest.approx(0.02)
    assert rows[-1]["flag"] == "few spots"


def test_pets_matrix_has_x_along_the_tilt_axis(made):
    data, _, _ = made
    # our axis (0.6, -0.8, 0) is (0.6, 0.8, 0) there: omega = 53.13 degrees
    assert omega_of(data) == pytest.approx(53.1301, abs=1e-4)
    # a reciprocal vector along the axis is along x; one against the beam along z
    along = pets_matrix(np.array([[0.6], [-0.8], [0.0]]), omega_of(data))
    np.testing.assert_allclose(along.ravel(), [1, 0, 0], atol=1e-9)
    against = pets_matrix(np.array([[0.0], [0.0], [-1.0]]), omega_of(data))
    np.testing.assert_allclose(against.ravel(), [0, 0, 1], atol=1e-9)


def test_cif_pets_reads_back(made, tmp_path):
    data, found, _ = made
    used = data.used.copy()
    used[4] = False
    write_cif_pets(tmp_path / "a.cif_pets", replace(data, used=used), found, NUMBERS)
    block = gemmi.cif.read(str(tmp_path / "a.cif_pets")).sole_block()
    zones = block.find("_diffrn_zone_axis_", ["id", "u", "v", "w", "alpha", "precession_angle"])
    assert [int(row[0]) for row in zones] == [n for n in NUMBERS if n != NUMBERS[4]]
    uvw = np.array([[float(v) for v in list(row)[1:4]] for row in zones])
    np.testing.assert_allclose(
        uvw, np.delete(zone_axes(found, data.reciprocal_basis), 4, axis=0), atol=1e-6
    )
    assert float(zones[0][5]) == 0.25
    rows = block.find("_refln_", ["index_h", "index_k", "index_l", "intensity_meas",
                                  "intensity_sigma", "zone_axis_id"])  # fmt: skip
    assert [list(row) for row in rows] == [
        ["1", "2", "3", "100.000", "5.000", "8"],
        ["-1", "0", "4", "-2.000", "3.000", "12"],
    ]
    assert float(block.find_value("_cell_angle_beta")) == 105


def test_dials_reads_back_and_varies(made, tmp_path):
    data, found, _ = made
    path = tmp_path / "a.expt"
    write_dials(path, data, found, NUMBERS, (512, 516))
    whole = json.loads(path.read_text())
    points = np.array(whole["crystal"][0]["A_at_scan_points"]).reshape(-1, 3, 3)
    assert len(points) == len(NUMBERS) + 1
    half_turn = np.diag([1.0, -1, -1])
    each = settings(data, found)
    # the ends are those frames; borders lie half way, to second order in the small rotations
    np.testing.assert_allclose(points[0], half_turn @ each[0], atol=1e-12)
    np.testing.assert_allclose(points[5], half_turn @ (each[4] + each[5]) / 2, atol=1e-6)
    empty = tmp_path / "e.refl"
    word = b"\xd9\x1bdials::af::reflection_table"
    index = b"\xd9\x0cmiller_index\x92\xd9\x17cctbx::miller::index<>\x92\x00\xc4\x00"
    index = index.replace(b"\xd9\x17", bytes([0xD9, len("cctbx::miller::index<>")]))
    empty.write_bytes(b"\x93" + word + b"\x01\x82\xa5nrows\x00\xa4data\x81" + index)
    with pytest.raises(UserError, match=r"xyzobs\.px\.value"):
        from_dials(path, empty, centroids=True)


def test_dials_itself_reads_it(made, tmp_path):
    if shutil.which("dials.show") is None:
        pytest.skip("dials.show is not installed")
    data, found, _ = made
    write_dials(tmp_path / "a.expt", data, found, NUMBERS, (512, 516))
    done = subprocess.run(
        ["dials.show", "a.expt", "show_scan_varying=True"], cwd=tmp_path, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert "A sampled at 21 scan points" in done.stdout
    assert "beam_centre" in done.stdout or "Beam centre" in done.stdout
    # our (row 250, column 260) is (260.5, 250.5) from the corner
    assert "(260.50,250.50)" in done.stdout.replace(" ", "")


def test_dials_wants_an_unbroken_scan(made, tmp_path):
    data, found, _ = made
    numbers = NUMBERS.copy()
    numbers[10:] += 1
    with pytest.raises(UserError, match="gaps"):
        write_dials(tmp_path / "a.expt", data, found, numbers, (512, 512))
    lost = replace(found, rotation=np.full_like(found.rotation, np.nan))
    with pytest.raises(UserError, match="no frame of known orientation"):
        write_dials(tmp_path / "a.expt", data, lost, NUMBERS, (512, 512))


def test_xds_like_axes_give_the_reflections_back(made, tmp_path):
    data, found, _ = made
    write_xds_like(tmp_path / "a.xds", data, found, NUMBERS)
    lines = (tmp_path / "a.xds").read_text().splitlines()
    table = np.array([line.split() for line in lines if not line.startswith("!")], float)
    assert table.shape == (len(NUMBERS), 11)
    hkl = np.array([3, -2, 5])
    for f in (0, 12):
        real = table[f, 2:].reshape(3, 3)  # rows a, b, c
        q = rotation_about(data.geometry.axis, table[f, 1]) @ np.linalg.inv(real) @ hkl
        np.testing.assert_allclose(q, found.rotation[f] @ data.reciprocal_basis @ hkl, atol=2e-6)
