"""page: the page of any artefact, made again from what the store keeps.

What a page shows is in artefacts, so that one of an old result can be made by today's code. Kinds
whose pages show raw images that the store does not keep have the page that was made with them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lib.artefacts import Artefact, ArtefactStore, Input, Recipe
from ..lib.errors import UserError
from ..lib.report.outcome import OUTCOMES, read_outcomes
from .report import INDEX, PAGE, below, cells_of, phase_report_artefact, report_artefact

if TYPE_CHECKING:
    from ..lib.report.artefact_page import Part

KIND = "page"
UP = "../../../.."  # a page lies in ROOT/KIND/NAME/VERSION/files: four steps below the root

Builder = Callable[[ArtefactStore, Artefact], str]


def page_artefact(ref: str, store: Path) -> Path:
    """Make the page of an artefact; the same ids give the same bytes.

    Parameters
    ----------
    ref : of an artefact of any kind.
    store : root of the artefact store.

    Returns
    -------
    The page's file, in an artefact of its own: `report`, `phase-report` or `page`. An older one
    if the same was made before.

    Raises
    ------
    UserError : no such artefact, or it, or what it came from, is damaged.
    """
    kept = ArtefactStore(store)
    source = kept.get(ref)
    kind = source.manifest.kind
    if kind in ("report", "reduction"):
        reduction = source.ref if kind == "reduction" else _input(source, "reduction")
        return kept.folder(report_artefact(reduction, store)) / "files" / PAGE
    if kind in ("merge", "solution", "phase-report"):
        return kept.folder(_phase_report(source, store)) / "files" / INDEX
    if kind in (KIND, "comparison"):
        return source.files / INDEX
    return kept.folder(_page(kept, source)) / "files" / INDEX


def _page(kept: ArtefactStore, source: Artefact) -> str:
    recipe = Recipe(
        kind=KIND,
        name=f"{source.manifest.kind}-{source.manifest.name}"[:100],
        inputs=(Input.from_artefact("shown", source),),
        # equal results of other settings have other pages, since these tell the settings
        configuration={"of": source.ref, "key": source.manifest.key},
    )
    if found := kept.find(recipe):
        return found.ref
    with kept.draft(recipe) as draft:
        page = _BUILDERS.get(source.manifest.kind, _any)(kept, source)
        (draft.files / INDEX).write_text(page, encoding="utf-8")
        return draft.publish().ref


def _phase_report(source: Artefact, store: Path) -> str:
    """The page of merged intensities, with structure and members' pages where those are known."""
    manifest = source.manifest
    if manifest.kind == "merge":
        return phase_report_artefact(source.ref, "", "not looked for here", {}, store)
    merge = _input(source, "merge")
    if manifest.kind == "solution":
        figures: dict[str, Any] = manifest.figures_of_merit
        return phase_report_artefact(merge, source.ref, str(figures["verdict"]), {}, store)
    solution = next((i.artefact for i in manifest.inputs if i.role == "solution"), None)
    reports = {_name(i.artefact): i.artefact for i in manifest.inputs
               if i.role == "report" and i.artefact}  # fmt: skip
    verdict = str(manifest.configuration["verdict"])
    return phase_report_artefact(merge, solution or "", verdict, reports, store)


