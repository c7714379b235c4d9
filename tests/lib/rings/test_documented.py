"""The documented functions of calibration and recalibration, end to end on simulated images."""

import inspect
import math
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile

import ewaldflow.lib.rings as rings
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.image import DiffractionImage
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.rings.calibrants import gold
from ewaldflow.lib.rings.calibration import RingCalibration
from ewaldflow.lib.rings.direct_beam import direct_beam_centre
from ewaldflow.lib.rings.geometric_calibration import NotCalibrated, calib2_command
from ewaldflow.lib.rings.poni_file import read_poni_file
from ewaldflow.lib.rings.recalibration import show_recentred
from ewaldflow.lib.rings.recentre import recentre
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings

SMALL = RingConditions(
    shape=(640, 640), distance_mm=282.0, width_px=2.0, stop_px=30, shaft_px=22, hot=20, dead=20,
    stated_error=0.02,
)  # fmt: skip
OPEN = replace(SMALL, stop_px=0, shaft_px=0)
WAVELENGTH_A = 0.0250793
GOLD_CIF = """data_gold
_cell_length_a 4.0782
_cell_length_b 4.0782
_cell_length_c 4.0782
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_symmetry_Int_Tables_number 225
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
'x, y+1/2, z+1/2'
'x+1/2, y, z+1/2'
'x+1/2, y+1/2, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Au1 Au 0 0 0 1
"""


@cache
def simulated(c: RingConditions, seed: int = 0) -> tuple[DiffractionImage, tuple[float, float]]:
    return simulate_rings(gold(), c, seed)


def known(c: RingConditions) -> RingCalibration:
    return RingCalibration(
        "before", c.shape, "gold", c.wavelength_A, c.pixel_size_mm, c.distance_mm, (322.0, 315.0),
        EllipticalDistortion(c.ratio, c.azimuth_deg),
    )  # fmt: skip


@pytest.fixture
def cif(tmp_path: Path) -> Path:
    pytest.importorskip("pymatgen", reason="pymatgen, of the extra 'cif', is not installed")
    path = tmp_path / "gold.cif"
    path.write_text(GOLD_CIF)
    return path


