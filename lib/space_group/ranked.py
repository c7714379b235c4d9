"""From data sets to a ranked list of space groups.

Groups with the same absences cannot be told apart by absences. Among them the order follows how
common each is (counts of the Cambridge Structural Database) and <|E^2 - 1|>. That can only speak
for an inversion centre, and raises its odds by a factor of five at most: multiple scattering
makes centric intensities look acentric (0.68 for a real zeolite LTA, 0.74 for a garnet, both
centric; 0.85 for cinchonine and 0.79 for lysozyme, which are not).
"""

from __future__ import annotations

from collections.abc import Sequence

import gemmi
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, Integers
from ..errors import UserError
from ..merging.data_set import DataSet
from .absences import AbsenceEvidence, absence_evidence, general_e_squared
from .centring import centring_evidence
from .groups import Extinction
from .intensities import expected_e2_minus_1
from .laue import laue_evidence
from .observations import MergedUnder, merged_under, pooled
from .verdict import SURE, Absences, CentringEvidence, RankedGroup, SpaceGroupVerdict

# About per cent of the structures in the Cambridge Structural Database; a rough order, of which
# only 34 for P 21/c is from a table (AFLOW Encyclopedia). Pnma is raised, being the commonest of
# inorganic structures (7.6 %, same place). Only used between groups of the same absences.
_FREQUENCY = {
    14: 34.0, 2: 25.0, 15: 8.3, 19: 7.0, 4: 5.1, 61: 3.2, 62: 2.3, 33: 1.2, 9: 1.0, 1: 1.0,
    60: 0.8, 5: 0.8, 29: 0.7, 148: 0.6, 13: 0.6, 11: 0.5, 12: 0.5, 88: 0.4, 18: 0.4, 43: 0.4,
    7: 0.4, 56: 0.3, 167: 0.2, 225: 0.2, 227: 0.1,
}  # fmt: skip
_RARE_CENTRIC, _RARE = 0.1, 0.03
# Absences twice as probable as all others together are worked with, though not yet sure.
_LIKELY = 2 / 3
# E-statistics move the odds by this factor at most, and only with so many reflections.
_E_FACTOR, _E_LEAST = 5.0, 50


def determine_space_group(
    data_sets: Sequence[DataSet] | DataSet,
    *,
    chiral: bool = False,
    max_obliquity_deg: float = 3.0,
    expected_leakage: float = 0.15,
    seed: int = 0,
) -> SpaceGroupVerdict:
    """Laue group, centring, absences and space groups of one phase.

    Parameters
    ----------
    data_sets : one or more crystals on one cell and one scale, with indexing ambiguities
        resolved; in any setting, P1 included. Observations flagged as outliers are left out.
    chiral : the sample is enantiopure: only groups of proper rotations are considered.
    max_obliquity_deg : how far two-fold axes may be from exact in the measured cell.
    expected_leakage : mean of the prior of the fraction of the mean intensity that multiple
        scattering puts into extinguished reflections.
    seed : of random pairing.

    Raises
    ------
    UserError : if there are no observations, or data sets in different settings.
    """
    data = pooled([data_sets] if isinstance(data_sets, DataSet) else list(data_sets))
    if len(data) == 0:
        raise UserError("space group", "no observations", "some", "reduce the series first")
    once = merged_under(data.hkl, data.intensity, data.sigma, data.cell, np.eye(3, dtype=int)[None])
    centring = centring_evidence(once.hkl, once.intensity, once.sigma, data.cell, data.bravais)
    translations = np.array([e.translation for e in centring if e.found], float).reshape(-1, 3)
    there = _fulfils(once.hkl, translations)
    laue = laue_evidence(
        once.hkl[there], once.intensity[there], once.sigma[there], data.cell, data.bravais,
        translations=translations, max_obliquity_deg=max_obliquity_deg, seed=seed,
    )  # fmt: skip
    there = _fulfils(data.hkl, translations)
    indices = np.rint(data.hkl[there] @ laue.transform).astype(np.int64)
    merged = merged_under(
        indices, data.intensity[there], data.sigma[there], laue.cell, laue.operators
    )
    evidence = absence_evidence(
        merged.hkl, merged.intensity, merged.sigma, merged.d_A, laue.operators, laue.bravais,
        scatter=merged.scatter, expected_leakage=expected_leakage, chiral=chiral,
    )  # fmt: skip
    e_statistics, n_general = _e_statistics(merged, laue.operators)
    centric = _centric_odds(e_statistics) if n_general >= _E_LEAST else 1.0
    ranked = _rank(evidence, centric)
    used, decided = _used(evidence, ranked)
    return SpaceGroupVerdict(
        space_group=used,
        decided=decided and laue.decided,
        cell=laue.cell,
        bravais=laue.bravais,
        transform=laue.transform,
        centring_absent=translations,
        operators=laue.operators,
        laue=laue,
        centring=centring,
        absences=evidence.elements,
        ranked=ranked,
        leakage=evidence.leakage,
        leakage_sd=evidence.leakage_sd,
        e2_minus_1=e_statistics,
        notes=_notes(evidence, ranked, used, centring, e_statistics, n_general, chiral),
    )