def _session(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.report.session_page import session_page

    if not (source.files / OUTCOMES).exists():
        return _as_made(kept, source)
    outcomes, phases = _outcomes(source)
    return session_page(
        source.manifest.name,
        outcomes,
        phases,
        _cells(kept, source),
        _links(kept, source),
        source.manifest.code.version,
        kept.ancestors(source.ref),
    )


def _acquisition(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.artefacts.records import read_record
    from ..lib.report.acquisition_page import acquisition_page
    from ..lib.serialred.acquisition import Acquisition
    from ..lib.serialred.tracks import Tracks

    if not (source.files / OUTCOMES).exists():
        return _as_made(kept, source)
    outcomes, phases = _outcomes(source)
    done: Any = source.manifest.configuration["done"]
    return acquisition_page(
        Acquisition.from_dict(done),
        {Path(one.source).name: one for one in outcomes},
        phases,
        _cells(kept, source),
        _links(kept, source),
        source.manifest.code.version,
        kept.ancestors(source.ref),
        read_record(source.arrays, Tracks).tracks,
    )


def _orientation(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.artefacts.records import read_record
    from ..lib.orientation.series import OrientedSeries
    from ..lib.report.orientation_page import orientation_page

    done = read_record(source.arrays, OrientedSeries)
    return orientation_page(done, _hand_over(kept, source), kept.ancestors(source.ref))


def _rotation_axis(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.artefacts.records import read_record
    from ..lib.orientation.rotation_axis import AxisCalibration
    from ..lib.report.axis_page import axis_page

    manifest = source.manifest
    calibration = read_record(source.arrays, AxisCalibration)
    # the notes end with a line for each series that tells no axis
    failed = dict(
        one.partition(": ")[::2] for one in manifest.notes if one not in calibration.notes
    )
    file = next(name for name in _names(source) if name.endswith(".yaml"))
    version, from_ = manifest.code.version, kept.ancestors(source.ref)
    return axis_page(manifest.name, calibration, failed, _at(kept, source, file), version, from_)


def _centres(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.artefacts.records import read_record
    from ..lib.report.centres_page import centres_page
    from ..lib.rings.centres import ImageCentres

    manifest = source.manifest
    (by,) = (i.artefact or i.path for i in manifest.inputs if i.role == "calibration")
    return centres_page(
        manifest.name,
        read_record(source.arrays, ImageCentres),
        _hand_over(kept, source),
        str(by),
        manifest.code.version,
        kept.ancestors(source.ref),
    )


def _overfocus(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.artefacts.records import read_record
    from ..lib.overfocus.result import OverfocusResult
    from ..lib.report.overfocus_page import overfocus_page

    return overfocus_page(
        read_record(source.arrays, OverfocusResult),
        _hand_over(kept, source),
        kept.ancestors(source.ref),
        notes=source.manifest.notes,
    )


def _rrvae(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.artefacts.records import read_columns, read_record
    from ..lib.report.rrvae_page import rrvae_page
    from ..lib.rrvae.result import Maps, RrvaeResult

    arrays: Any = source.arrays
    result = read_record(arrays["result"], RrvaeResult)
    maps = read_columns(arrays["maps"], Maps)
    return rrvae_page(result, maps, _hand_over(kept, source), kept.ancestors(source.ref))


def _series(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.report.series_part import series_part
    from ..lib.series.storage import read_series

    said = f"{source.ref}"
    steps = [f"Reduce it: `ewaldflow reduce` on its folder, or look at reductions of {said}."]
    return _any(kept, source, [series_part(read_series(source.arrays))], steps)


def _phases(kept: ArtefactStore, source: Artefact) -> str:
    from ..lib.report.artefact_page import Part
    from ..lib.report.session_page import cells_section

    cells = cells_of(kept, source.ref)
    shown = [Part("cells", "Cells", cells_section(cells))] if cells.records else []
    steps = [
        f"{len(one.members)} series are {one.name}: the page of its merge shows its intensities."
        for one in cells.phases
    ]
    if cells.outliers:
        steps.append(f"{len(cells.outliers)} series are in no phase: the table says why.")
    return _any(kept, source, shown, steps)


def _any(
    kept: ArtefactStore,
    source: Artefact,
    parts: list[Part] | None = None,
    steps: list[str] | None = None,
) -> str:
    from ..lib.report.artefact_page import artefact_page

    links = {name: _at(kept, source, name) for name in _names(source)}
    manifests = kept.ancestors(source.ref)
    return artefact_page(source.manifest, manifests, links, steps=steps or (), parts=parts or ())


def _as_made(kept: ArtefactStore, source: Artefact) -> str:
    """The page in the artefact itself."""
    for name in (INDEX, PAGE):
        if (source.files / name).exists():
            return (source.files / name).read_text(encoding="utf-8")
    return _any(kept, source)


_BUILDERS: dict[str, Builder] = {
    "series": _series,
    "phases": _phases,
    "session": _session,
    "acquisition": _acquisition,
    "orientation": _orientation,
    "rotation-axis": _rotation_axis,
    "centres": _centres,
    "overfocus": _overfocus,
    "rrvae": _rrvae,
    **dict.fromkeys(
        ("rings", "ring-drift", "goniometer", "overfocus-check", "rrvae-map", "rrvae-sweep"),
        _as_made,
    ),
}


def _outcomes(source: Artefact) -> Any:
    return read_outcomes((source.files / OUTCOMES).read_text(encoding="utf-8"))


def _cells(kept: ArtefactStore, source: Artefact) -> Any:
    found = next((i.artefact for i in source.manifest.inputs if i.role == "phases"), None)
    return cells_of(kept, found) if found else None


def _links(kept: ArtefactStore, source: Artefact) -> dict[str, str]:
    """Pages of what a session was made from, by reference."""
    pages = {"report": PAGE, "phase-report": INDEX}
    return {
        i.artefact: f"{UP}/{below(kept, kept.get(i.artefact))}/files/{pages[i.role]}"
        for i in source.manifest.inputs
        if i.artefact and i.role in pages
    }


def _names(source: Artefact) -> list[str]:
    start = "files/"
    return [name.removeprefix(start) for name in source.manifest.files if name.startswith(start)]


def _at(kept: ArtefactStore, source: Artefact, name: str) -> str:
    return f"{UP}/{below(kept, source)}/files/{name}"


def _hand_over(kept: ArtefactStore, source: Artefact) -> dict[str, str]:
    """Files to go on with: what each is, by where it lies."""
    from ..lib.report.files import what_is

    return {_at(kept, source, n): what_is(n) for n in _names(source) if n not in (PAGE, INDEX)}


def _input(source: Artefact, role: str) -> str:
    found = [i.artefact for i in source.manifest.inputs if i.role == role and i.artefact]
    if not found:
        raise UserError(source.ref, f"no {role} among what it was made from", "one", "name it")
    return found[0]


def _name(ref: str) -> str:
    return ref.partition("/")[2].partition("@")[0]
