"""Crystal finding on the twin: precision and recall for suitable crystals, beside the thesis's way.

A crystal is suitable in a view if its outline lies at least `edge_um` within the view and
`isolation_um` from anything else on the film, and its area and contrast are within the limits of
`Selection`. Cases within SLACK of a limit count neither for nor against: nobody measures better.
Dirt looks like a crystal; what tells them apart is the snapshot, so figures are with and without.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _table import Table, options, say
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.filters import threshold_local
from skimage.morphology import closing, dilation, disk, erosion, remove_small_objects

from ewaldflow.hardware.moves import move
from ewaldflow.hardware.simulated.specimen import DIRT, SpecimenOptions
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, open_twin
from ewaldflow.lib.instrument import load_instrument
from ewaldflow.lib.serialred.isolation import Selection, judge_particles
from ewaldflow.lib.serialred.particles import find_particles
from ewaldflow.lib.serialred.quality import judge_snapshot

Floats = NDArray[np.float64]
Way = Callable[[NDArray[Any], Floats], Floats]

SEEDS = range(1, 21)
VIEWS = 40
TIMED = 3  # views of each grid
# Views are those of particles of any kind (crystals, dirt, clusters, faint ones) so far from the
# middle of the grid, each brought to so far from the middle of the view; some lie under bars.
WITHIN_UM, ASIDE_UM = 80.0, 1.7
MAGNIFICATION = 2500
EXPOSURE_S, SNAPSHOT_S = 0.5, 0.5
ILLUMINATED_UM, BEAM_UM = 9.6, 1.0
# Bevelled edges: an outline at half contrast lies up to 0.04 um within that of the base.
SLACK_UM, SLACK = 0.08, 0.1

# Snapshots below this are not of one crystal, more likely than not.
LIKELY = 0.5

SELECTION = Selection()


@dataclass
class Score:
    """Counts over all views."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    cpu_s: list[float] = field(default_factory=list)
    wrong_as: dict[str, int] = field(default_factory=dict)

    @property
    def precision(self) -> float:
        """Of what was called suitable, the part that is."""
        return self.right / max(self.right + self.wrong, 1)

    @property
    def recall(self) -> float:
        """Of what is suitable, the part that was called so."""
        return self.right / max(self.right + self.missed, 1)

    @property
    def ms(self) -> float:
        """Median CPU of an image."""
        return 1000 * float(np.median(self.cpu_s))


def ours(counts: NDArray[Any], um_per_px: Floats) -> Floats:
    """(n, 2) places called suitable, (row, column)."""
    found = find_particles(counts, um_per_px)
    good = [one.suitable for one in judge_particles(found, SELECTION)]
    return np.stack([found.particles.row, found.particles.column], 1)[good]


def thesis(counts: NDArray[Any], um_per_px: Floats) -> Floats:
    """The same by the thesis's plain local threshold, with the settings it was published with.

    The picture shrunk to 256 px, its mean in blocks of 75 px less 15/255 of the maximum, specks
    of less than 16 px removed, outlines smoothed with a disc of 3 px; particles whose centres
    are `isolation_um` apart and as far from the edge. Areas are scaled as they should have been.
    """
    zoom = 256 / max(counts.shape)
    small = ndimage.zoom(counts.astype(float), zoom, order=1)
    small /= small.max()
    dark = small <= threshold_local(small, 75, method="mean", offset=15 / 255)
    dark = remove_small_objects(dark, max_size=15)
    dark = dilation(erosion(closing(dark, disk(3)), disk(3)), disk(3))
    labels, number = ndimage.label(dark, np.ones((3, 3)))
    if not number:
        return np.zeros((0, 2))
    centres = np.array(ndimage.center_of_mass(dark, labels, range(1, number + 1))) / zoom
    px_um = float(np.sqrt(abs(np.linalg.det(um_per_px))))
    area = np.bincount(labels.ravel())[1:] / zoom**2 * px_um**2
    distance = cdist(centres, centres) * px_um
    np.fill_diagonal(distance, np.inf)
    edge = np.minimum(centres, np.array(counts.shape) - 1 - centres).min(axis=1) * px_um
    good = (distance.min(axis=1) >= SELECTION.isolation_um) & (edge >= SELECTION.edge_um)
    good &= (area >= SELECTION.area_um2[0]) & (area <= SELECTION.area_um2[1])
    return centres[good]


