"""demo: a simulated crystal, written as frames and processed as if it came from a microscope."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from ..lib.artefacts import ArtefactStore
from ..tasks.simulate import FRAMES, simulate
from .process import Processed, process


@dataclass(frozen=True)
class Demonstrated:
    """What `demo` did: as `process`, and the cell that was put in."""

    processed: Processed
    true_cell: str


@flow(name="demo", persist_result=False)
def demo(store: Path, seed: int = 1) -> Demonstrated:
    """Simulate, write SMV, process.

    Parameters
    ----------
    store : root of the artefact store.
    seed : of the crystal's orientation and all noise.
    """
    kept = ArtefactStore(store)
    simulation = kept.get(simulate(store, seed))
    done = process(
        [simulation.files / FRAMES], store, instrument="twin", session=f"demo-seed-{seed}"
    )
    return Demonstrated(done, str(simulation.manifest.figures_of_merit["true_cell"]))
