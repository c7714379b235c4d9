"""Two results of one kind side by side: what came out, and which choices differed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..artefacts.manifest import Manifest
from ..crystal.cell import Cell
from . import html
from .artefact_page import flat
from .frame_figures import tidy
from .html import BLUE, VERMILION, Safe
from .notation import with_esd
from .outcome import PhaseOutcome, SeriesOutcome
from .provenance import provenance_section

_LABELS = ("a / Å", "b / Å", "c / Å", "α / °", "β / °", "γ / °")
_CLEAR = 3.0  # standard deviations from which on two cells differ


@dataclass(frozen=True)
class Curve:
    """A figure of merit by resolution: (n,) each."""

    d_A: NDArray[np.float64]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes
    ----------
    manifest : of the result.
    provenance : of it and all it came from, raw side first.
    cells : with e.s.d., by what they are of ("" for the result's only one).
    curves : by name of the figure of merit.
    series, phases : what a session made of each.
    """

    manifest: Manifest
    provenance: Sequence[Manifest]
    cells: Mapping[str, tuple[Cell, Sequence[float]]] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    series: Sequence[SeriesOutcome] = ()
    phases: Sequence[PhaseOutcome] = ()


def comparison_page(a: Side, b: Side) -> str:
    """The page as HTML text."""
    choices = differences(a, b)
    sections: dict[str, tuple[str, Safe]] = {
        "choices": ("What was chosen otherwise", _choices(choices)),
        "figures": ("Figures of merit", _figures(a, b)),
    }
    if set(a.cells) & set(b.cells):
        sections["cells"] = ("Cells", _cells(a, b))
    if set(a.curves) & set(b.curves):
        sections["shells"] = ("By resolution", _curves(a, b))
    if a.series or b.series:
        sections["series"] = ("Series", _outcomes(a.series, b.series, "series"))
    if a.phases or b.phases:
        sections["phases"] = ("Phases", _outcomes(a.phases, b.phases, "phase"))
    union = {one.ref: one for one in [*a.provenance, *b.provenance]}
    sections["provenance"] = ("Provenance", provenance_section(list(union.values())))
    n = len(choices)
    lead = (
        f"{n} choice{'s' * (n != 1)} differ{'s' * (n == 1)} on the way to them."
        if choices
        else "Both were made by the same code with the same settings."
    )
    return html.page(
        title=f"{a.manifest.ref} and {b.manifest.ref}",
        over="Comparison",
        lead=lead,
        body=[
            html.facts({"A": a.manifest.ref, "B": b.manifest.ref}),
            html.advice(_next_steps(a, b, choices)),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {b.manifest.code.version}. This page needs no network.",
    )


def differences(a: Side, b: Side) -> list[tuple[str, str, object, object]]:
    """(stage, setting, in A, in B) of all that was chosen otherwise; "" for what one lacks.

    Stages are compared by kind. Where several artefacts of a kind went into a result, all their
    values of a setting count as one.
    """
    one, other = _settings(a), _settings(b)
    return [
        (*key, one.get(key, ""), other.get(key, ""))
        for key in sorted({*one, *other})
        if one.get(key, "") != other.get(key, "")
    ]


def _settings(side: Side) -> dict[tuple[str, str], str]:
    """Every setting of every stage on the way, by stage and name, as text."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for made in side.provenance:
        values = flat({**made.configuration, "seeds": made.seeds})
        values["code"] = f"{made.code.version}, sources {made.code.digest[:12]}"
        values |= {f"package {name}": version for name, version in made.packages.items()}
        if files := [item.digest for item in made.inputs if item.path]:
            values["raw files"] = f"{len(files)}, SHA-256 {_digest(files)}"
        for name, value in values.items():
            if not name.endswith("_key") and value not in ("", None, {}):
                found.setdefault((made.kind, name), {})[str(value)] = None
    return {key: "; ".join(values) for key, values in found.items()}


def _digest(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:12]


def _choices(choices: Sequence[tuple[str, str, object, object]]) -> Safe:
    if not choices:
        return html.paragraph("Nothing: settings, code, packages and raw files are the same.")
    rows = [[stage, Safe(f"<code>{html.escape(name)}</code>"), one, other]
            for stage, name, one, other in choices]  # fmt: skip
    return html.table(["Stage", "setting", "A", "B"], rows)


def _figures(a: Side, b: Side) -> Safe:
    one, other = flat(a.manifest.figures_of_merit), flat(b.manifest.figures_of_merit)
    rows = []
    for name in dict.fromkeys([*one, *other]):
        x, y = one.get(name), other.get(name)
        rows.append(
            [
                name.replace("_", " ").replace(".", ": "),
                html.Exact(_short(x), x),
                html.Exact(_short(y), y),
                *_difference(x, y),
            ]
        )
    return html.table(["Figure", "A", "B", "B − A", "in %"], rows, numeric=(1, 2, 3, 4))


def _difference(x: object, y: object) -> tuple[object, object]:
    if not _number(x) or not _number(y):
        return ("" if x == y else "differs", "")
    assert isinstance(x, int | float)
    assert isinstance(y, int | float)
    share = f"{100 * (y - x) / abs(x):+.2f}" if x else ""
    return html.Exact(f"{y - x:+.4g}", y - x), share


def _number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _short(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _cells(a: Side, b: Side) -> Safe:
    parts = []
    for name in [one for one in a.cells if one in b.cells]:
        (cell, esd), (other, other_esd) = a.cells[name], b.cells[name]
        apart = sigmas(cell, esd, other, other_esd)
        parts.append(
            html.table(
                ["", *_LABELS],
                [
                    ["A", *_exact(cell, esd)],
                    ["B", *_exact(other, other_esd)],
                    ["B − A", *(html.Exact(f"{y - x:+.4f}", y - x)
                                for x, y in zip(cell, other, strict=True))],
                    ["in standard deviations", *(f"{s:.1f}" if math.isfinite(s) else "–"
                                                 for s in apart)],
                ],
                numeric=range(1, 7),
                caption=f"{name}. " * bool(name) + "Standard deviations in parentheses; those of "
                "A and B are taken as independent, which overstates them for one set of frames.",
            )
        )  # fmt: skip
    return Safe("".join(parts))


def sigmas(a: Cell, a_esd: Sequence[float], b: Cell, b_esd: Sequence[float]) -> list[float]:
    """Differences of two cells in standard deviations of the difference; NaN where unknown."""
    spread = np.hypot(np.asarray(a_esd, float), np.asarray(b_esd, float))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(np.subtract(b, a)) / spread
    return [float(v) if s > 1e-9 else math.nan for v, s in zip(apart, spread, strict=True)]


def _exact(cell: Cell, esd: Sequence[float]) -> list[html.Exact]:
    return [html.Exact(with_esd(v, e), v) for v, e in zip(cell, esd, strict=True)]


def _curves(a: Side, b: Side) -> Safe:
    names = [one for one in a.curves if one in b.curves]
    drawing = Figure(figsize=(10, 0.4 + 2.9 * -(-len(names) // 2)), layout="constrained")
    panels = drawing.subplots(-(-len(names) // 2), 2, squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        most = 0.0
        for side, style, colour, label in ((a, "-o", BLUE, "A"), (b, "--s", VERMILION, "B")):
            curve = side.curves[name]
            x = curve.d_A**-2.0
            most = max(most, float(x.max(initial=0.0)))
            panel.plot(x, curve.value, style, ms=3.5, lw=1.2, color=colour, label=label)
        ticks = [t for t in panel.get_xticks() if 0 < t <= most * 1.05]
        panel.set_xticks(ticks, [f"{t**-0.5:.2f}" for t in ticks])
        panel.set(xlabel="d / Å", ylabel=name)
        panel.legend(frameon=False, fontsize=9)
        tidy(panel)
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    rows = []
    for name in names:
        for label, side in (("A", a), ("B", b)):
            curve = side.curves[name]
            rows += [
                [name, label, html.Exact(f"{d:.3f}", d), html.Exact(f"{v:.4g}", v)]
                for d, v in zip(curve.d_A.tolist(), curve.value.tolist(), strict=True)
            ]
    numbers = html.table(["figure", "of", "d / Å", "value"], rows, numeric=(2, 3))
    return Safe(
        html.figure(
            drawing,
            "figures of merit by resolution, A and B laid over each other: " + ", ".join(names),
            "Shells of equal volume of reciprocal space; each side has its own shells.",
        )
        + html.details("The numbers", numbers)
    )


def _outcomes(
    a: Sequence[SeriesOutcome] | Sequence[PhaseOutcome],
    b: Sequence[SeriesOutcome] | Sequence[PhaseOutcome],
    what: str,
) -> Safe:
    """A row for each name, A over B; what differs is marked."""
    one = {row[what]: row for row in (o.row() for o in a)}
    other = {row[what]: row for row in (o.row() for o in b)}
    columns = [c for c in next(iter([*one.values(), *other.values()])) if c != what]
    rows, classes = [], []
    for name in dict.fromkeys([*one, *other]):
        x, y = one.get(name), other.get(name)
        for label, row, like in (("A", x, y), ("B", y, x)):
            cells = [row[c] for c in columns] if row else ["not in it", *[""] * (len(columns) - 1)]
            rows.append([name, label, *cells])
            classes.append("" if row == like else "chosen")
    alike = len(rows) // 2 - sum(map(bool, classes)) // 2
    return html.table(
        [what, "of", *columns],
        rows,
        row_classes=classes,
        caption=f"{alike} of {len(rows) // 2} are the same in both; the others are marked.",
    )


def _next_steps(
    a: Side, b: Side, choices: Sequence[tuple[str, str, object, object]]
) -> Iterator[str]:
    for name in [one for one in a.cells if one in b.cells]:
        apart = sigmas(*a.cells[name], *b.cells[name])
        if any(s > _CLEAR for s in apart):
            yield (
                f"The cells{f' of {name}' if name else ''} differ by up to "
                f"{np.nanmax(apart):.0f} standard deviations: more than chance allows."
            )
    stages = dict.fromkeys(stage for stage, name, _, _ in choices if not name.startswith("package"))
    if len(stages) > 1:
        yield (
            f"Choices differ in {len(stages)} stages ({', '.join(stages)}): to tell which of them "
            "matters, change one at a time."
        )
    if any(name == "raw files" for _, name, _, _ in choices):
        yield "The raw files differ, and so do the crystals: settings explain a part at most."
    if not choices:
        yield "Nothing to choose between: keep either."
