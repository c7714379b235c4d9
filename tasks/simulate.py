"""simulate: a `simulation` artefact, SMV frames of a crystal of which all is known."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from ..lib.artefacts import ArtefactStore, Recipe
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id

KIND = "simulation"
NAME = "demo"
FRAMES = "frames"


@task(task_run_name="simulate", **TASK_OPTIONS)
def simulate(store: Path, seed: int) -> str:
    """Simulate the small demonstration series and write it as SMV.

    Parameters
    ----------
    store : root of the artefact store.
    seed : of the crystal's orientation and all noise.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its files are a folder
    as a microscope's computer would leave it.
    """
    tell(NAME, "simulate")
    return simulate_frames(store, seed, flow_run_id())


def simulate_frames(store: Path, seed: int, flow_run: str | None = None) -> str:
    """What `simulate` does, without Prefect."""
    kept = ArtefactStore(store)
    recipe = Recipe(kind=KIND, name=NAME, seeds={"everything": seed})
    if found := kept.find(recipe):
        return found.ref
    from ..lib.formats import write_series
    from ..lib.report.notation import cell_text
    from ..lib.simulation import demo_series

    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        series, truth = demo_series(seed)
        draft.notes += write_series(series, draft.files / FRAMES, "SMV").notes
        draft.figures_of_merit = {
            "frames": len(series),
            "structure": truth.lattices[0].name,
            "true_cell": cell_text(truth.lattices[0].cell),
        }
        return draft.publish().ref
