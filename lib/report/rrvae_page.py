"""The page of a trained autoencoder: verdict first, maps, and what needs no network beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..artefacts.manifest import Manifest
from ..rrvae import trust as judged
from ..rrvae.residual import FOUND_SIGMA, Defect
from ..rrvae.result import Agreement, Maps, Prepared, RrvaeResult
from ..rrvae.trust import COM_BETTER, TRUSTED
from . import html
from . import rrvae_figures as figures
from .html import Safe
from .notation import rounded
from .overfocus_page import _files as files_section
from .provenance import provenance_section

Floats = NDArray[np.float64]

_LEAD = {
    TRUSTED: "Trusted: the network's content is independent of rotation, noise and seed.",
    COM_BETTER: "The centre of mass is better here: use it, and its maps below.",
}

_NEXT = {
    TRUSTED: "Look at what is left unexplained for defects; `ewaldflow rrvae apply` maps other "
    "scans with these weights.",
    COM_BETTER: "Use the centre of mass and its maps; more counts or a longer training may help.",
}
_FAILED = "Do not use the maps. Train with other choices: `ewaldflow rrvae sweep`."


def rrvae_page(
    result: RrvaeResult,
    maps: Maps,
    files: Mapping[str, str],
    provenance: Sequence[Manifest],
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    result, maps : of `learn`.
    files : beside the page: what each is, by name.
    provenance : manifests of the artefacts it came from, raw side first.
    notes : more of them.
    """
    best, unit = result.best, result.prepared.com_unit
    mine = result.agreements[best]
    content = maps.content[best][..., result.leading[best]]
    sections = {
        "maps": ("Maps", _maps(result, maps, content)),
        "verdict": ("Whether to believe it", _trust(result)),
        "agreement": ("Against the centre of mass", _agreement(result, maps, content)),
        "latents": ("Latents", _latents(result, maps)),
        "com": ("Centre of mass", com_section(maps, result.prepared)),
        "residual": ("What is left unexplained", _residual(result, maps)),
        "training": ("Training", _training(result)),
    }
    if result.dose_curve:
        sections["dose"] = ("With fewer electrons", _dose(result))
    sections["patterns"] = ("What was learned from", prepared_section(result.prepared))
    if files:
        sections["files"] = ("Files to go on with", files_section(files))
    said = [*result.trust.reasons, *result.notes, *notes]
    sections["notes"] = ("Notes", html.bullets(dict.fromkeys(said) or ["None."]))
    sections["provenance"] = ("Provenance", provenance_section(provenance))
    return html.page(
        title=result.name,
        over="Rotation, and everything else, in diffraction patterns (rrVAE)",
        lead=headline(result),
        body=[
            html.paragraph(reasons(result), warn=result.trust.verdict != TRUSTED),
            *warning(result.prepared),
            html.facts(_facts(result, mine, unit)),
            html.advice([_NEXT.get(result.trust.verdict, _FAILED)]),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=footer(provenance),
    )


def headline(result: RrvaeResult) -> str:
    """The verdict in a sentence."""
    return _LEAD.get(
        result.trust.verdict, "Failed: the network's maps tell nothing. They are shown to see why."
    )


def warning(prepared: Prepared) -> list[Safe]:
    """What makes any rotation map of these patterns doubtful, if anything does."""
    told = prepared.warning
    return [html.paragraph(f"{told[0].upper()}{told[1:]}.", warn=True)] if told else []


def reasons(result: RrvaeResult) -> str:
    """Why the verdict is what it is."""
    said = "; ".join(one.rstrip(".") for one in result.trust.reasons)
    return f"{said[:1].upper()}{said[1:]}." if said else "No reason is given."


def footer(provenance: Sequence[Manifest]) -> str:
    """The last line of a page."""
    by = f" {provenance[-1].code.version}" if provenance else ""
    return f"Made by Ewaldflow{by}. This page needs no network."


def _facts(result: RrvaeResult, mine: Agreement, unit: str) -> dict[str, object]:
    trust, seeds = result.trust, len(result.trust.gain)
    best = result.best
    told = f"{trust.content_r[best]:.3f} <small>COM {trust.com_r:.3f}</small>"
    return {
        "Verdict": trust.verdict,
        "Seeds accepted": Safe(
            f"{int(trust.content_accepted.sum())} of {seeds} <small>content</small>, "
            f"{int(trust.angle_accepted.sum())} <small>angle</small>"
        ),
        "Content, estimated r": Safe(told if np.isfinite(trust.content_r[best]) else "–"),
        "With the COM": Safe(
            f"{rounded(abs(mine.pearson), 4)} <small>|r|</small>, "
            f"{rounded(mine.circular_R, 4)} <small>R</small>"
        ),
        "Defects": len(result.defects),
        "Patterns": Safe(
            f"{result.prepared.patterns} <small>of {_dose_text(result.prepared.dose)} e</small>"
        ),
    }


def _dose_text(dose: float) -> str:
    return f"{dose:,.0f}".replace(",", "\u202f") if dose >= 10 else f"{dose:.3g}"


def _maps(result: RrvaeResult, maps: Maps, content: Floats) -> Safe:
    drawn = figures.beside_baselines(
        maps, content, result.best, result.agreements[result.best], result.baselines,
        result.prepared.com_unit,
    )  # fmt: skip
    turned = "" if result.fold == 1 else (
        f" This specimen's angles are known modulo {360 / result.fold:g}°."
    )  # fmt: skip
    where = "the scan's" if result.prepared.com_calibrated else (
        "the detector's, as no overfocus calibration was given"
    )  # fmt: skip
    return html.figure(
        drawn,
        "magnitude and rotation maps of the network, the centre of mass and two baselines",
        f"Above: what does not turn with the pattern. Below: its rotation. The network's (seed "
        f"{result.best}) is beside three things that need no network. Angles of network and "
        "baselines are turned, and mirrored where needed, to agree with the centre of mass on the "
        f"whole, whose directions are {where}.{turned}",
        raster=True,
    )


def _trust(result: RrvaeResult) -> Safe:
    trust = result.trust
    rows = []
    for i in range(len(trust.gain)):
        content, angle = bool(trust.content_accepted[i]), bool(trust.angle_accepted[i])
        taken = "both" if content and angle else "content" if content else "angle"
        rows.append([
            i,
            rounded(float(trust.gain[i]), 2), rounded(float(trust.equivariance[i]), 3),
            rounded(float(trust.angle_agreement[i]), 3),
            rounded(float(trust.content_agreement[i]), 3),
            rounded(float(trust.seed_agreement[i]), 3), rounded(float(trust.content_r[i]), 4),
            int(result.curves.kept[i]) if i < len(result.curves.kept) else "–",
            taken if content or angle else "nothing",
        ])  # fmt: skip
    rows.append([
        "≥", _threshold("LEAST_GAIN"), "", _threshold("LEAST_ANGLE"),
        _threshold("LEAST_CONTENT"), _threshold("LEAST_AGREEMENT"), _threshold("LEAST_R"), "", "",
    ])  # fmt: skip
    classes = ["chosen" if i == result.best else "" for i in range(len(trust.gain))]
    return html.table(
        ["Seed", "held-out gain / nats", "equivariance", "angle, noisy copies",
         "content, noisy copies", "seeds agree", "estimated r", "epoch kept", "accepted"],
        rows, numeric=(1, 2, 3, 4, 5, 6, 7), row_classes=classes,
        caption="No truth is needed for these; maps are of the seed set off. Gain: evidence lower "
        "bound of patterns never trained on, over that of the mean pattern. Noisy copies: the same "
        "pattern split into two with independent noise, one of them turned by a known "
        "angle. Estimated r: of the leading content "
        f"with the noise-free magnitude of the COM; the COM's own is {trust.com_r:.4f}.",
    )  # fmt: skip


def _threshold(name: str) -> str:
    value = getattr(judged, name, None)
    return "" if value is None else f"{value:g}"


def _agreement(result: RrvaeResult, maps: Maps, content: Floats) -> Safe:
    table = agreement_table(result.agreements, result.baselines, result.explained, result.best)
    drawn = figures.correlations(
        content, maps.angle_rad[result.best], maps,
        result.agreements[result.best], result.prepared.com_unit,
    )  # fmt: skip
    figure = html.figure(
        drawn,
        "leading content against the centre of mass",
        "Left: leading content of the best seed against the magnitude of the COM, darker where "
        "there are more patterns. Right: how the angles differ, offset and sense taken out.",
        raster=True,
    )
    return Safe(table + figure)


def agreement_table(
    seeds: Sequence[Agreement],
    baselines: Sequence[Agreement],
    explained: Sequence[float] = (),
    best: int = 0,
) -> Safe:
    """Pearson, Spearman and R of seeds and baselines."""
    names = [one.what for one in seeds] + [f"without a network: {one.what}" for one in baselines]
    rows = [
        [name, rounded(abs(one.pearson), 4), rounded(abs(one.spearman), 4),
         rounded(one.circular_R, 4)]
        for name, one in zip(names, (*seeds, *baselines), strict=True)
    ]  # fmt: skip
    columns = ["", "Pearson |r|", "Spearman |ρ|", "circular R"]
    if explained:
        columns.append("of the variance")
        held = [""] * len(seeds) + [f"{one:.1%}" for one in explained]
        rows = [[*row, part] for row, part in zip(rows, held, strict=True)]
    return html.table(
        columns, rows, numeric=(1, 2, 3, 4),
        row_classes=["chosen" if i == best else "" for i in range(len(seeds))],
        caption="Magnitudes (leading content, modulus) and angles against those of the centre of "
        "mass of the raw patterns, noise and all. A high r says that a network works, not that "
        "one was needed: look at the lines without one.",
    )  # fmt: skip


def _latents(result: RrvaeResult, maps: Maps) -> Safe:
    best = result.best
    sign = figures.sign_of(result.agreements[best])
    drawn = figures.latent_maps(
        maps.content[best], result.share[best], maps.angle_sd_rad[best], sign
    )
    latent = html.figure(
        drawn,
        "maps of the content variables",
        f"Content variables of seed {best}, the strongest first, and the spread that the network "
        "itself gives the angle. The sign of a content means nothing; that of the leading one is "
        "chosen to rise with the centre of mass.",
        raster=True,
    )
    how = (
        "of the two strongest contents; every pattern is upright"
        if result.manifold.column_name != "angle"
        else "of the content and the angle"
    )
    grid = html.figure(
        figures.manifold(result.manifold, sign),
        "patterns along the latents",
        f"What the decoder makes of values {how}. Colours: more (orange) or fewer (purple) "
        "electrons than the mean pattern, in units of the noise of a pixel.",
        raster=True,
    )
    return Safe(latent + grid)


def com_section(maps: Maps, prepared: Prepared) -> Safe:
    """Maps of the centre of mass with their errors."""
    known = maps.com_magnitude_sigma[np.isfinite(maps.com_magnitude_sigma)]
    unit = prepared.com_unit
    error = (
        f"The counting error is {float(np.median(known)):.2g} {unit} (median)."
        if known.size
        else "No gain is known, so there are no counting errors."
    )
    whose = "scan" if prepared.com_calibrated else "detector (no overfocus calibration was given)"
    return html.figure(
        figures.deflection(maps, unit, prepared.scan_step_nm is not None),
        "maps of the centre of mass",
        f"Of raw counts, in {unit}. {error} Directions are along the axes of the {whose}; where "
        "they are right, an electrostatic field has no curl.",
        raster=True,
    )


def _residual(result: RrvaeResult, maps: Maps) -> Safe:
    doubt = (
        Safe("")
        if result.trust.verdict == TRUSTED
        else html.paragraph(
            "The network is not trusted: what it leaves unexplained may hide a defect.", warn=True
        )
    )
    return Safe(doubt + residual_section(maps, result.defects))


def residual_section(maps: Maps, defects: Sequence[Defect]) -> Safe:
    """The residual, its significance, and a table of defects."""
    drawn = html.figure(
        figures.residuals(maps, [(d.scan_row, d.scan_column) for d in defects], FOUND_SIGMA),
        "residual, significance and probability",
        "What the best seed's reconstruction leaves of each pattern. Significance: how far that, "
        "or the leading content less its periodic part, is from the rest of the scan. Circles: "
        f"regions above {FOUND_SIGMA:g} standard deviations.",
        raster=True,
    )
    if not defects:
        none = html.paragraph(
            f"Nothing stands out by more than {FOUND_SIGMA:g} standard deviations: no sign of a "
            "defect, a dopant or a vacancy."
        )
        return Safe(drawn + none)
    rows = [
        [
            d.scan_row,
            d.scan_column,
            rounded(d.sigma, 1),
            Safe(f"10<sup>{d.log10_p:.1f}</sup>".replace("-", "−")),
            d.points,
        ]
        for d in defects[:20]
    ]
    more = f" The first 20 of {len(defects)}." if len(defects) > 20 else ""
    table = html.table(
        ["Scan row", "scan column", "σ", "p, whole map", "scan points"],
        rows, numeric=(0, 1, 2, 3, 4),
        caption="p: probability that chance gives as much anywhere in the map, counting places "
        f"that are independent of each other (Bonferroni).{more}",
    )  # fmt: skip
    return Safe(drawn + table)


def _training(result: RrvaeResult) -> Safe:
    if not len(result.curves.epoch):
        return html.paragraph("No curves were kept.")
    return html.figure(
        figures.training(result.curves),
        "training curves of each seed",
        "Evidence lower bound of patterns never trained on (lines; dots: the weights that were "
        "kept) and of those trained on (dotted), with noise drawn anew. Middle and right: patterns "
        "turned by right angles must turn the angle by as much and leave the content"
        + (
            ", which the circular harmonics do by construction."
            if result.model == "harmonic"
            else "."
        ),
    )


def _dose(result: RrvaeResult) -> Safe:
    rows = [
        [_dose_text(p.electrons), rounded(p.content_r, 4), rounded(p.com_r, 4),
         rounded(p.angle_R, 4), rounded(p.com_R, 4), p.verdict]
        for p in result.dose_curve
    ]  # fmt: skip
    table = html.table(
        ["Electrons", "rrVAE |r|", "COM r", "rrVAE R", "COM R", "verdict"],
        rows, numeric=(0, 1, 2, 3, 4),
        caption="An ensemble was trained anew on each dose; magnitudes and angles are compared "
        "with the COM of the electrons that were left out, whose noise is another.",
    )  # fmt: skip
    drawn = html.figure(
        figures.dose_curve(result.dose_curve), "correlation against dose", "The same, drawn."
    )
    return Safe(table + drawn)


def prepared_section(prepared: Prepared) -> Safe:
    """The mean pattern, the noise, and one pattern."""
    size = f"{prepared.mean.shape[0]} × {prepared.mean.shape[1]}"
    mrad = "" if prepared.pixel_mrad is None else f" of {prepared.pixel_mrad:.4g} mrad"
    same = f" {prepared.repeated} of them repeat another." if prepared.repeated else ""
    return html.figure(
        figures.preparation(prepared),
        "mean pattern, noise, and one pattern",
        f"{prepared.patterns} patterns, prepared to {size} pixels{mrad}, with "
        f"{_dose_text(prepared.dose)} electrons each on average.{same} A pixel weighs "
        "1/(2 noise²): there is no other scale. Orange: the disc. Grey: masked.",
        raster=True,
    )
