"""The page of one phase: merged intensities, symmetry, structure, and where all of it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..artefacts.manifest import Manifest
from ..merging.merge_phase import MergedPhase
from ..merging.part import Branch
from ..merging.shell_statistics import MergingShell
from ..space_group.verdict import Absences
from ..structure.solution import ChargeFlipping
from . import html
from .advice import after_merge
from .cluster_figures import correlation_matrix, delta_cc_half, dendrogram
from .cluster_tree import cluster_tree
from .html import Safe
from .merge_figures import coverage_stereogram, quality_by_resolution
from .notation import cell_text, rounded
from .provenance import provenance_section

_SHELL_COLUMNS = (
    "d / Å", "observed", "unique", "possible", "complete / %", "multiplicity", "I/σ", "R_merge",
    "R_meas", "R_pim", "CC1/2", "pairs", "χ²",
)  # fmt: skip
_GROUPS_SHOWN = 8
_LEAST_PROBABLE = 0.001
# An element of symmetry more probable than this is there, or less than the rest of it, is not.
_SURE = 0.9


def phase_page(
    merged: MergedPhase,
    flipped: ChargeFlipping | None,
    why_not: str,
    links: Mapping[str, str],
    files: Mapping[str, str],
    provenance: Sequence[Manifest],
    branches: Sequence[Branch] = (),
    ref: str = "",
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    merged : the phase.
    flipped : the attempt to solve its structure; None if there was none, and `why_not`.
    links : where the report of each series lies, relative to the page, by its name.
    files : hand-over files: what each is, by its path relative to the page.
    provenance : manifests of the artefacts it came from, raw side first.
    branches : figures of merit of all branches of the tree of its series.
    ref : reference of the merge.
    """
    whole = merged.statistics.overall
    sections: dict[str, tuple[str, Safe]] = {
        "shells": ("Merged intensities", _intensities(merged)),
        "symmetry": ("Symmetry", _symmetry(merged)),
        "structure": ("Structure", _structure(flipped, why_not)),
        "crystals": ("Crystals", _crystals(merged, links)),
        "agreement": ("How crystals agree", _agreement(merged, branches, ref)),
        "coverage": ("Coverage", _coverage(merged)),
        "files": ("Files to go on with", _files(files)),
        "notes": ("Notes and choices", html.bullets(merged.notes)),
        "provenance": ("Provenance", provenance_section(provenance)),
    }
    facts: dict[str, object] = {
        "Crystals": len(merged.scaled.data),
        "Space group": merged.merged.space_group,
        "Completeness": Safe(
            f"{100 * whole.completeness:.1f} % "
            f"<small>{whole.d_max_A:.1f} to {whole.d_min_A:.2f} Å</small>"
        ),
        "Multiplicity": f"{whole.multiplicity:.1f}",
        "R_meas": rounded(whole.r_meas, 3),
        "CC1/2": rounded(whole.cc_half, 4),
    }
    verdict = why_not if flipped is None else f"Structure {flipped.verdict}."
    return html.page(
        title=merged.name,
        over="A phase, merged",
        lead=f"{merged.merged.space_group}, {cell_text(merged.merged.cell)}. {verdict}",
        body=[
            html.facts(facts),
            html.advice(after_merge(merged, flipped)),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {provenance[-1].code.version}. This page needs no network.",
    )


def _shell_row(shell: MergingShell) -> list[object]:
    star = "" if shell.significant else " (not significant)"
    return [
        f"{shell.d_max_A:.2f} – {shell.d_min_A:.2f}",
        shell.n_observed,
        shell.n_unique,
        shell.n_possible,
        rounded(100 * shell.completeness, 1),
        rounded(shell.multiplicity, 1),
        rounded(shell.i_over_sigma, 1),
        rounded(shell.r_merge, 3),
        rounded(shell.r_meas, 3),
        rounded(shell.r_pim, 3),
        rounded(shell.cc_half, 4) + star,
        shell.cc_half_n,
        rounded(shell.chi_square, 2),
    ]


def _intensities(merged: MergedPhase) -> Safe:
    s = merged.statistics
    rows = [*(_shell_row(one) for one in s.shells), _shell_row(s.overall)]
    table = html.table(
        _SHELL_COLUMNS,
        rows,
        numeric=range(1, 13),
        row_classes=[""] * len(s.shells) + ["chosen"],
        caption=f"R factors refer to the mean with weights '{s.weights}'. CC1/2: {s.halves}.",
    )
    wilson = f"Wilson B {s.wilson.b_A2:.2f} ± {s.wilson.error_A2:.2f} Å²; " if (
        s.wilson.b_A2 == s.wilson.b_A2
    ) else ""  # fmt: skip
    words = f"{wilson}{merged.saturated.reason}"
    return Safe(
        html.figure(
            quality_by_resolution(s),
            "completeness, multiplicity, CC1/2, R factors and I/sigma by resolution",
            f"Quality by resolution, {s.overall.d_max_A:.1f} to {s.overall.d_min_A:.2f} Å in "
            "shells of equal volume of reciprocal space.",
        )
        + table
        + html.paragraph(words)
    )


def _symmetry(merged: MergedPhase) -> Safe:
    v = merged.symmetry
    rotations = html.table(
        ["Rotation", "pairs", "CC", "chance ±", "probability", ""],
        [
            [r.name, r.n_pairs, rounded(r.cc, 3), rounded(r.cc_sd, 3), rounded(r.probability, 3),
             "in the Laue class" if r.seen else ""]
            for r in v.laue.rotations if r.n_pairs
        ],
        numeric=(1, 2, 3, 4),
        caption="Rotations of the lattice, and how the intensities they relate correlate.",
    )  # fmt: skip
    absences = html.table(
        ["Element", "leaves", "measured", "⟨I/σ⟩", "I/⟨I⟩", "beside it", "probability", "says"],
        [
            [a.name, a.condition, a.n, rounded(a.i_over_sigma, 1), rounded(a.ratio, 3),
             rounded(a.ratio_neighbours, 2), rounded(a.probability, 3), _says(a)]
            for a in v.absences
        ],
        numeric=(2, 3, 4, 5, 6),
        row_classes=["chosen" if a.n and a.probability > _SURE else "" for a in v.absences],
        name="absences",
        caption="Reflections that screw axes and glide planes extinguish, beside those of the same "
        "row or plane that they leave. Multiple scattering fills absences.",
    )  # fmt: skip
    shown = [g for g in v.ranked if g.probability > _LEAST_PROBABLE][:_GROUPS_SHOWN]
    ranked = html.table(
        ["Space group", "No.", "probability", "of its absences", "tied with"],
        [
            [g.symbol, g.number, rounded(g.probability, 3), rounded(g.absence_probability, 3),
             ", ".join(g.tied_with)]
            for g in shown
        ],
        numeric=(1, 2, 3),
        row_classes=["chosen" if g.symbol == merged.merged.space_group else "" for g in shown],
        caption=f"Those of {len(v.ranked)} space groups with a probability above "
        f"{_LEAST_PROBABLE:g}; the one that was merged in is marked.",
    )  # fmt: skip
    why = "".join(html.details(f"Why {g.symbol}", html.bullets(g.reasons)) for g in shown)
    return Safe(html.paragraph(v.reason) + ranked + why + rotations + absences)


def _says(absence: Absences) -> str:
    if not absence.n:
        return "not measured"
    if absence.probability > _SURE:
        return "extinguished"
    return "not extinguished" if absence.probability < 1 - _SURE else "open"


def _structure(flipped: ChargeFlipping | None, why_not: str) -> Safe:
    if flipped is None:
        return html.paragraph(why_not)
    parts = [
        html.paragraph(
            f"Charge flipping: {flipped.sentence}. {flipped.n_attempts} attempts in "
            f"{flipped.seconds:.0f} s, {flipped.n_converged} came to a structure.",
            warn=flipped.verdict != "solved",
        )
    ]
    best = flipped.best
    if best is not None and best.atoms:
        parts.append(
            html.table(
                ["Atom", "element", "x", "y", "z", "multiplicity", "peak"],
                [
                    [a.label, a.element, *(f"{x:.4f}" for x in a.position), a.multiplicity,
                     rounded(a.height, 2)]
                    for a in best.atoms
                ],
                numeric=(2, 3, 4, 5, 6),
                caption=f"Atoms as peaks and composition give them, in {best.space_group}, not "
                f"refined: R1 {best.r1:.3f}. Heights over the highest.",
            )
        )  # fmt: skip
    return Safe("".join(parts))


def _crystals(merged: MergedPhase, links: Mapping[str, str]) -> Safe:
    rows = []
    for one, scale in zip(merged.scaled.data, merged.scaled.sets, strict=True):
        link = links.get(one.name)
        name = Safe(f'<a href="{html.escape(link)}">{html.escape(one.name)}</a>') if link else (
            one.name
        )  # fmt: skip
        rows.append(
            [name, rounded(one.range_deg, 1), len(one), cell_text(one.cell),
             f"{scale.scale:.3g}", rounded(scale.b_A2, 2), scale.n_common, scale.n_outliers]
        )  # fmt: skip
    table = html.table(
        ["Series", "rotation / °", "reflections", "cell", "scale", "B / Å²", "shared", "outliers"],
        rows,
        numeric=(1, 2, 4, 5, 6, 7),
        caption="Merged. B is relative to the mean of all; shared: unique reflections also "
        "measured by others.",
    )
    spread = merged.statistics.cells
    words = (
        f"Cells of {spread.n} crystals scatter by "
        + ", ".join(f"{v:.3f}" for v in spread.deviation[:3])
        + " Å and "
        + ", ".join(f"{v:.2f}" for v in spread.deviation[3:])
        + "°."
    )
    left = html.table(["Left out", "why"], list(merged.left.items())) if merged.left else Safe("")
    return Safe(table + html.paragraph(words) + left)


def _agreement(merged: MergedPhase, branches: Sequence[Branch], ref: str) -> Safe:
    if len(merged.pairwise) < 2:
        return html.paragraph("One crystal: there is nothing to compare it with.")
    return Safe(
        html.figure(
            correlation_matrix(merged.pairwise, merged.clusters),
            "correlation of every series with every other",
            "Correlation of the intensities of all pairs; hatched where too few are shared.",
            raster=True,
        )
        + (
            cluster_tree(merged.clusters, branches, ref)
            if branches
            else html.figure(
                dendrogram(merged.clusters),
                "tree of series by the correlation of their intensities",
                f"Distance √(1 − CC²), {merged.clusters.method} linkage. {merged.clusters.why}",
            )
        )
        + html.figure(
            delta_cc_half(merged.rejection.cycles[0]),
            "what each series does to CC1/2",
            f"CC1/2 with each series less that without it. {merged.rejection.why}.",
        )
    )


def _coverage(merged: MergedPhase) -> Safe:
    c = merged.statistics.coverage
    words = (
        f"{100 * c.covered:.1f} % of the directions of reciprocal space at {c.d_A:.2f} Å were "
        f"recorded, symmetry counted ({100 * c.covered_without_symmetry:.0f} % without it); the "
        f"largest cone without any has a half angle of {c.missing_cone_deg:.0f}°."
    )
    return Safe(
        html.figure(
            coverage_stereogram(c),
            "stereogram of recorded directions",
            "Left: how many series recorded each direction of reciprocal space, or its opposite; "
            "crosses: none. Right: the paths of the beam in the crystals. "
            "Crystals that lie otherwise fill the crosses.",
        )
        + html.paragraph(words)
        + (html.table(["Beam unknown of", "why"], list(c.unknown.items())) if c.unknown else "")
    )


def _files(files: Mapping[str, str]) -> Safe:
    rows = [
        [Safe(f'<a href="{html.escape(path)}">{html.escape(path.rpartition("/")[2])}</a>'), what]
        for path, what in files.items()
    ]
    return html.table(["File", "what it is"], rows)