def _fulfils(hkl: NDArray[np.int64], translations: Floats) -> NDArray[np.bool_]:
    phase = hkl @ translations.T
    result: NDArray[np.bool_] = np.all(np.abs(phase - np.rint(phase)) < 1e-3, axis=1)
    return result


def _e_statistics(
    merged: MergedUnder, operators: Integers
) -> tuple[tuple[float, float, float], int]:
    x, s = general_e_squared(merged.hkl, merged.intensity, merged.sigma, merged.d_A, operators)
    if len(x) == 0:
        return (float("nan"),) * 3, 0
    return (
        float(np.mean(np.abs(x - 1))),
        expected_e2_minus_1(s, centric=True),
        expected_e2_minus_1(s, centric=False),
    ), len(x)


def _centric_odds(e_statistics: tuple[float, float, float]) -> float:
    measured, centric, acentric = e_statistics
    if not np.isfinite(measured) or centric - acentric < 0.02:
        return 1.0
    part = np.clip((measured - acentric) / (centric - acentric), 0.5, 1.0)
    return float(_E_FACTOR ** (2 * part - 1))


def _rank(evidence: AbsenceEvidence, centric_odds: float) -> tuple[RankedGroup, ...]:
    found = []
    for extinction, p in zip(evidence.extinctions, evidence.probability, strict=True):
        groups = extinction.groups
        weights = np.array([_weight(g, centric_odds) for g in groups])
        names = tuple(evidence.elements[i].name for i in extinction.elements)
        for group, share in zip(groups, weights / weights.sum(), strict=True):
            standard = gemmi.find_spacegroup_by_number(group.number)
            tied = tuple(other.xhm() for other in groups if other.xhm() != group.xhm())
            found.append(
                RankedGroup(
                    symbol=group.xhm(),
                    number=group.number,
                    elements=names,
                    probability=float(p * share),
                    absence_probability=float(p),
                    tied_with=tied,
                    centrosymmetric=group.is_centrosymmetric(),
                    sohncke=group.is_sohncke(),
                    standard_symbol=standard.xhm(),
                    to_standard=group.basisop.triplet(),
                    reasons=_reasons(extinction, evidence, tied),
                )
            )
    # the commoner first where absences that were not measured leave both as probable
    return tuple(
        sorted(found, key=lambda g: (-round(g.probability, 3), -_FREQUENCY.get(g.number, 0.0),
                                     -g.probability, len(g.elements), g.number))
    )  # fmt: skip


def _weight(group: gemmi.SpaceGroup, centric_odds: float) -> float:
    centric = group.is_centrosymmetric()
    common = _FREQUENCY.get(group.number, _RARE_CENTRIC if centric else _RARE)
    return common * (centric_odds if centric else 1.0)