@dataclass(frozen=True)
class Content:
    """What a view really shows.

    Attributes
    ----------
    outlines : (v, 2) px of each particle in it.
    suitable, borderline : of each; a borderline one would change with SLACK.
    what : why it is not suitable, for the table.
    """

    outlines: list[Floats]
    suitable: list[bool]
    borderline: list[bool]
    what: list[str]

    def at(self, place: Floats) -> int | None:
        """The particle at a place in the picture."""
        for i, outline in enumerate(self.outlines):
            if _inside(outline, place):
                return i
        return None


def _inside(outline: Floats, place: Floats) -> bool:
    """Whether a place lies in a convex outline."""
    ahead = np.roll(outline, -1, axis=0) - outline
    to = place - outline
    turn = ahead[:, 0] * to[:, 1] - ahead[:, 1] * to[:, 0]
    return bool((turn >= 0).all() or (turn <= 0).all())


def content(twin: Twin, px_um: float) -> Content:
    """What the view from here shows, from the truth."""
    specimen, shape = twin.truth.specimen, twin.camera.shape
    particles, wanted = specimen.particles, SELECTION
    found = Content([], [], [], [])
    centres = twin.truth.px(particles.centre_um)
    within = np.abs(centres - np.array(shape) / 2).max(axis=1) < max(shape)
    for i in np.flatnonzero(within):
        v = particles.vertices_um[i]
        outline = particles.centre_um[i] + np.column_stack([v, np.zeros(len(v))])
        px = twin.truth.px(outline)
        if px.min() < 0 and (px.max(axis=0) < 0).any():
            continue
        edge = min(px.min(), (np.array(shape) - 1 - px).min()) * px_um
        gap = min(float(particles.gap_um[i]), _to_bar(specimen.options, outline))
        crystal = particles.phase[i] != DIRT
        path = 1.0
        if crystal:
            path = specimen.phases[particles.phase[i]].options.mean_free_path_um
        contrast = 1 - float(np.exp(-particles.thickness_um[i] / path))
        area = float(particles.area_um2[i])
        loose, strict = (
            [
                gap >= wanted.isolation_um + sign * SLACK_UM,
                edge >= wanted.edge_um + sign * SLACK_UM,
                wanted.area_um2[0] * (1 + sign * SLACK) <= area,
                area <= wanted.area_um2[1] * (1 - sign * SLACK),
                contrast >= wanted.contrast[0] * (1 + 4 * sign * SLACK),
                contrast <= wanted.contrast[1] * (1 - sign * SLACK),
                crystal,
            ]
            for sign in (-1, 1)
        )
        words = ("crowded", "edge", "small", "large", "faint", "thick", "dirt")
        found.outlines.append(px)
        found.suitable.append(all(strict))
        found.borderline.append(all(loose) and not all(strict))
        found.what.append("+".join(w for w, ok in zip(words, loose, strict=True) if not ok))
    return found


def _to_bar(specimen: SpecimenOptions, outline: Floats) -> float:
    """Distance of an outline from the nearest grid bar, um."""
    if not specimen.bar_um:
        return np.inf
    from_bar = np.abs(outline[:, :2] % specimen.pitch_um - specimen.pitch_um / 2)
    return float(from_bar.min() - specimen.bar_um / 2)


def judge(score: Score, called: Floats, truth: Content, likely: Callable[[Floats], bool]) -> None:
    """Count what was called suitable, if it is also `likely`, against the truth."""
    hit = set()
    for place in called:
        if not likely(place):
            continue
        i = truth.at(place)
        if i is not None:
            hit.add(i)
        if i is None or not (truth.suitable[i] or truth.borderline[i]):
            score.wrong += 1
            what = "nothing" if i is None else truth.what[i]
            score.wrong_as[what] = score.wrong_as.get(what, 0) + 1
        elif truth.suitable[i]:
            score.right += 1
    score.missed += sum(good and i not in hit for i, good in enumerate(truth.suitable))


def imaging(twin: Twin) -> None:
    """As an operator sets it up: the beam fills the view."""
    microscope = twin.microscope
    microscope.set_mode("imaging")
    microscope.set_magnification(MAGNIFICATION)
    microscope.set_screen(down=False)
    microscope.unblank()
    brightness = twin.column.optics.brightness_for(ILLUMINATED_UM)
    microscope.lenses["brightness"].set(brightness)


