"""TemGym Basic's rays against the closed form."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.overfocus import twin
from ewaldflow.lib.overfocus.model import matrices_of
from ewaldflow.lib.overfocus.parameters import OverfocusParameters

PARAMETERS = OverfocusParameters(
    overfocus_m=2e-5,
    scan_pixel_size_m=1e-8,
    camera_length_m=1.2,
    detector_pixel_size_m=55e-6,
    cy=127.5,
    cx=120.0,
    scan_rotation_deg=37.3,
    descan_px=((0.06, -0.03), (0.04, 0.08)),
)
CASES = {
    "as it is": PARAMETERS,
    "underfocus": PARAMETERS.with_(overfocus_m=-2e-5),
    "flipped": PARAMETERS.with_(flip_y=True, scan_rotation_deg=-110.0),
    "strong": PARAMETERS.with_(overfocus_m=2e-4),
    "weak": PARAMETERS.with_(overfocus_m=2e-6, descan_px=((0, 0), (0, 0))),
}


@pytest.fixture
def temgym() -> None:
    pytest.importorskip("temgymbasic", reason="the extra `twin` is not installed")


@pytest.mark.usefixtures("temgym")
@pytest.mark.parametrize("parameters", CASES.values(), ids=CASES)
def test_traced_rays_agree_with_the_matrices(parameters: OverfocusParameters) -> None:
    assert twin.verify_twin(parameters) < 1e-9


@pytest.mark.usefixtures("temgym")
def test_a_wrong_matrix_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        twin, "matrices_of", lambda p: matrices_of(p.with_(scan_rotation_deg=37.3001))
    )
    assert twin.verify_twin(PARAMETERS) == pytest.approx(np.deg2rad(1e-4), rel=0.3)


@pytest.mark.usefixtures("temgym")
def test_without_descan_error_the_disc_stands_still_and_the_focus_moves() -> None:
    column = twin.TemGymColumn(PARAMETERS.with_(descan_px=((0, 0), (0, 0)), scan_rotation_deg=0))
    (middle, still), (moved, there) = column.hits((0, 0)), column.hits((5, -3))
    np.testing.assert_allclose(there, still, atol=1e-6)
    np.testing.assert_allclose(moved - middle, np.broadcast_to((5, -3), middle.shape), atol=1e-6)


@pytest.mark.usefixtures("temgym")
def test_the_ray_diagram_shows_every_component() -> None:
    figure = twin.ray_diagram(PARAMETERS)
    (axes,) = figure.axes
    names = {text.get_text() for text in axes.texts}
    assert {"scan coils", "lens", "specimen", "descan coils", "detector"} <= names
    # three rays for each of three scan points, from the source down to the detector
    rays = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(rays) == 9
    assert all(line.get_ydata()[-1] == 0 for line in rays)


def test_without_temgym_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UserError, match=r"ewaldflow\[twin\]"):
        twin.verify_twin(PARAMETERS)


def test_implausible_parameters_never_reach_temgym() -> None:
    with pytest.raises(UserError, match="camera_length_m"):
        twin.verify_twin(PARAMETERS.with_(camera_length_m=1200.0))
