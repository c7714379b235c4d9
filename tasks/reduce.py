"""reduce: a `series` artefact becomes a `reduction` artefact with integrated reflections."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import task

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.reduction.config import ReductionConfig
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

KIND = "reduction"


@task(task_run_name="reduce {series}", **TASK_OPTIONS)
def reduce_series(
    series: str, store: Path, config: ReductionConfig | None = None, workers: str | None = None
) -> str:
    """Reduce the series of an artefact.

    Parameters
    ----------
    series : reference of the series artefact.
    store : root of the artefact store.
    config : the engine and its choices; None for the defaults.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its files are
    XDS_ASCII.HKL, and XDS_ASCII_2.HKL and so on for further lattices; logs/ of other programs.
    """
    tell(series, "reduce")
    return carry_out(workers, reduction_artefact, series, store, config, flow_run_id())


def reduction_artefact(
    series_ref: str, store: Path, config: ReductionConfig | None, flow_run: str | None = None
) -> str:
    """What `reduce_series` does, without Prefect."""
    chosen = config or ReductionConfig()
    kept = ArtefactStore(store)
    source = kept.get(series_ref)
    recipe = Recipe(
        kind=KIND,
        name=source.manifest.name,
        schema_version=_schema_version(),
        inputs=(Input.from_artefact("series", source),),
        configuration={**chosen.model_dump(mode="json"), "engine": _engine(chosen)},
        seeds={"random half sets": chosen.seed},
    )
    if found := kept.find(recipe):
        return found.ref
    # numba and scipy take seconds to import, and a finished stage needs neither
    from ..lib.reduction.engines.choose import run_engine
    from ..lib.reduction.storage import write_reduction
    from ..lib.reduction.xds_ascii import write_xds_ascii
    from ..lib.report.summary import headline
    from ..lib.series.storage import read_series

    series = read_series(source.arrays)
    with kept.draft(recipe, flow_run_id=flow_run) as draft, TemporaryDirectory() as scratch:
        run = run_engine(
            series, chosen, chosen.engine, Path(scratch), progress=partial(tell, series.name),
            limit_s=chosen.limit_s, xds_path=chosen.xds_path,
        )  # fmt: skip
        reduction = run.reduction
        for log in run.logs:
            (draft.files / "logs").mkdir(exist_ok=True)
            shutil.copyfile(log, draft.files / "logs" / log.name)
        write_reduction(draft.arrays, reduction)
        for number, lattice in enumerate(reduction.lattices, 1):
            write_xds_ascii(
                draft.files / ("XDS_ASCII.HKL" if number == 1 else f"XDS_ASCII_{number}.HKL"),
                lattice,
                reduction.frames,
                name=series.name,
                shape=series.shape,
                overload=series.saturation,
            )
        draft.notes += reduction.notes
        draft.figures_of_merit = {
            "engine": run.version,
            "verdict": reduction.verdict,
            "headline": _finite(vars(headline(reduction))),
            "statistics": _finite(reduction.statistics),
            "seconds": _finite(reduction.seconds),
        }
        return draft.publish().ref


def _engine(config: ReductionConfig) -> str:
    """Name of the engine that will be used."""
    if config.engine == "builtin":
        return config.engine
    from ..lib.reduction.engines.choose import choose_engine

    return choose_engine(config.engine, xds_path=config.xds_path)[0].name


def _schema_version() -> int:
    from ..lib.reduction.storage import SCHEMA_VERSION

    return SCHEMA_VERSION


def _finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    # NaN stands for "there is none" inside; in a manifest that is null
    return {name: None if value != value else value for name, value in figures.items()}