def snapshot(twin: Twin, place: Floats, px_per_um: Floats) -> float:
    """Lattice-likeness of what lies at a place of the view; the stage is put back."""
    microscope, before = twin.microscope, twin.microscope.stage.position()
    middle = (np.array(twin.camera.shape) - 1) / 2
    dx, dy = np.linalg.solve(px_per_um, middle - place)
    move(microscope.stage, twin.clock, x_um=before.x_um + dx, y_um=before.y_um + dy)
    microscope.set_mode("diffraction")
    microscope.lenses["brightness"].set(twin.column.optics.brightness_for(BEAM_UM))
    frame = twin.camera.expose(SNAPSHOT_S).counts
    geometry = twin.truth.view().geometry.with_(
        beam_centre_px=tuple(twin.truth.view().pattern_px.tolist())
    )
    mask = load_instrument("twin").detector.mask
    score = judge_snapshot(frame, geometry, mask, saturation=twin.camera.dynamic_range).score
    imaging(twin)
    move(microscope.stage, twin.clock, x_um=before.x_um, y_um=before.y_um)
    return score


def cpu_of(way: Way, counts: NDArray[Any], um_per_px: Floats) -> float:
    """Seconds that it takes."""
    start = time.process_time()
    way(counts, um_per_px)
    return time.process_time() - start


def one_grid(seed: int, n_views: int, scores: dict[str, Score]) -> None:
    """Views at random places of one grid."""
    twin = open_twin(TwinOptions(seed=seed, goniometer="ideal"))
    imaging(twin)
    px_per_um = twin.truth.px_per_unit("stage", "imaging")
    um_per_px = np.linalg.inv(px_per_um)
    px_um = float(np.sqrt(abs(np.linalg.det(um_per_px))))
    rng = np.random.default_rng([seed, 1])
    centres = twin.truth.specimen.particles.centre_um
    there = np.flatnonzero(np.abs(centres[:, :2]).max(axis=1) < WITHIN_UM)
    for number, i in enumerate(rng.choice(there, n_views, replace=False)):
        x_um, y_um = twin.truth.stage_um(centres[i]) + rng.uniform(-ASIDE_UM, ASIDE_UM, 2)
        move(twin.microscope.stage, twin.clock, x_um=x_um, y_um=y_um)
        counts = twin.camera.expose(EXPOSURE_S).counts
        truth = content(twin, px_um)
        called = {}
        for name, way in WAYS.items():
            called[name] = way(counts, um_per_px)
            if number < TIMED:
                scores[name].cpu_s.append(min(cpu_of(way, counts, um_per_px) for _ in range(5)))
            judge(scores[name], called[name], truth, lambda _: True)
        judge(
            scores[WITH_SNAPSHOT], called[OURS], truth,
            lambda place: snapshot(twin, place, px_per_um) >= LIKELY,
        )  # fmt: skip


def main() -> int:
    args = options(__doc__ or "", work=False).parse_args()
    seeds, n_views = (SEEDS[:3], 15) if args.quick else (SEEDS, VIEWS)
    table = Table(
        f"Crystal finding on the twin: {len(seeds)} grids, {n_views} views each"
        + (" (quick)" if args.quick else "")
    )
    scores = {name: Score() for name in (*WAYS, WITH_SNAPSHOT)}
    for way in WAYS.values():  # compile
        way(np.random.default_rng(0).poisson(100, (516, 516)), 0.01 * np.eye(2))
    for seed in seeds:
        one_grid(seed, n_views, scores)
        say(", ".join(f"{n}: {s.right}+ {s.wrong}- {s.missed} missed" for n, s in scores.items()))
    plain, judged, peer = scores[OURS], scores[WITH_SNAPSHOT], scores[THESIS]
    table.tell("suitable crystals in the views", str(plain.right + plain.missed))
    beside = f"{peer.precision:.3f}"
    table.check("precision, with snapshot", judged.precision, at_least=0.95, peer=beside)
    table.check("recall, with snapshot", judged.recall, at_least=0.90, peer=f"{peer.recall:.3f}")
    table.tell("precision, picture alone", f"{plain.precision:.3f}", beside)
    table.tell("recall, picture alone", f"{plain.recall:.3f}", f"{peer.recall:.3f}")
    for name, score in scores.items():
        worst = sorted(score.wrong_as.items(), key=lambda one: -one[1])[:5]
        table.tell(
            f"{name}: wrongly called", ", ".join(f"{n} {what}" for what, n in worst) or "none"
        )
    table.check("CPU of a picture, ms", plain.ms, at_most=30, peer=f"{peer.ms:.0f}")
    table.tell(
        "CPU of the thesis's way (on a quarter of the pixels) over ours",
        f"{peer.ms / plain.ms:.1f}",
    )
    return table.show()


OURS, WITH_SNAPSHOT, THESIS = "ours", "ours with snapshot", "thesis"
WAYS: dict[str, Way] = {OURS: ours, THESIS: thesis}

if __name__ == "__main__":
    sys.exit(main())
