"""Training and applying as artefacts: what is kept, and what bad scans come to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from safetensors.numpy import safe_open, save_file

from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.artefacts.records import read_columns, read_record
from ewaldflow.lib.cbed.simulated import Simulation, simulated
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.report import rrvae_page
from ewaldflow.lib.rrvae.checkpoint import load
from ewaldflow.lib.rrvae.config import HarmonicConfig
from ewaldflow.lib.rrvae.plan import Plan
from ewaldflow.lib.rrvae.preprocess_config import PreprocessConfig
from ewaldflow.lib.rrvae.result import Maps, RrvaeResult
from ewaldflow.lib.stem4d.metadata import ScanMetadata
from ewaldflow.lib.stem4d.scan import Scan4D, scan_of
from ewaldflow.lib.stem4d.storage import write_scan
from ewaldflow.tasks.rrvae import LiveTraining, rrvae_artefact
from ewaldflow.tasks.rrvae_apply import map_artefact
from ewaldflow.tasks.rrvae_sweep import Point, best_of, grid, sweep_artefact

SMALL = HarmonicConfig(seeds=(0, 1), epochs=12, hidden=32)
PLAN = Plan(model=SMALL, prepare=PreprocessConfig(shape=(32, 32)))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures: drawing takes longer than these trainings."""
    monkeypatch.setattr(rrvae_page, "rrvae_page", lambda *given: given[0].trust.verdict)
    monkeypatch.setattr(LiveTraining, "look", lambda *given: None)


def graphene(electrons: float = 1e6, seed: int = 0, **more: object) -> Scan4D:
    told = {"scan_shape": (15, 18), "shape": (32, 32), "electrons": electrons, "seed": seed} | more
    return simulated(Simulation(**told))  # type: ignore[arg-type]


def kept(scan: Scan4D, folder: Path, name: str) -> str:
    path = folder / f"{name}.zarr"
    write_scan(zarr.open_group(path, mode="w"), scan)
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtefactStore, str]:
    folder = tmp_path_factory.mktemp("rrvae")
    store = ArtefactStore(folder / "runs")
    source = kept(graphene(), folder, "graphene")
    plan = PLAN.model_copy(update={"dose_curve": (1e5,)})
    return store, rrvae_artefact(source, store.root, plan)


def test_what_is_kept(trained: tuple[ArtefactStore, str]) -> None:
    store, ref = trained
    artefact = store.get(ref)
    figures = artefact.manifest.figures_of_merit
    assert figures["verdict"] == "trusted"
    assert figures["warning"] is None
    assert figures["pearson"] > 0.98
    assert figures["harmonic_pearson"] > 0.98
    assert figures["circular_R"] > 0.95
    names = {one.name for one in artefact.files.iterdir()}
    assert names == {"report.html", "model.safetensors", "scores.yaml", "preparation.yaml"}

    maps = read_columns(artefact.arrays["maps"], Maps)
    assert maps.angle_rad.shape == (2, 15, 18)
    assert maps.content.shape == (2, 15, 18, 2)
    result = read_record(artefact.arrays["result"], RrvaeResult)
    mine = result.agreements[result.best]
    # sense and offset are those by which the angle differs from the centre of mass's
    off = mine.sense * (maps.angle_rad[result.best] - mine.offset_rad) - maps.com_angle_rad
    strong = maps.com_magnitude > np.median(maps.com_magnitude)
    assert np.abs(np.angle(np.exp(1j * off)))[strong].max() < 0.3
    assert result.prepared.com_unit == "mrad"
    assert [one.electrons for one in result.dose_curve] == [1e5]
    assert result.dose_curve[0].com_r > 0.9

    scores = yaml.safe_load((artefact.files / "scores.yaml").read_text(encoding="utf-8"))
    assert len(scores["seeds"]) == 2
    assert set(scores["baselines"]) == {
        "first circular harmonic", "leading pair of principal components"
    }  # fmt: skip
    ensemble, made = load(artefact.files / "model.safetensors")
    assert ensemble.seeds == 2
    assert made.shape == (32, 32)
    page = (artefact.files / "report.html").read_text(encoding="utf-8")
    for words in ("first circular harmonic", "With fewer electrons", "What is left unexplained",
                  "Nothing stands out", "estimated r", "detector&#x27;s"):  # fmt: skip
        assert words in page
    assert "http://" not in page
    assert 'src="http' not in page
    # the same again is the same artefact
    (raw,) = artefact.manifest.inputs
    assert raw.path is not None
    source = str(next(one for one in [Path(raw.path), *Path(raw.path).parents]
                      if one.suffix == ".zarr"))  # fmt: skip
    plan = PLAN.model_copy(update={"dose_curve": (1e5,)})
    assert rrvae_artefact(source, store.root, plan) == ref