def _used(evidence: AbsenceEvidence, ranked: tuple[RankedGroup, ...]) -> tuple[str, bool]:
    """The group to work in, and whether its absences are sure."""
    asked = [set(e.elements) for e in evidence.extinctions]
    best = int(np.argmax(evidence.probability))
    chosen = best
    if evidence.probability[best] < _LIKELY:
        sure = {
            i
            for i in range(len(evidence.elements))
            if sum(p for a, p in zip(asked, evidence.probability, strict=True) if i in a) >= SURE
        }
        allowed = [k for k, a in enumerate(asked) if a <= sure]
        chosen = max(allowed, key=lambda k: (len(asked[k]), evidence.probability[k]))
    symbols = {g.xhm() for g in evidence.extinctions[chosen].groups}
    first = next(g for g in ranked if g.symbol in symbols)
    return first.symbol, bool(evidence.probability[chosen] >= SURE)


# --- words -----------------------------------------------------------------------------------


def _reasons(
    extinction: Extinction, evidence: AbsenceEvidence, tied: tuple[str, ...]
) -> tuple[str, ...]:
    reasons = []
    for i, element in enumerate(evidence.elements):
        asked = i in extinction.elements
        if asked:
            reasons.append(f"asks for {_measured(element)}")
        elif element.probability >= SURE:
            reasons.append(f"leaves unexplained {_measured(element)}")
    if tied:
        reasons.append(f"same absences as {', '.join(tied)}")
    return tuple(reasons)


def _measured(element: Absences) -> str:
    if element.n == 0:
        return f"{element.name} ({element.condition}): not measured"
    beside = (
        f", {element.n_neighbours} neighbours {element.ratio_neighbours:.2f}"
        if element.n_neighbours
        else ""
    )
    spread = f", scatter of equivalents x {element.spread:.1f}" if element.spread > 0 else ""
    return (
        f"{element.name} ({element.condition}): {element.n} reflections at {element.ratio:.2f} of "
        f"the mean{beside}, I/sigma {element.i_over_sigma:.1f}{spread}, "
        f"p {element.probability:.2f}"
    )


def _notes(
    evidence: AbsenceEvidence, ranked: tuple[RankedGroup, ...], used: str,
    centring: tuple[CentringEvidence, ...], e_statistics: tuple[float, float, float],
    n_general: int, chiral: bool,
) -> tuple[str, ...]:  # fmt: skip
    notes = []
    for one in centring:
        if one.found:
            name = " ".join(str(t) for t in one.translation)
            told = (
                f"{one.n_absent} reflections at {one.ratio:.3f} of the others"
                if one.n_absent
                else f"none of {one.n_present} reflections contradicts it"
            )
            notes.append(f"{name} is a lattice translation: {told}")
    untested = [e for e in evidence.elements if e.n == 0]
    if untested:
        names = ", ".join(e.name for e in untested)
        notes.append(f"not tested, as none of their reflections was measured: {names}")
    best = ranked[0]
    if np.isfinite(evidence.leakage) and evidence.leakage > 0.05:
        notes.append(
            f"extinguished reflections have {evidence.leakage:.2f} +- {evidence.leakage_sd:.2f} "
            "of the mean intensity, laid to multiple scattering"
        )
    if best.absence_probability < SURE:
        kept = "" if best.symbol == used else f"; {used} asks for no more than what is"
        notes.append(f"{best.symbol} is most probable, but its absences are not sure{kept}")
    if best.tied_with:
        told = "the sample's being enantiopure, " if chiral else ""
        notes.append(
            f"{best.symbol} is told from {', '.join(best.tied_with)} by {told}how common each is "
            "and E-statistics only"
        )
    if n_general >= _E_LEAST:
        measured, centric, acentric = e_statistics
        notes.append(
            f"<|E^2-1|> {measured:.2f} over {n_general} general reflections, where their sigmas "
            f"lead one to expect {centric:.2f} with an inversion centre and {acentric:.2f} "
            "without; multiple scattering lowers it"
        )
    return tuple(notes)
