"""convert: files of any known format become a `series` artefact."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from prefect import task

from ..lib.artefacts import Artefact, ArtefactStore, Input, Recipe
from ..lib.instrument import Instrument, SeriesOverrides, load_instrument
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

KIND = "series"

# Folders that say how frames are kept, not whose they are; versions of artefacts among them.
_GENERIC = re.compile(r"data|frames|images|smv|tiff?|mrc|cbf|red|raw|files|v\d{4,}", re.IGNORECASE)


@task(task_run_name="convert {name}", **TASK_OPTIONS)
def convert(
    name: str,
    source: Path,
    store: Path,
    instrument: str | None = None,
    overrides: SeriesOverrides | None = None,
    workers: str | None = None,
    calibrations: Sequence[str] = (),
) -> str:
    """Read the frames in `source` and keep them as an artefact.

    Parameters
    ----------
    name : of the series, see `series_names`.
    source : folder of frames, or a stack.
    store : root of the artefact store.
    instrument : name, or path of a YAML file.
    overrides : what the user states about the series.
    workers : address of worker processes, or None.
    calibrations : references of `rings` artefacts that hold for it.

    Returns
    -------
    Reference of the artefact, an older one if the same was kept before.
    """
    tell(name, "read frames")
    return carry_out(
        workers, convert_series, name, source, store, instrument, overrides, flow_run_id(),
        calibrations,
    )  # fmt: skip


def convert_series(
    name: str,
    source: Path,
    store: Path,
    instrument: str | None,
    overrides: SeriesOverrides | None,
    flow_run: str | None = None,
    calibrations: Sequence[str] = (),
) -> str:
    """What `convert` does, without Prefect."""
    from ..lib.formats import read_series
    from ..lib.rings.storage import read_calibrations
    from ..lib.series.storage import SCHEMA_VERSION, write_series

    known = load_instrument(instrument) if instrument else None
    stated = overrides or SeriesOverrides()
    kept = ArtefactStore(store)
    rings = [kept.get(ref) for ref in calibrations]
    calibrated = [one for artefact in rings for one in read_calibrations(artefact)]
    series = read_series(source, instrument=known, overrides=stated, calibrations=calibrated)

    def recipe(label: str) -> Recipe:
        return Recipe(
            kind=KIND,
            name=label,
            schema_version=SCHEMA_VERSION,
            inputs=(
                *(Input(role="raw", digest=file.sha256, path=file.path) for file in series.sources),
                *(Input.from_artefact("rings", one) for one in rings),
            ),
            configuration=_configuration(known, stated),
        )

    label, found = place(kept, name, recipe)
    if found:
        return found.ref
    with kept.draft(recipe(label), flow_run_id=flow_run) as draft:
        write_series(draft.arrays, series.with_(name=label))
        draft.notes += series.notes
        draft.figures_of_merit = {
            "frames": len(series),
            "rotation_deg": float(series.angle_width_deg.sum()),
            "missing_frames": len(series.missing_numbers),
        }
        return draft.publish().ref


def _configuration(instrument: Instrument | None, overrides: SeriesOverrides) -> dict[str, object]:
    return {
        "instrument": instrument.model_dump(mode="json", exclude={"control"})
        if instrument
        else None,
        "overrides": overrides.model_dump(mode="json", exclude_none=True),
    }


def place(
    store: ArtefactStore, name: str, recipe: Callable[[str], Recipe]
) -> tuple[str, Artefact | None]:
    """The label to keep a series or scan under, and the artefact that is it already.

    Two of one name from different places must not pass for versions of each other: the second is
    called name-2.
    """
    for number in count(1):
        label = name if number == 1 else f"{name}-{number}"
        wanted = recipe(label)
        found = store.find(wanted)
        versions = store.versions(wanted.kind, label)
        if found or not versions:
            return label, found
        latest = store.get(f"{wanted.kind}/{label}@v{versions[-1]:04d}").manifest
        if _origin(latest) == _origin(wanted):
            return label, None
    raise AssertionError("count() does not end")


def _origin(recipe: Recipe) -> list[str]:
    path = recipe.inputs[0].path if recipe.inputs else None
    return _telling_parts(Path(path).parent) if path else []


def series_names(sources: Sequence[Path]) -> list[str]:
    """A name for each source: the end of its path, as long as is needed to tell them apart.

    Folders called "data", "SMV" and the like are passed over where something is left to tell by.
    """
    parts = [_telling_parts(source) for source in sources]
    longest = max((len(one) for one in parts), default=1)
    for length in range(1, longest + 1):
        names = [label("-".join(one[-length:])) for one in parts]
        if len(set(names)) == len(names):
            return names
    # One of them twice: that is one series, processed once more.
    return names


def _telling_parts(source: Path) -> list[str]:
    path = source.resolve()
    last = path.stem if path.is_file() else path.name
    parts = [*path.parent.parts[1:], last]
    return [part for part in parts if not _GENERIC.fullmatch(part)] or [last or "series"]


def label(text: str) -> str:
    """`text` as the name of an artefact: letters, digits and ``_ . + -``, at most 80."""
    ascii_ = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^\w.+-]+", "-", ascii_).strip("-.+")[:80] or "series"