def test_another_scan_is_mapped_alike(trained: tuple[ArtefactStore, str], tmp_path: Path) -> None:
    store, ref = trained
    other = kept(graphene(seed=5, scan_step_A=0.19), tmp_path, "other")
    artefact = store.get(map_artefact(ref, other, store.root))
    figures = artefact.manifest.figures_of_merit
    assert figures["verdict"] == "in distribution"
    assert figures["pearson"] > 0.97
    assert figures["unlike"] < 0.06
    assert {one.role for one in artefact.manifest.inputs} == {"rrvae", "raw"}
    page = (artefact.files / "report.html").read_text(encoding="utf-8")
    assert "are like those" in page
    # as a file that somebody was given, with what is beside it
    weights = store.get(ref).files / "model.safetensors"
    again = store.get(map_artefact(str(weights), other, store.root))
    assert again.manifest.figures_of_merit["pearson"] == figures["pearson"]


def test_patterns_unlike_those_trained_on(
    trained: tuple[ArtefactStore, str], tmp_path: Path
) -> None:
    store, ref = trained
    few = kept(graphene(electrons=2e4), tmp_path, "few")
    artefact = store.get(map_artefact(ref, few, store.root))
    assert artefact.manifest.figures_of_merit["verdict"] == "out of distribution"
    assert any("electrons in a pattern" in note for note in artefact.manifest.notes)
    page = (artefact.files / "report.html").read_text(encoding="utf-8")
    assert "do not use its maps" in page


def test_a_scan_of_another_camera_length_is_refused(
    trained: tuple[ArtefactStore, str], tmp_path: Path
) -> None:
    store, ref = trained
    other = kept(graphene(seed=1), tmp_path, "length")
    with pytest.raises(UserError, match="pixel_mrad"):
        map_artefact(ref, other, store.root, stated=ScanMetadata(camera_length_mm=30.0))
    assert not store.versions("rrvae-map", "length")


