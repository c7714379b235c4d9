"""The series of a session sorted into phases: by their cells, and by intensities where those fail.

Cells come first. A series whose cell fits one phase alone belongs to it. One that was reduced in
another setting or symmetry, fits several phases, fits none, or showed no lattice is reduced again
with the cells of the phases (`reductions_wanted`), and if it can be indexed in more than one of
them, it goes where its intensities fit. Last, what shares a cell is told apart by intensities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..crystal.cell import Floats, Integers
from ..merging.config import MergingConfig
from ..merging.data_set import DataSet, data_set_from_lattice
from ..merging.merge import merge_scaled
from ..merging.merge_phase import SettledPhase, settle_phase
from ..merging.merged_reflections import MergedReflections
from ..merging.phase_choice import choose_phase
from ..merging.scaling import scale_data_sets
from ..reduction.result import Reduction
from .cell_record import CellRecord, record_from_lattice
from .diagnosis import Diagnosis, diagnose
from .matching import best_phases, matches_phase
from .phases import Phase, Phases, find_phases

# Junk of these kinds may come to something once the cell is known.
_WORTH_ANOTHER_TRY = ("no lattice", "poorly indexed")
# Standard deviations of its CC with a phase that a series needs to join by intensities alone.
_MIN_SIGNIFICANCE = 4.0


@dataclass(frozen=True)
class ReducedSeries:
    """One reduction of a series, as sorting needs it.

    Attributes
    ----------
    name : of the series.
    source : reference of the reduction.
    diagnosis : whether it can be merged.
    data : usable reflections of the strongest lattice while the crystal was there; None without
        a lattice.
    record : its cell likewise.
    """

    name: str
    source: str
    diagnosis: Diagnosis
    data: DataSet | None = None
    record: CellRecord | None = None


def reduced_series(name: str, reduction: Reduction, source: str = "") -> ReducedSeries:
    """What sorting needs of a reduction."""
    diagnosis = diagnose(reduction)
    if not reduction.lattices:
        return ReducedSeries(name, source, diagnosis)
    lattice = reduction.lattices[0]
    data = data_set_from_lattice(
        name,
        lattice,
        range_deg=diagnosis.range_deg,
        n_frames=len(reduction.frames.frame_number),
        source=source,
    )
    inside = (data.frame >= diagnosis.first_frame - 0.5) & (
        data.frame <= diagnosis.last_frame + 0.5
    )
    return ReducedSeries(
        name, source, diagnosis, data.select(inside), record_from_lattice(name, lattice, source)
    )


@dataclass(frozen=True)
class Member:
    """A series in a structure.

    Attributes
    ----------
    name : of the series.
    source : reference of the reduction used.
    bravais, transform : what `DataSet.reindexed` takes to bring it into the structure's setting.
    why : how it came here, one sentence.
    """

    name: str
    source: str
    bravais: str
    transform: Floats
    why: str


@dataclass(frozen=True)
class Structure:
    """Series to be merged: of one cell and one structure.

    Attributes
    ----------
    name : phase-1, or phase-1a and so on where several structures share a cell.
    phase : name of the phase by cell.
    rotations : (m, 3, 3) of the Laue class that its series were compared in.
    members : its series.
    """

    name: str
    phase: str
    rotations: Integers
    members: tuple[Member, ...]


@dataclass(frozen=True)
class SortedSession:
    """A session, sorted.

    Attributes
    ----------
    phases : by cell; of the reductions that were used in the end.
    settled : for each phase, how its series were compared.
    structures : what is to be merged, largest first in each phase.
    left : by name, series in no structure, and why.
    """

    phases: Phases
    settled: tuple[SettledPhase, ...]
    structures: tuple[Structure, ...]
    left: Mapping[str, str]

    def structure_of(self, name: str) -> Structure | None:
        """The structure that a series is in."""
        for one in self.structures:
            if any(member.name == name for member in one.members):
                return one
        return None


def phases_of(series: Sequence[ReducedSeries], config: MergingConfig) -> Phases:
    """The phases that the cells of the usable series show."""
    records = [one.record for one in series if one.diagnosis.usable and one.record]
    return find_phases(records, config.metric, config.cell_linkage, config.cell_cut)


def reductions_wanted(
    series: Sequence[ReducedSeries], phases: Phases
) -> dict[str, tuple[Phase, ...]]:
    """By name, the phases whose cell and lattice type a series should be reduced with again."""
    wanted: dict[str, tuple[Phase, ...]] = {}
    for one in series:
        if not one.diagnosis.usable or one.record is None:
            if one.diagnosis.kind in _WORTH_ANOTHER_TRY:
                wanted[one.name] = phases.phases
            continue
        fits = {match.phase for match in best_phases(one.record, phases.phases)}
        mine = phases.phase_of(one.name)
        if mine is None or len(fits) > 1:
            # an outlier may be any phase, wrongly indexed
            wanted[one.name] = tuple(
                phase for phase in phases.phases if mine is None or phase.name in fits
            )
        elif one.record.bravais != mine.bravais:  # another order of the axes needs no reduction
            wanted[one.name] = (mine,)
    return {name: some for name, some in wanted.items() if some}


def sort_session(
    series: Sequence[ReducedSeries],
    again: Mapping[str, Mapping[str, ReducedSeries]],
    phases: Phases,
    config: MergingConfig | None = None,
) -> SortedSession:
    """Sort a session into structures.

    Parameters
    ----------
    series : first reduction of every series; names unique.
    again : by name of the series and of the phase, further reductions with the phase's cell.
    phases : as `phases_of` found them.
    config : choices.
    """
    config = config or MergingConfig()
    left: dict[str, str] = {}
    firm: dict[str, list[_Candidate]] = {phase.name: [] for phase in phases.phases}
    unsure: list[tuple[ReducedSeries, list[_Candidate]]] = []
    for one in series:
        candidates = _candidates(one, again.get(one.name, {}), phases)
        mine = phases.phase_of(one.name) if one.diagnosis.usable else None
        if len(candidates) == 1 and mine and candidates[0].phase.name == mine.name:
            firm[mine.name].append(candidates[0])
        elif candidates:
            unsure.append((one, candidates))
        else:
            left[one.name] = _why_left(one, phases)
    settled = {name: settle_phase([c.data for c in some], config) for name, some in firm.items()
               if some}  # fmt: skip
    joined = _by_intensities(unsure, firm, settled, phases, config, left)
    if joined:
        settled = {name: settle_phase([c.data for c in some], config)
                   for name, some in firm.items() if some}  # fmt: skip
    structures: list[Structure] = []
    for phase in phases.phases:
        if phase.name in settled:
            structures += _structures(phase, firm[phase.name], settled[phase.name])
            left |= settled[phase.name].left
    return SortedSession(
        phases,
        tuple(settled[p.name] for p in phases.phases if p.name in settled),
        tuple(structures),
        left,
    )


@dataclass(frozen=True)
class _Candidate:
    """A series in the setting of a phase."""

    phase: Phase
    data: DataSet
    source: str
    transform: Floats
    why: str


def _candidates(
    one: ReducedSeries, again: Mapping[str, ReducedSeries], phases: Phases
) -> list[_Candidate]:
    """The phases that a series may belong to, in the best reduction for each."""
    found = []
    mine = phases.phase_of(one.name) if one.diagnosis.usable else None
    for phase in phases.phases:
        for made, words in ((again.get(phase.name), "reduced again with its cell"), (one, "")):
            if made is None or made.data is None or made.record is None:
                continue
            if not made.diagnosis.usable or len(made.data) == 0:
                continue
            match = matches_phase(made.record, phase)
            if not match:
                continue
            if made is one and mine is not None and mine.name != phase.name:
                continue  # its cell was assigned; another phase needs a reduction of its own
            best = match[0]
            found.append(
                _Candidate(
                    phase,
                    made.data.reindexed(best.transform, best.bravais),
                    made.source,
                    best.transform,
                    f"its cell is that of {phase.name}, {100 * best.strain:.2f} % of strain off"
                    + (f"; {words}" if words else ""),
                )
            )
            break
    return found


def _by_intensities(
    unsure: Sequence[tuple[ReducedSeries, list[_Candidate]]],
    firm: Mapping[str, list[_Candidate]],
    settled: Mapping[str, SettledPhase],
    phases: Phases,
    config: MergingConfig,
    left: dict[str, str],
) -> bool:
    """Give the unsure series to the phases that they fit; whether there were any."""
    names = [phase.name for phase in phases.phases if phase.name in settled]
    references = [_reference(settled[name], [c.data for c in firm[name]]) for name in names]
    joined = False
    for one, candidates in unsure:
        offered = [
            (names.index(c.phase.name), c.data.reindexed(setting))
            for c in candidates
            if c.phase.name in names
            for setting in settled[c.phase.name].ambiguity.operators
        ]
        if not offered:
            if len(candidates) == 1:  # the phase has no other series to compare with
                firm[candidates[0].phase.name].append(candidates[0])
                joined = True
            else:
                left[one.name] = "its cell fits several phases, and there is nothing to compare"
            continue
        choice = choose_phase(
            offered,
            references,
            [settled[name].rotations for name in names],
            min_common=config.min_common,
        )
        best = choice.best
        mine = phases.phase_of(one.name) if one.diagnosis.usable else None
        if best is None or not best.significance > _MIN_SIGNIFICANCE:
            alone = [c for c in candidates if mine is not None and c.phase.name == mine.name]
            if len(candidates) == 1 and alone:
                firm[alone[0].phase.name].append(alone[0])
                joined = True
            else:
                left[one.name] = f"{one.diagnosis.reason}; {choice.why}"
            continue
        chosen = next(c for c in candidates if c.phase.name == names[best.phase])
        why = f"{chosen.why}; its intensities fit: CC {best.cc:.2f} over {best.n_common}"
        firm[chosen.phase.name].append(
            _Candidate(chosen.phase, chosen.data, chosen.source, chosen.transform, why)
        )
        joined = True
    return joined


def _reference(settled: SettledPhase, data: Sequence[DataSet]) -> MergedReflections:
    """Merged intensities of a phase's largest structure."""
    in_setting = settled.ambiguity.apply(data)
    return merge_scaled(
        scale_data_sets([in_setting[i] for i in settled.groups[0]], settled.rotations)
    )


def _structures(
    phase: Phase, members: Sequence[_Candidate], settled: SettledPhase
) -> list[Structure]:
    found = []
    for number, group in enumerate(settled.groups):
        letter = "abcdefghijklmnopqrstuvwxyz"[number % 26] if len(settled.groups) > 1 else ""
        found.append(
            Structure(
                f"{phase.name}{letter}",
                phase.name,
                settled.rotations,
                tuple(
                    Member(
                        members[i].data.name,
                        members[i].source,
                        phase.bravais,
                        members[i].transform @ settled.ambiguity.transforms[i],
                        members[i].why,
                    )
                    for i in group
                ),
            )
        )
    return found


def _why_left(one: ReducedSeries, phases: Phases) -> str:
    if not one.diagnosis.usable:
        return one.diagnosis.reason
    for outlier in phases.outliers:
        if outlier.record.name == one.name:
            return outlier.reason
    return "its cell fits no phase"