def test_names_and_arguments_are_the_documented_ones() -> None:
    documented = {
        "build_calibration_data_from_cif": ["cif_file", "wavelength", "n_peaks", "two_theta_range"],
        "perform_geometric_calibration": ["cif_file", "dm4_file"],
        "get_calibration_parameters": ["poni_file"],
        "center_to_poni": ["cx", "cy", "px_size", "py_size", "dist", "rot1", "rot2", "rot3"],
        "fit_ellipse_to_ring": ["image", "threshold_rel", "min_size"],
        "recalibrate_no_beamstop": ["dm4file", "ponifile", "output_ponifile"],
        "recalibrate_with_beamstop": [
            "dm4file", "ponifile", "threshold_rel", "min_size", "output_ponifile", "plot",
        ],
        "update_ai": ["initial_ponifile", "poni1_new", "poni2_new", "output_ponifile"],
    }  # fmt: skip
    for name, arguments in documented.items():
        parameters = inspect.signature(getattr(rings, name)).parameters.values()
        found = [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]
        assert found == arguments, name
    assert set(documented) < set(rings.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = rings.nothing


def test_rings_of_a_cif(cif: Path, tmp_path: Path) -> None:
    path = tmp_path / "distances.txt"
    found = rings.build_calibration_data_from_cif(cif, WAVELENGTH_A, output_file=path)
    # gold has 11 rings within 2 degrees at 200 kV
    assert len(found) == 11
    assert found[0]["hkl"] == (1, 1, 1)
    # 2 asin(0.0250793 sqrt(3) / (2 4.0782)) = 0.61028 degrees
    assert found[0]["two_theta"] == pytest.approx(0.61028, abs=1e-5)
    assert found[0]["d"] == pytest.approx(4.0782 / math.sqrt(3))
    assert found[0]["intensity"] == 1.0
    spacings = [float(line) for line in path.read_text().splitlines()]
    assert spacings == sorted(spacings, reverse=True)
    assert spacings == pytest.approx([ring["d"] for ring in found], abs=1e-6)


def test_the_strongest_rings_are_chosen_and_then_sorted(cif: Path) -> None:
    def built(n: int) -> list[dict]:
        return rings.build_calibration_data_from_cif(cif, WAVELENGTH_A, n, output_file=None)

    every, four = built(15), built(4)
    weakest_taken = min(ring["intensity"] for ring in four)
    left = [ring for ring in every if ring["hkl"] not in [one["hkl"] for one in four]]
    assert max(ring["intensity"] for ring in left) <= weakest_taken
    # 222 comes before 331 but is weaker; by spacing alone it would be in
    assert (2, 2, 2) not in [ring["hkl"] for ring in four]
    assert [ring["d"] for ring in four] == sorted((ring["d"] for ring in four), reverse=True)


@pytest.mark.parametrize(
    ("wavelength", "changes", "what"),
    [
        (2.5e-12, {}, "wavelength: found 2.5e-12"),
        (WAVELENGTH_A, {"two_theta_range": (2, 1)}, "two_theta_range"),
        (WAVELENGTH_A, {"two_theta_range": (0, 0.1)}, "no ring"),
        (WAVELENGTH_A, {"n_peaks": 0}, "n_peaks"),
    ],
)
def test_what_cannot_be_asked_of_a_cif(
    cif: Path, wavelength: float, changes: dict, what: str
) -> None:
    with pytest.raises(UserError, match=what):
        rings.build_calibration_data_from_cif(cif, wavelength, output_file=None, **changes)


def test_the_ellipse_of_a_ring() -> None:
    image, true = simulated(SMALL)
    cx, cy, a, b, angle = rings.fit_ellipse_to_ring(image.pixels, threshold_rel=1.0)
    assert (cy, cx) == pytest.approx(true, abs=0.05)
    # 111: 282 mm / 0.03 mm tan(0.61028 deg) = 100.12 px, stretched by 1.024
    assert math.sqrt(a * b) == pytest.approx(100.12, abs=0.05)
    assert a / b == pytest.approx(1.024, abs=1e-3)
    assert math.degrees(angle) == pytest.approx(83.0, abs=1.0)


def test_the_ellipse_of_a_partial_ring() -> None:
    # the covariance of pixels is 3.6 % of the radius off for such a gap
    image, true = simulated(replace(SMALL, gap_deg=(30.0, 60.0)))
    cx, cy, *_ = rings.fit_ellipse_to_ring(image.pixels)
    assert (cy, cx) == pytest.approx(true, abs=0.05)


def test_no_ellipse() -> None:
    noise = np.random.default_rng(0).poisson(10, (300, 300))
    for pixels, what in ((np.zeros((300, 300)), "blank"), (noise, "ring")):
        with pytest.raises(ValueError, match=what):
            rings.fit_ellipse_to_ring(pixels)
    with pytest.raises(ValueError, match="min_size = 100000"):
        rings.fit_ellipse_to_ring(simulated(SMALL)[0].pixels, min_size=100000)
    with pytest.raises(ValueError, match="threshold_rel"):
        rings.fit_ellipse_to_ring(noise, threshold_rel=2.0)
    with pytest.raises(ValueError, match="shape"):
        rings.fit_ellipse_to_ring(np.zeros(5))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_recalibration_in_every_orientation(tmp_path: Path, orientation: int) -> None:
    image, true = simulated(SMALL)
    before = rings.write_poni(known(SMALL), tmp_path / "a.poni", orientation=orientation)
    after = tmp_path / "b.poni"
    integrator = rings.recalibrate_with_beamstop(image, before, output_ponifile=after)
    assert integrator.detector.orientation == orientation
    found = rings.get_calibration_parameters(after)
    assert found["center"][::-1] == pytest.approx(true, abs=0.03)
    assert (integrator.poni1, integrator.poni2) == (found["poni1"], found["poni2"])
    angle = integrator.center_array(image.shape, unit="2th_rad")
    nearest = np.unravel_index(int(np.argmin(angle)), angle.shape)
    assert nearest == tuple(round(value) for value in true)
    assert max(read_poni_file(after).ours["centre_sd_px"]) < 0.03


def test_a_poni_of_others_tells_no_ellipse(tmp_path: Path) -> None:
    image, true = simulated(SMALL)
    path = rings.write_poni(known(SMALL), tmp_path / "a.poni")
    path.write_text("".join(line for line in path.open() if not line.startswith("# Ewaldflow")))
    rings.recalibrate_with_beamstop(image, path, output_ponifile=tmp_path / "b.poni")
    found = rings.get_calibration_parameters(tmp_path / "b.poni")
    assert found["center"][::-1] == pytest.approx(true, abs=0.05)
    assert read_poni_file(tmp_path / "b.poni").ours["distortion"]["ratio"] == pytest.approx(
        1.024, abs=2e-3
    )


def test_no_beamstop_uses_rings_and_else_the_beam(tmp_path: Path) -> None:
    path = rings.write_poni(known(OPEN), tmp_path / "a.poni")
    for c in (OPEN, replace(OPEN, saturation=2000.0)):
        image, true = simulated(c)
        rings.recalibrate_no_beamstop(image, path, tmp_path / "b.poni")
        found = rings.get_calibration_parameters(tmp_path / "b.poni")
        assert found["center"][::-1] == pytest.approx(true, abs=0.03)
        assert read_poni_file(tmp_path / "b.poni").ours["centre_by"] == "rings"
    # a vacuum image: no rings, and a hot pixel brighter than the beam far from it
    row, column = np.mgrid[:640, :640]
    rate = 3 + 4000 * np.exp(-(np.hypot(row - 300.4, column - 333.7) ** 2) / (2 * 4**2))
    pixels = np.random.default_rng(0).poisson(rate).astype(np.uint32)
    pixels[20, 20] = 10**6
    vacuum = DiffractionImage("vacuum", pixels)
    rings.recalibrate_no_beamstop(vacuum, path, tmp_path / "c.poni")
    found = rings.get_calibration_parameters(tmp_path / "c.poni")
    assert found["center"][::-1] == pytest.approx((300.4, 333.7), abs=0.1)
    assert read_poni_file(tmp_path / "c.poni").ours["centre_by"] == "direct beam"
    with pytest.raises(ValueError, match="no ring"):
        rings.recalibrate_with_beamstop(vacuum, path)
    noise = DiffractionImage("noise", np.random.default_rng(0).poisson(10, (640, 640)))
    assert direct_beam_centre(noise) is None
    with pytest.raises(ValueError, match="no ring"):
        rings.recalibrate_no_beamstop(noise, path)


def test_a_batch_with_bad_images(tmp_path: Path) -> None:
    path = rings.write_poni(known(SMALL), tmp_path / "a.poni", orientation=1)
    for seed in (0, 1):
        tifffile.imwrite(tmp_path / f"good{seed}.tif", simulated(SMALL, seed)[0].pixels)
    tifffile.imwrite(tmp_path / "blank.tif", np.zeros((640, 640), np.uint16))
    tifffile.imwrite(tmp_path / "small.tif", np.ones((64, 64), np.uint16))
    (tmp_path / "cut.tif").write_bytes((tmp_path / "good0.tif").read_bytes()[:5000])
    names = ["good0", "blank", "small", "cut", "none", "good1"]
    files = [tmp_path / f"{name}.tif" for name in names]
    results = rings.recalibrate_batch(files, path, tmp_path / "out")
    assert [one.error is None for one in results] == [True, False, False, False, False, True]
    for one, what in zip(results[1:5], ("blank", "64 x 64", "truncated", "No such"), strict=True):
        assert what in one.error
        assert "\n" not in one.error
        assert (one.recentred, one.poni_file, one.integrator) == (None, None, None)
    for one, seed in ((results[0], 0), (results[5], 1)):
        true = simulated(SMALL, seed)[1]
        assert one.recentred.beam_centre_px == pytest.approx(true, abs=0.03)
        parameters = rings.get_calibration_parameters(one.poni_file)
        assert parameters["center"][::-1] == pytest.approx(true, abs=0.03)
    assert results[0].integrator.detector.orientation == 1
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["good0.poni", "good1.poni"]
    with pytest.raises(UserError, match="two images named good0"):
        rings.recalibrate_batch([files[0], files[0]], path, tmp_path / "out")


def test_the_figure_of_a_recalibration() -> None:
    import matplotlib as mpl

    mpl.use("agg")
    image, _ = simulated(SMALL)
    figure = show_recentred(image, known(SMALL), recentre(image, known(SMALL)), 2)
    (axes,) = figure.axes
    assert "orientation 2" in axes.get_title()
    assert len(axes.lines) >= 4  # rings and centre


def test_calibration_without_a_display(
    cif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, true = simulated(SMALL)
    found = rings.perform_geometric_calibration(cif, image, output_folder=tmp_path)
    assert found.beam_centre_px == pytest.approx(true, abs=0.05)
    assert found.distance_mm == pytest.approx(282.0, rel=5e-4)
    parameters = rings.get_calibration_parameters(tmp_path / f"{image.name}.poni")
    assert parameters["distance"] == pytest.approx(found.distance_mm * 1e-3)
    assert parameters["center"][::-1] == pytest.approx(found.beam_centre_px)
    spacings = [float(line) for line in (tmp_path / "distances.txt").open()]
    assert spacings[0] == pytest.approx(2.35455, abs=1e-4)
    assert spacings == sorted(spacings, reverse=True)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if os.name == "posix" and os.uname().sysname == "Linux":
        with pytest.raises(UserError, match="no display"):
            rings.perform_geometric_calibration(cif, image, interactive=True)


def test_a_calibration_not_to_be_trusted_writes_no_poni(tmp_path: Path) -> None:
    # the camera length stated is half the true one: rings of gold, but somewhere else
    image = replace(simulated(SMALL)[0], camera_length_mm=141.0)
    with pytest.raises(NotCalibrated) as caught:
        rings.perform_geometric_calibration("gold", image, output_folder=tmp_path)
    assert caught.value.calibration.reasons
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.poni"))


def test_an_image_without_calibration_tags(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", simulated(SMALL)[0].pixels)
    with pytest.raises(UserError, match="wavelength_A: none"):
        rings.perform_geometric_calibration("gold", tmp_path / "one.tif", output_folder=tmp_path)


def test_the_command_of_calib2(tmp_path: Path) -> None:
    edf, distances = tmp_path / "one.edf", tmp_path / "distances.txt"
    command = calib2_command(known(SMALL), edf, distances, None)
    assert command[command.index("-w") + 1] == "0.02507934"  # ångström
    assert command[command.index("-p") + 1] == "30.0,30.0"  # um
    assert command[command.index("-l") + 1] == "282.0"  # mm
    assert "-e" not in command  # photon keV, never right for electrons
    assert {"--fix-rot1", "--fix-rot2", "--fix-rot3"} < set(command)
    assert command[-1] == str(edf)
