"""calibrate-rings: images of a powder become a calibration, compared with the last; and that check
by itself, for a schedule."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.rings.config import RingConfig
from ..lib.rings.drift import DriftLimits
from ..tasks.journal import say
from ..tasks.live import prefect_progress
from ..tasks.progress import tell
from ..tasks.rings import calibrate, newest_image, show_rings
from ..tasks.rings import check_drift as compare
from .forms import described


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate_rings` did.

    Attributes
    ----------
    rings : reference of the `rings` artefact.
    drift : reference of the `ring-drift` artefact; "" if it is not calibrated.
    warnings : what moved since the last calibration, one sentence each.
    """

    rings: str
    drift: str
    warnings: tuple[str, ...]


@flow(name="calibrate-rings", flow_run_name="calibrate-rings {name}", persist_result=False)
@described
def calibrate_rings(
    images: Sequence[Path],
    store: Path,
    calibrant: str = "gold",
    name: str = "rings",
    config: RingConfig | None = None,
    start: str | None = None,
    limits: DriftLimits | None = None,
    displayed_mm: Sequence[float] = (),
) -> Calibrated:
    """Calibrate a camera by powder rings, and warn of what moved since the last calibration.

    Parameters
    ----------
    images : of one powder on one camera, fitted together: tilt and distortions are common, centre
        and camera length each image's own.
    store : root of the artefact store.
    calibrant : name of a known one, or path of a CIF.
    name : of the calibration.
    config : choices; None for the defaults.
    start : reference of an earlier calibration, or path of a PONI, to start from.
    limits : from which change on to warn; None for the defaults.
    displayed_mm : camera length that the microscope displayed, of each image or one of all.
    """
    ArtefactStore(store).create()
    with prefect_progress(name, f"calibrate-rings {name}"):
        rings = calibrate(list(images), calibrant, store, name, config, start, displayed_mm)
        show_rings(rings, images[0], store)
        drift, warnings = compare(rings, store, limits)
        tell(name, "done", 1.0)
    for warning in warnings:
        say(f"{name}: {warning}", logging.WARNING)
    return Calibrated(rings, drift, warnings)


@flow(name="check-drift", flow_run_name="check-drift {name}", persist_result=False)
@described
def check_drift(
    folder: Path,
    store: Path,
    calibrant: str = "gold",
    name: str = "rings",
    pattern: str = "*",
    config: RingConfig | None = None,
    limits: DriftLimits | None = None,
    fail: bool = True,
    displayed_mm: Sequence[float] = (),
) -> Calibrated:
    """Calibrate with the newest image in a folder and compare: for a schedule.

    An image that was calibrated before is not calibrated again.

    Parameters
    ----------
    folder : where images of the powder come to lie.
    store, calibrant, name, config, limits, displayed_mm : as of `calibrate_rings`.
    pattern : of the names of the images.
    fail : end as failed where something moved, so that whoever watches flows is told; else only
        warn.

    Raises
    ------
    UserError : no image; the newest cannot be calibrated; or something moved, and `fail`.
    """
    done = calibrate_rings(
        [newest_image(folder, pattern)], store, calibrant, name, config, None, limits, displayed_mm
    )
    if not done.drift:
        raise UserError(
            done.rings, "an image that is not calibrated", "rings that calibrate",
            "its report.html has the reasons; take another image",
        )  # fmt: skip
    if done.warnings and fail:
        raise UserError(
            f"calibration {name}", "; ".join(done.warnings), "nothing beyond the limits",
            f"look at {done.drift}; calibrate again, and find what moved",
        )  # fmt: skip
    return done
