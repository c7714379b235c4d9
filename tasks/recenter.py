"""recenter: images of a calibrated camera become a `centres` artefact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from prefect import task

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.artefacts.durable import sha256_file
from .progress import tell
from .report import PAGE
from .rings import load_calibration
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out_each

KIND = "centres"


@task(task_run_name="recenter {name}", **TASK_OPTIONS)
def recenter(
    images: Sequence[Path], calibration: str, store: Path, name: str, workers: str | None = None
) -> str:
    """Find the direct beam on each of many images.

    Parameters
    ----------
    images : of the camera that was calibrated.
    calibration : reference of a `rings` artefact, or path of a PONI.
    store : root of the artefact store.
    name : of the set.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its files are report.html,
    centres.csv, and poni/ with a PONI for each image. An image on which no beam was found has its
    reason there.
    """
    return centres_artefact(images, calibration, store, name, workers, flow_run_id())


def centres_artefact(
    images: Sequence[Path],
    calibration: str,
    store: Path,
    name: str,
    workers: str | None = None,
    flow_run: str | None = None,
) -> str:
    """What `recenter` does, without Prefect."""
    kept = ArtefactStore(store)
    chosen, role = load_calibration(calibration, kept)
    known, lost = [], []
    for path in images:
        try:
            known.append(Input(role="raw", digest=sha256_file(path), path=str(path.absolute())))
        except OSError:
            lost.append(str(path))
    recipe = Recipe(
        kind=KIND, name=name, inputs=(role, *known), configuration={"cannot be read": lost}
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.artefacts.records import write_record
    from ..lib.report.centres_page import centres_page
    from ..lib.rings.centres import ImageCentres, recentre_file, unique_names, write_centres

    work = [(path, one, chosen) for path, one in zip(images, unique_names(images), strict=True)]
    centres = ImageCentres(
        chosen,
        tuple(carry_out_each(workers, recentre_file, work,
                             lambda n: tell(name, "recenter", n / len(work)))),
    )  # fmt: skip
    row, column = centres.column("row"), centres.column("column")
    good = np.isfinite(row)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        write_record(draft.arrays, centres)
        files = write_centres(centres, draft.files)
        page = centres_page(
            name,
            centres,
            files,
            calibration,
            kept.running_code.version,
            kept.ancestors(*(one.artefact for one in recipe.inputs if one.artefact)),
        )
        (draft.files / PAGE).write_text(page, encoding="utf-8")
        draft.notes += [f"{one.name}: {one.reason}" for one in centres.images if one.reason]
        spread = float(np.hypot(np.std(row[good]), np.std(column[good]))) if good.any() else None
        draft.figures_of_merit = {
            "images": len(centres.images),
            "failed": int((~good).sum()),
            "spread_px": spread,
        }
        return draft.publish().ref
