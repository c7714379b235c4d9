"""Colours of rotation maps for all eyes, and angles turned to agree with the centre of mass."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from ewaldflow.lib.report.rrvae_figures import CYCLIC, aligned, sign_of
from ewaldflow.lib.rrvae.result import Agreement

# linear RGB as seen without one kind of cones (Machado, Oliveira & Fernandes, 2009, IEEE Trans.
# Vis. Comput. Graph. 15, 1291)
EYES = {
    "all cones": np.eye(3),
    "no L cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "no M cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                   [-0.011820, 0.042940, 0.968881]],
    "no S cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


@pytest.mark.parametrize("eye", EYES)
def test_everyone_tells_directions_apart(eye: str) -> None:
    colour = CYCLIC(np.linspace(0, 1, 360, endpoint=False))[:, :3]
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(EYES[eye]), 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]

    def least(degrees: int) -> float:
        return float(np.linalg.norm(lab - np.roll(lab, degrees, axis=0), axis=1).min())

    # 2.3 is a difference that is just noticed
    assert least(15) > 4.6
    assert least(90) > 35
    assert least(180) > 55
    # and there is no seam
    assert np.linalg.norm(lab - np.roll(lab, 1, axis=0), axis=1).max() < 2.3


def test_angles_are_turned_to_those_of_the_centre_of_mass() -> None:
    com = np.array([0.1, 1.0, -2.0, 3.0])
    # by hand: angle = sense * com + offset
    told = Agreement("seed 0", -0.9, -0.9, 1.0, -1, 0.4)
    np.testing.assert_allclose(aligned(-com + 0.4, told), com, atol=1e-12)
    np.testing.assert_allclose(aligned(-com + 0.4 + 2 * np.pi, told), com, atol=1e-12)
    assert sign_of(told) == -1