def test_models_that_cannot_be_used(trained: tuple[ArtefactStore, str], tmp_path: Path) -> None:
    store, ref = trained
    source = kept(graphene(seed=1), tmp_path, "scan")
    files = store.get(ref).files
    new = tmp_path / "model.safetensors"
    with safe_open(files / "model.safetensors", framework="numpy") as file:
        header = json.loads(file.metadata()["header"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(arrays, new, {"header": json.dumps(header | {"version": 99})})
    with pytest.raises(UserError, match=r"preparation\.yaml"):
        map_artefact(str(new), source, store.root)
    text = (files / "preparation.yaml").read_text(encoding="utf-8")
    (tmp_path / "preparation.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="version 99"):
        map_artefact(str(new), source, store.root)
    new.write_bytes(b"no weights")
    with pytest.raises(UserError, match="no safetensors file"):
        map_artefact(str(new), source, store.root)
    for wrong in ("rrvae/none", str(tmp_path / "none.safetensors")):
        with pytest.raises(UserError, match="none"):
            map_artefact(wrong, source, store.root)


def _nan(frames: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    frames = frames.astype(np.float32)
    frames[0, :5, 3, 3] = np.nan
    frames[1, :4, 10, 10] = -50
    return frames


def _one_rotation(frames: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """A gradient along the columns within the disc, weaker or stronger, always that way."""
    draw = np.random.default_rng(0)
    disc = frames.mean(axis=(0, 1))
    slope = np.linspace(-1, 1, disc.shape[1])
    strength = draw.uniform(0.01, 0.04, frames.shape[:2])[..., None, None]
    return draw.poisson(np.maximum(disc * (1 + strength * slope), 0)).astype(np.uint32)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda f: np.broadcast_to(f[0, 0], f.shape).copy(), "all of them alike"),
        (lambda f: np.full_like(f, 7), "the same value"),
        (lambda f: np.full(f.shape, np.nan, np.float32), "no pattern with intensity"),
        (lambda f: f[:1, :10].copy(), "at least 40"),
        (lambda f: np.zeros_like(f), "no pattern with intensity"),
    ],
)
def test_scans_that_nothing_can_be_learned_from(
    make: Callable[[np.ndarray], np.ndarray],  # type: ignore[type-arg]
    told: str,
    tmp_path: Path,
) -> None:
    good = graphene()
    frames = make(np.asarray(good.frames))
    bad = scan_of(frames, "bad", gain=1.0)
    with pytest.raises(UserError, match=told):
        rrvae_artefact(kept(bad, tmp_path, "bad"), tmp_path / "runs", PLAN)
    assert not ArtefactStore(tmp_path / "runs").versions("rrvae", "bad")


@pytest.mark.usefixtures("plain")
def test_bad_patterns_are_left_out_and_told(tmp_path: Path) -> None:
    bad = scan_of(_nan(np.asarray(graphene().frames)), "bad", gain=1.0)
    store = ArtefactStore(tmp_path / "runs")
    made = store.get(rrvae_artefact(kept(bad, tmp_path, "bad"), store.root, PLAN))
    assert made.manifest.figures_of_merit["patterns"] == 15 * 18 - 9
    notes = " ".join(made.manifest.notes)
    assert "5 patterns, the first at (0, 0), hold numbers that are not finite" in notes
    assert "4 patterns, the first at (1, 0), hold counts below the pedestal" in notes
    maps = read_columns(made.arrays["maps"], Maps)
    assert np.isnan(maps.angle_rad[0]).sum() == 9


def test_all_one_rotation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveTraining, "look", lambda *given: None)
    frames = _one_rotation(np.asarray(graphene().frames))
    store = ArtefactStore(tmp_path / "runs")
    source = kept(scan_of(frames, "one", gain=1.0), tmp_path, "one")
    made = store.get(rrvae_artefact(source, store.root, PLAN))
    figures = made.manifest.figures_of_merit
    assert "lie along one line" in figures["warning"]
    assert figures["verdict"] == "the COM is better here"
    page = (made.files / "report.html").read_text(encoding="utf-8")
    assert "The deflections lie along one line" in page
    assert "The centre of mass is better here" in page
    assert "may hide a defect" in page


@pytest.mark.usefixtures("plain")
def test_a_shifted_centre_and_a_detector_that_is_not_square(tmp_path: Path) -> None:
    good = graphene()
    wide = np.zeros((15, 18, 44, 52), np.uint32)
    wide[:, :, 3:35, 15:47] = good.frames  # the disc's middle at (18.5, 30.5)
    store = ArtefactStore(tmp_path / "runs")
    found = scan_of(wide, "wide", gain=1.0)
    plan = PLAN.model_copy(update={"prepare": PreprocessConfig(shape=(32, 32), bin_px=1)})
    made = store.get(rrvae_artefact(kept(found, tmp_path, "wide"), store.root, plan))
    figures = made.manifest.figures_of_merit
    assert figures["verdict"] == "trusted"
    assert figures["pearson"] > 0.97
    result = read_record(made.arrays["result"], RrvaeResult)
    assert result.prepared.com_unit == "px"


@pytest.mark.usefixtures("plain")
def test_copies_stay_on_one_side_of_the_split(tmp_path: Path) -> None:
    frames = np.concatenate([np.asarray(graphene().frames)] * 2)
    scan = scan_of(frames, "twice", gain=1.0)
    store = ArtefactStore(tmp_path / "runs")
    made = store.get(rrvae_artefact(kept(scan, tmp_path, "twice"), store.root, PLAN))
    assert "270 of 540 patterns repeat another" in made.manifest.notes
    ensemble, _ = load(made.files / "model.safetensors")
    held = ensemble.held_out.reshape(2, 270)
    assert held.any()
    np.testing.assert_array_equal(held[0], held[1])


def test_what_a_sweep_tries() -> None:
    points = grid(PLAN, {"latents": [1, 2], "pca": ["noise", None]}, repeat=2)
    assert len(points) == 8
    assert {one.model.latents for _, one in points} == {1, 2}
    assert {one.model.seeds for _, one in points} == {(0, 1), (2, 3)}
    assert points[0][1].prepare.shape == (32, 32)
    assert points[0][0] == {"latents": 1, "pca": "noise", "seeds": (0, 1)}
    ((_, other),) = grid(PLAN, {"model": ["coordinate"]})
    assert other.model.model == "coordinate"
    assert other.model.hidden == 32
    assert other.model.epochs == 12


@pytest.mark.parametrize(
    ("tried", "told"),
    [
        ({"latent": [1]}, "no such choice"),
        ({"latents": [9]}, "less than or equal to 5"),
        ({"latents": []}, "no value"),
        ({}, "1 trainings"),
        ({"hidden": list(range(4, 500))}, "496 trainings"),
    ],
)
def test_sweeps_that_cannot_be(tried: dict[str, list[object]], told: str) -> None:
    with pytest.raises(UserError, match=told):
        grid(PLAN, tried)


def test_a_sweep_side_by_side(trained: tuple[ArtefactStore, str]) -> None:
    store, ref = trained
    figures = store.get(ref).manifest.figures_of_merit
    points = [
        Point({"latents": 2}, ref, figures=figures),
        Point({"latents": 3}, reason="patterns: found 10"),
        Point({"latents": 4}, ref, figures={**figures, "verdict": "failed", "held_out_gain": 1e9}),
    ]
    assert best_of(points) is points[0]
    made = store.get(sweep_artefact("graphene", points, store.root))
    assert made.manifest.figures_of_merit["failed"] == 1
    page = (made.files / "report.html").read_text(encoding="utf-8")
    assert "1 of 3 trainings are trusted" in page
    assert "patterns: found 10" in page
    link = page.split('href="../../../../', 1)[1].split('"', 1)[0]
    assert (store.root / link).is_file()
