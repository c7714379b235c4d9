"""The published calibration: the blur of the superposition minimised over rotation and overfocus.

Weber et al., Methods: `scipy.optimize.shgo` (Endres et al. 2018) with COBYLA (Powell 1994) on a
loss whose two arguments, each from -10 to 10, stand for 10 degrees and 25 % about the start. It
needs a start within these, takes descan for rotation and scale if it is not given, and its minimum
is not always the truth; `calibrate` has none of these faults. `shgo` hands COBYLA no bounds, and
beyond them the blur falls again without limit, as the superposition shrinks: here they are linear
constraints, and an evaluation outside is never the result.
"""

from __future__ import annotations

import itertools
import pickle
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from distributed import Client, get_worker
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import LinearConstraint, shgo

from ..stem4d.scan import Scan4D
from .blur import blur_of
from .model import check_parameters, matrices_of
from .parameters import OverfocusParameters
from .superposition import superpose

Floats = NDArray[np.float64]

BOUND = 10.0
ROTATION_DEG = 10.0
OVERFOCUS_SHARE = 0.25
#: Frames up to this size are read once and kept; larger ones are read for every evaluation.
KEPT_BYTES = 4 * 1024**3
TOPIC = "overfocus-search"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the loss.

    Attributes
    ----------
    number : from 1.
    parameters : tried.
    loss : blur of the superposition.
    image : (scan_row, scan_column) the superposition.
    """

    number: int
    parameters: OverfocusParameters
    loss: float
    image: Floats = field(repr=False)


@dataclass(frozen=True)
class SearchResult:
    """What a search ended with.

    Attributes
    ----------
    start, parameters : before and after.
    loss : blur at the end.
    image : (scan_row, scan_column) the superposition at the end.
    path : (evaluations, 3) rotation in degrees, overfocus in metres, loss.
    at_bound : the end lies at the border of what was searched, so the optimum may lie beyond.
    """

    start: OverfocusParameters
    parameters: OverfocusParameters
    loss: float
    image: Floats = field(repr=False)
    path: Floats = field(repr=False)
    at_bound: bool


Tell = Callable[[Evaluation], None]


def mapped(start: OverfocusParameters, arguments: ArrayLike) -> OverfocusParameters:
    """The parameters that two arguments of the loss stand for."""
    turn, stretch = np.asarray(arguments, float) / BOUND
    return start.with_(
        scan_rotation_deg=float(start.scan_rotation_deg + ROTATION_DEG * turn),
        overfocus_m=float(start.overfocus_m * (1 + OVERFOCUS_SHARE * stretch)),
    )


def make_loss(
    scan: Scan4D, start: OverfocusParameters, tell: Tell | None = None
) -> Callable[[ArrayLike], float]:
    """The loss: two arguments from -10 to 10 -> blur of the superposition.

    Parameters
    ----------
    tell : called with every evaluation and its image, as it is made.
    """
    count = itertools.count(1)

    def loss(arguments: ArrayLike) -> float:
        tried = mapped(start, arguments)
        image = superpose(scan, matrices_of(tried))
        blur = blur_of(image)
        if tell is not None:
            tell(Evaluation(next(count), tried, blur, image))
        return blur

    return loss


def search(scan: Scan4D, start: OverfocusParameters, tell: Tell | None = None) -> SearchResult:
    """Minimise the loss about a start; deterministic.

    Raises
    ------
    UserError : the start is implausible; see `check_parameters`.
    """
    check_parameters(start)
    path: list[tuple[float, float, float]] = []
    best: list[Evaluation] = []

    def note(one: Evaluation) -> None:
        path.append((one.parameters.scan_rotation_deg, one.parameters.overfocus_m, one.loss))
        if _distance(start, one.parameters) <= 1 and (not best or one.loss < best[0].loss):
            best[:] = [one]
        if tell is not None:
            tell(one)

    loss = make_loss(_kept(scan), start, note)
    within = LinearConstraint(np.eye(2), -BOUND, BOUND)
    shgo(
        loss,
        [(-BOUND, BOUND)] * 2,
        minimizer_kwargs={"method": "COBYLA", "constraints": [within]},
    )
    end = best[0]
    return SearchResult(
        start=start,
        parameters=end.parameters,
        loss=end.loss,
        image=end.image,
        path=np.array(path),
        at_bound=_distance(start, end.parameters) > 0.99,
    )


def _distance(start: OverfocusParameters, tried: OverfocusParameters) -> float:
    """How far from the start in parts of what is searched: 1 at the border."""
    turn = abs(tried.scan_rotation_deg - start.scan_rotation_deg) / ROTATION_DEG
    stretch = abs(tried.overfocus_m / start.overfocus_m - 1) / OVERFOCUS_SHARE
    # the corners are evaluated, and are rounded
    return float(np.round(max(turn, stretch), 9))


def spread_starts(
    start: OverfocusParameters,
    rotations_deg: Sequence[float] = tuple(np.arange(0.0, 360.0, 15.0)),
    overfocus_factors: Sequence[float] = (1.0,),
    both_flips: bool = True,
) -> list[OverfocusParameters]:
    """Starts that a rotation, a scale and a flip not known need, about one set of parameters."""
    flips = (start.flip_y, not start.flip_y) if both_flips else (start.flip_y,)
    return [
        start.with_(
            scan_rotation_deg=float(start.scan_rotation_deg + turn),
            overfocus_m=start.overfocus_m * factor,
            flip_y=flip_y,
        )
        for flip_y in flips
        for factor in overfocus_factors
        for turn in rotations_deg
    ]


def search_many(
    scan: Scan4D,
    starts: Sequence[OverfocusParameters],
    client: Client | None = None,
    tell: Callable[[int, Evaluation], None] | None = None,
) -> list[SearchResult]:
    """Searches from several starts over Dask's workers; the sharpest comes first.

    Parameters
    ----------
    client : of a cluster; dask's own threads if None.
    tell : called with the number of the start, and every evaluation, as they are made.

    Raises
    ------
    UserError : a start is implausible; see `check_parameters`.
    """
    for start in starts:
        check_parameters(start)
    if client is None:
        scan = _kept(scan)
        tasks = [
            delayed(search)(
                delayed(scan, pure=False, traverse=False),
                start,
                None if tell is None else partial(tell, number),
            )
            for number, start in enumerate(starts)
        ]
        results = compute(*tasks, scheduler="threads")
    else:
        results = _on_cluster(scan, starts, client, tell)
    return sorted(results, key=lambda one: one.loss)


def _on_cluster(
    scan: Scan4D,
    starts: Sequence[OverfocusParameters],
    client: Client,
    tell: Callable[[int, Evaluation], None] | None,
) -> list[SearchResult]:
    topic = f"{TOPIC}-{uuid.uuid4()}"
    if tell is not None:
        client.subscribe_topic(topic, lambda event: tell(*pickle.loads(event[1])))
    try:
        # what each can read by itself is not sent
        sent = scan if type(scan.frames).__module__.startswith("zarr") else _kept(scan)
        shared = client.scatter(sent, broadcast=True)
        futures = [
            client.submit(
                _search_and_report, shared, start, number, topic if tell else None, pure=False
            )
            for number, start in enumerate(starts)
        ]
        return list(client.gather(futures))
    finally:
        if tell is not None:
            client.unsubscribe_topic(topic)


def _search_and_report(
    scan: Scan4D, start: OverfocusParameters, number: int, topic: str | None
) -> SearchResult:
    """A search on a worker; its evaluations go to the client as events."""
    if topic is None:
        return search(scan, start)
    worker = get_worker()
    return search(scan, start, lambda one: worker.log_event(topic, pickle.dumps((number, one))))


def _kept(scan: Scan4D) -> Scan4D:
    """The scan with its frames in memory if they are not too large for that."""
    frames = scan.frames
    size = np.prod(frames.shape, dtype=float) * np.dtype(frames.dtype).itemsize
    if isinstance(frames, np.ndarray) or size > KEPT_BYTES:
        return scan
    kept = np.empty(frames.shape, frames.dtype)
    for row in range(scan.scan_shape[0]):
        kept[row] = frames[row]
    return scan.with_(frames=kept)
