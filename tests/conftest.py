"""What tests of several rooms share: a small series, and a reduction of it known to be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from ewaldflow.lib.crystal.cell import cell_from_reciprocal_basis, d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import LatticeCandidate
from ewaldflow.lib.reduction.result import Flag, FrameTable, Lattice, Reduction, Reflections
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation import demo_series
from ewaldflow.lib.simulation.truth import TrueLattice, Truth

# The same examples every time: a change is judged by what it changes. New ones are looked for
# with --hypothesis-profile=default. A busy machine is no fault, hence no deadline.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--adapter`: run the conformance suite on that adapter, and nothing else."""
    parser.addoption(
        "--adapter",
        metavar="NAME",
        help="run only the conformance suite, on this adapter: a known name, "
        "package.module:function, or an instrument of configs/instruments (docs/adapters.md)",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--adapter`, leave out what does not concern it."""
    suite = Path(__file__).parent / "hardware" / "conformance"
    concerns = suite.is_relative_to(collection_path) or collection_path.is_relative_to(suite)
    return True if config.getoption("--adapter") and not concerns else None


def true_reduction(series: RotationSeries, truth: Truth, seed: int = 1) -> Reduction:
    """The reduction an engine without any fault would make, with Poisson-like sigmas."""
    lattices = tuple(_true_lattice(one, truth, seed) for one in truth.lattices)
    n = len(series)
    peak = np.zeros(n, np.int64)
    for lattice in lattices:
        r = lattice.reflections
        strong = r.frame[r.intensity > 5 * r.sigma]
        peak += np.bincount(np.clip(np.rint(strong).astype(int), 0, n - 1), minlength=n)
    frames = FrameTable(
        frame_number=series.frame_number,
        angle_deg=truth.angle_mid_deg,
        beam_row=truth.beam_centres_px[:, 0],
        beam_column=truth.beam_centres_px[:, 1],
        scale=truth.illumination,
        profile_ratio=np.ones(n),
        n_spots=peak + 2,
        n_indexed=peak,
        background=np.full(n, 1.5),
        blank=truth.blank,
    )
    return Reduction(
        series=series.name,
        lattices=lattices,
        frames=frames,
        gain=truth.gain,
        statistics={"r_merge": 0.071, "cc_half": 0.9934},
        seconds={"spots": 1.25, "indexing": 0.61, "integration": 0.9},
        notes=("The gain was estimated from the noise of the background.",),
        verdict=f"{len(lattices)} lattice indexed." if lattices else "No lattice was found.",
    )


def _true_lattice(true: TrueLattice, truth: Truth, seed: int) -> Lattice:
    rng = np.random.default_rng(seed)
    t = true.reflections[true.reflections.intensity > 0]
    sigma = np.sqrt(t.intensity + 20.0)
    n = len(t)
    strong = t.intensity > 5 * sigma
    jitter = np.where(strong, rng.normal(0, 0.25, (2, n)), np.nan)
    cell = cell_from_reciprocal_basis(true.orientation)
    return Lattice(
        bravais="oP",
        orientation=true.orientation,
        cell=cell,
        cell_esd=(0.004, 0.0036, 0.0017, 0.0, 0.0, 0.0),
        cell_p1=tuple(np.add(cell, (0.001, -0.002, 0.001, 0.01, -0.02, 0.01))),
        cell_p1_esd=(0.004, 0.004, 0.002, 0.013, 0.02, 0.011),
        niggli=(*sorted(cell[:3]), 90.0, 90.0, 90.0),
        geometry=truth.geometry,
        esd={"rotation_scale": 0.0004},
        rotation_scale=1.0012,
        candidates=(
            LatticeCandidate("oP", cell, np.eye(3, dtype=np.int64), 0.0012, 0.1, 0.05),
            LatticeCandidate("mP", cell, np.eye(3, dtype=np.int64), 0.0008, 0.05, 0.02),
            LatticeCandidate("aP", cell, np.eye(3, dtype=np.int64), 0.0, 0.0, 0.0),
        ),
        mosaicity_deg=0.1,
        size_per_A=1.5e-3,
        n_spots=int(1.05 * strong.sum()),
        n_indexed=int(strong.sum()),
        rms_px=0.25,
        rms_deg=0.04,
        reflections=Reflections(
            hkl=t.hkl,
            intensity_sum=rng.normal(t.intensity, sigma),
            sigma_sum=sigma,
            intensity=rng.normal(t.intensity, sigma),
            sigma=sigma,
            background=np.full(n, 1.5),
            frame=t.frame,
            angle_deg=t.angle_deg,
            row=t.row,
            column=t.column,
            observed_row=t.row + jitter[0],
            observed_column=t.column + jitter[1],
            partiality=t.recorded,
            lorentz=np.ones(n),
            d_A=d_spacing_A(t.hkl, cell),
            flags=np.where(t.saturated, np.uint32(Flag.SATURATED), np.uint32(0)),
        ),
    )


@pytest.fixture(scope="session")
def simulated() -> tuple[RotationSeries, Truth]:
    """The small series of `ewaldflow demo` and what is true of it."""
    return demo_series(1)


@pytest.fixture(scope="session")
def make_true_reduction() -> Callable[..., Reduction]:
    """`true_reduction`, for tests that need other series than `simulated`."""
    return true_reduction


@pytest.fixture(scope="session")
def reduction(simulated: tuple[RotationSeries, Truth]) -> Reduction:
    """The faultless reduction of `simulated`."""
    return true_reduction(*simulated)
