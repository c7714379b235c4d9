"""Simulated 4D-STEM scans by name: what there is to learn from before the microscope is free."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import UserError
from ..stem4d.scan import Scan4D
from .phase_object import simulate_graphene, with_dose
from .probe import Camera, Probe

STEP_A = 0.176  # a 14th of graphene's lattice constant
ZNS_DEFOCUS_A = 38.0  # the middle of the crystal
PHONONS = 8  # frozen configurations


class Simulation(BaseModel):
    """What is simulated.

    Attributes
    ----------
    specimen : graphene, graphene with a silicon atom or a vacancy in the middle, or zinc sulphide
        along [011], 76.5 Å thick.
    scan_shape : (rows, columns).
    scan_step_A : distance of scan points, both ways.
    shape : (rows, columns) of a pattern.
    voltage_kV, semi_angle_mrad, source_fwhm_A, focus_spread_fwhm_A : of the probe.
    msd_A2 : mean square displacement of atoms along one axis; multislice takes the mean of 8
        frozen configurations.
    electrons : in the beam; None: no noise.
    multislice : by abTEM also where the fast simulation would do; zinc sulphide always is.
    seed : of the noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    specimen: Literal["graphene", "silicon", "vacancy", "zns"] = "graphene"
    scan_shape: tuple[int, int] = (64, 64)
    scan_step_A: float = Field(STEP_A, gt=0)
    shape: tuple[int, int] = (64, 64)
    voltage_kV: float = Field(60.0, ge=1, le=3000)
    semi_angle_mrad: float = Field(31.0, gt=0, le=500)
    source_fwhm_A: float = Field(0.0, ge=0)
    focus_spread_fwhm_A: float = Field(0.0, ge=0)
    msd_A2: float = Field(0.0, ge=0)
    electrons: float | None = Field(None, gt=0)
    multislice: bool = False
    seed: int = Field(0, ge=0)


def simulated(what: Simulation) -> Scan4D:
    """The scan.

    Raises
    ------
    UserError : abTEM is not installed where it is needed, or it cannot do what is asked for.
    """
    if min(what.scan_shape) < 1 or min(what.shape) < 8:
        raise UserError(
            "scan_shape, shape", f"{what.scan_shape}, {what.shape}",
            "at least one scan point, and 8 x 8 pixels", "state larger ones",
        )  # fmt: skip
    probe = Probe(
        what.voltage_kV, what.semi_angle_mrad, 0.0, what.focus_spread_fwhm_A, what.source_fwhm_A
    )
    clean = _clean(what, probe).with_(name=what.specimen)
    return clean if what.electrons is None else with_dose(clean, what.electrons, what.seed)


def _clean(what: Simulation, probe: Probe) -> Scan4D:
    steps = (what.scan_step_A, what.scan_step_A)
    if what.specimen in ("silicon", "vacancy"):
        from .supercell import graphene_supercell, simulate_supercell, with_silicon, with_vacancy

        changed = {"silicon": with_silicon, "vacancy": with_vacancy}[what.specimen]
        return simulate_supercell(
            changed(graphene_supercell()), probe, shape=what.shape, scan_shape=what.scan_shape,
            scan_step_A=steps, msd_A2=what.msd_A2,
        )  # fmt: skip
    if what.specimen == "zns" or what.multislice:
        from .multislice import ZNS_SLICE_A, graphene_atoms, simulate_multislice, zns_atoms

        zns = what.specimen == "zns"
        seeds = tuple(range(what.seed, what.seed + PHONONS)) if what.msd_A2 else ()
        return simulate_multislice(
            zns_atoms() if zns else graphene_atoms(),
            probe.with_(defocus_A=ZNS_DEFOCUS_A) if zns else probe,
            shape=what.shape, slice_A=ZNS_SLICE_A if zns else 2.0, scan_shape=what.scan_shape,
            scan_step_A=steps, msd_A2=what.msd_A2, phonon_seeds=seeds,
        )  # fmt: skip
    # the camera of the paper, about 33 mrad to the edge of a pattern, whatever its pixels
    pixel = 33.2 / 31.0 * what.semi_angle_mrad / (min(what.shape) / 2)
    return simulate_graphene(
        what.msd_A2, probe=probe, camera=Camera(what.shape, (pixel, pixel)),
        scan_shape=what.scan_shape, scan_step_A=steps,
    )  # fmt: skip
