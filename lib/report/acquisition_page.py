"""The page of an acquisition session: where was looked, what was taken and why the rest was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..artefacts.manifest import Manifest
from ..phases.phases import Phases
from ..serialred.acquisition import STATUS, Acquisition, CrystalOutcome, Status
from ..serialred.tracks import Track
from . import html
from .html import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Safe
from .notation import rounded
from .outcome import PhaseOutcome, SeriesOutcome
from .provenance import provenance_section
from .session_page import cells_section, phases_table
from .session_page import next_steps as next_of_series
from .track_figures import dose_of_crystals, drift_curves, tilt_tracks

COLOURS: dict[Status, str] = {
    "taken": GREEN,
    "short": ORANGE,
    "refused": BLUE,
    "lost": PURPLE,
    "failed": VERMILION,
    "left": SKY,
}
# shapes too, for those who see no colours
MARKERS: dict[Status, str] = {
    "taken": "o",
    "short": "D",
    "refused": "x",
    "lost": "v",
    "failed": "s",
    "left": "+",
}


def acquisition_page(
    done: Acquisition,
    outcomes: Mapping[str, SeriesOutcome],
    phases: Sequence[PhaseOutcome],
    cells: Phases | None,
    links: Mapping[str, str],
    version: str,
    provenance: Sequence[Manifest] = (),
    tracks: Sequence[Track] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    done : the session.
    outcomes : what the reduction made of each series, by its name.
    phases : what was merged of them.
    cells : how the cells were sorted; None if there were none.
    links : where each report lies, relative to the page, by its reference.
    version : of the code.
    provenance : manifests of all it came from, raw side first.
    tracks : how each series went, where that is known.
    """
    counts = Counter(one.status for one in done.crystals)
    reduced = [one for one in outcomes.values() if one.headline and one.headline.n_lattices]
    large = {
        "Views": len(done.views),
        "Particles": len(done.crystals),
        "Series": len(done.taken),
        "Whole range": counts["taken"],
        "Indexed": len(reduced),
        "Phases": len(phases),
        "Instrument time": _hours(done.duration_s),
    }
    sections: dict[str, tuple[str, Safe]] = {}
    if phases:
        sections["phases"] = ("Phases", phases_table(phases, links))
    sections["map"] = ("The grid", _map(done, counts))
    sections["series"] = ("Series", _series(done, outcomes, links))
    if done.taken:
        sections["ranges"] = ("Ranges and tilt", _ranges(done, tracks))
        sections["dose"] = ("Dose", _dose(done))
    if any(len(one.moved_um) or len(one.off_um) for one in tracks):
        sections["drift"] = ("Drift and tracking", _drift(tracks))
    sections["rest"] = ("Not taken", _rest(done))
    if cells and cells.records:
        sections["cells"] = ("Cells", cells_section(cells))
    if provenance:
        sections["provenance"] = ("Provenance", provenance_section(provenance))
    return html.page(
        title=done.session,
        over=f"Acquisition on {done.instrument}",
        lead=f"{len(done.taken)} series from {len(done.crystals)} particles. {done.ended}",
        body=[
            html.facts(large),
            html.advice(next_steps(done, outcomes, phases)),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def next_steps(
    done: Acquisition, outcomes: Mapping[str, SeriesOutcome], phases: Sequence[PhaseOutcome]
) -> Iterator[str]:
    """What a scientist would do next, the most urgent first."""
    counts = Counter(one.status for one in done.crystals)
    n = max(len(done.crystals), 1)
    if not done.crystals:
        yield "No particle was found: look at the views, the focus and the thickness of the grid."
    elif not done.taken:
        yield "Nothing was taken: the reasons below say which limit of the session to change."
    if counts["failed"] > 0.1 * n:
        yield f"The instrument failed on {counts['failed']} particles: see why before going on."
    if counts["lost"] + counts["short"] > 0.3 * max(len(done.taken) + counts["lost"], 1):
        yield (
            f"{counts['lost'] + counts['short']} crystals were lost or cut short: check the "
            "eucentric height, and turn more slowly or look more often."
        )
    if counts["left"]:
        yield f"Suitable particles left: {counts['left']}. The same session can go on with them."
    yield from next_of_series(list(outcomes.values()), phases)


def _map(done: Acquisition, counts: Counter[Status]) -> Safe:
    drawn = html.figure(
        grid_map(done),
        f"map of the grid: {len(done.views)} views and {len(done.crystals)} particles, "
        + ", ".join(f"{n} {status}" for status, n in counts.items()),
        "Fields of view and the particles found, in stage coordinates. "
        + " ".join(f"{s}: {text}." for s, text in STATUS.items() if counts[s]),
    )
    every = html.table(
        ["particle", "x / µm", "y / µm", "area / µm²", "quality", "status", "series", "reason"],
        [
            (
                o.number,
                html.Exact(f"{o.x_um:.2f}", o.x_um),
                html.Exact(f"{o.y_um:.2f}", o.y_um),
                html.Exact(f"{o.area_um2:.2f}", o.area_um2),
                html.Exact("" if o.quality is None else f"{o.quality:.2f}", o.quality),
                o.status,
                o.name,
                o.reason,
            )
            for o in done.crystals
        ],
        numeric=(0, 1, 2, 3, 4),
        row_classes=["" if o.status == "taken" else "failed" for o in done.crystals],
        name="particles",
    )
    return Safe(drawn + html.details(f"Every particle ({len(done.crystals)})", every))


def _ranges(done: Acquisition, tracks: Sequence[Track]) -> Safe:
    drawn = html.figure(
        ranges(done),
        "collected range of each series",
        "Goniometer angles collected of each series, in the order taken.",
    )
    if not any(len(one.time_s) for one in tracks):
        return drawn
    return Safe(
        drawn
        + html.figure(
            tilt_tracks(tracks),
            "angle of the goniometer over time, and its distance from a straight line, a line for "
            "each series",
            "Tilt tracks: above, the angle in the middle of each frame; below, what is left of it "
            "beside a straight line, which is how unevenly the stage turned.",
        )
    )


def _dose(done: Acquisition) -> Safe:
    return html.figure(
        dose_of_crystals(done.taken),
        "dose of each crystal",
        "What each crystal had to bear, tracking and snapshots included.",
    )


def _drift(tracks: Sequence[Track]) -> Safe:
    rows = [
        [
            one.name,
            html.Exact(rounded(one.drift_um, 3), one.drift_um),
            len(one.off_um),
            int(np.isnan(one.off_um).sum()),
            int((~one.believed).sum()),
            html.Exact(rounded(_rms(one.off_um[one.believed]), 3), _rms(one.off_um[one.believed])),
        ]
        for one in tracks
    ]
    return Safe(
        html.figure(
            drift_curves(tracks),
            "how far each crystal moved while it turned, and how well that was foreseen",
            "Above: how far the beam followed the crystal from where it began. Below: how far the "
            "crystal was from where it was expected each time it was looked for.",
        )
        + html.table(
            ["series", "followed by / µm", "looked for", "not seen", "not used", "r.m.s. off / µm"],
            rows,
            numeric=(1, 2, 3, 4, 5),
        )
    )


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def grid_map(done: Acquisition) -> Figure:
    """Views as outlines and particles as marks, in stage coordinates."""
    drawing = Figure(figsize=(9.5, 7.5), layout="constrained")
    axes = drawing.subplots()
    axes.add_collection(
        PolyCollection(
            [np.array(view.corners_um) for view in done.views],
            facecolor="#f4f6f8",
            edgecolor="#b8c4cf",
            linewidth=0.6,
        )
    )
    for status, colour in COLOURS.items():
        here = [one for one in done.crystals if one.status == status]
        if here:
            axes.scatter(
                [one.x_um for one in here],
                [one.y_um for one in here],
                s=[14 + 18 * min(one.area_um2, 4.0) for one in here],
                marker=MARKERS[status],
                facecolor="none" if MARKERS[status] not in "x+" else colour,
                edgecolor=None if MARKERS[status] in "x+" else colour,
                label=f"{status} ({len(here)})",
                linewidth=1.2,
            )
    for one in done.taken:
        axes.annotate(
            str(one.number),
            (one.x_um, one.y_um),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
        )
    axes.autoscale_view()
    axes.set(xlabel="stage x / µm", ylabel="stage y / µm", aspect="equal")
    if done.crystals:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return drawing


def ranges(done: Acquisition) -> Figure:
    """A bar per series from its first to its last angle."""
    series = done.taken
    drawing = Figure(figsize=(9.5, 1.2 + 0.24 * max(len(series), 1)), layout="constrained")
    axes = drawing.subplots()
    for k, one in enumerate(series):
        low, high = sorted((one.alpha_start_deg or 0.0, one.alpha_end_deg or 0.0))
        axes.barh(k, high - low, left=low, color=COLOURS[one.status], height=0.65)
    axes.set_yticks(range(len(series)), [one.name for one in series], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="alpha / °")
    return drawing


def _series(
    done: Acquisition,
    outcomes: Mapping[str, SeriesOutcome],
    links: Mapping[str, str],
) -> Safe:
    if not done.taken:
        return html.paragraph("No series was taken.", warn=True)
    rows = []
    for one in done.taken:
        outcome = outcomes.get(one.name)
        head = outcome.headline if outcome else None
        link = links.get(outcome.report, "") if outcome else ""
        name = html.escape(one.name)
        rows.append(
            [
                Safe(f'<a href="{html.escape(link)}">{name}</a>') if link else name,
                outcome.phase if outcome else "",
                f"{one.range_deg:.1f}",
                one.n_frames,
                "" if one.quality is None else f"{one.quality:.2f}",
                "" if one.height_um is None else f"{one.height_um:+.2f}",
                f"{one.beam_s:.0f}" if one.dose_e_per_A2 is None else f"{one.dose_e_per_A2:.2f}",
                head.lattice if head else "",
                head.cell if head else "",
                f"{head.indexed_percent:.0f}" if head and head.n_lattices else "",
                ((outcome.reason or outcome.left) if outcome else "") or one.reason,
            ]
        )
    dose = "dose / e Å⁻²" if done.taken[0].dose_e_per_A2 is not None else "beam / s"
    return html.table(
        [
            *("series", "phase", "range / °", "frames", "quality", "height / µm", dose),
            *("lattice", "cell", "indexed / %", "remark"),
        ],
        rows,
        numeric=(2, 3, 4, 5, 6, 9),
        row_classes=["" if one.status == "taken" else "failed" for one in done.taken],
        caption="Quality is the lattice-likeness of the snapshot, 0 to 1; height the change of z.",
    )


def _rest(done: Acquisition) -> Safe:
    rest = [one for one in done.crystals if not one.folder]
    if not rest:
        return html.paragraph("Every particle was taken.")
    reasons = Counter((one.status, _kind(one)) for one in rest)
    summary = html.table(
        ["status", "reason", "particles"],
        [(status, kind, n) for (status, kind), n in reasons.most_common()],
        numeric=(2,),
    )
    each = html.table(
        ["particle", "x / µm", "y / µm", "area / µm²", "status", "reason"],
        [
            (o.number, f"{o.x_um:.2f}", f"{o.y_um:.2f}", f"{o.area_um2:.2f}", o.status, o.reason)
            for o in rest
        ],
        numeric=(0, 1, 2, 3),
    )
    return Safe(summary + html.details("each of them", each))


def _kind(one: CrystalOutcome) -> str:
    """A reason without its numbers, to count by: what stands before the colon."""
    return one.reason.partition(":")[0]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
