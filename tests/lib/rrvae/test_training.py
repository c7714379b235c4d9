"""Training, trust, residuals, files and new scans, on small patterns of known angles."""

# ruff: noqa: E402 - without torch nothing below can be imported

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra rrvae is not installed")

from scipy.integrate import quad

from ewaldflow.lib.cbed import simulate_graphene
from ewaldflow.lib.cbed.crystal import GRAPHENE_A
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.rrvae.apply import apply, content_shift
from ewaldflow.lib.rrvae.checkpoint import load, made_for, save
from ewaldflow.lib.rrvae.config import CoordinateConfig, HarmonicConfig
from ewaldflow.lib.rrvae.elbo import kl_normal, kl_uniform_angle
from ewaldflow.lib.rrvae.harmonic_gradient import HarmonicGradient
from ewaldflow.lib.rrvae.harmonic_model import HarmonicModel
from ewaldflow.lib.rrvae.lattice import aperiodic
from ewaldflow.lib.rrvae.patterns import Patterns
from ewaldflow.lib.rrvae.preprocess import PreprocessConfig, prepare
from ewaldflow.lib.rrvae.residual import _significance, residual
from ewaldflow.lib.rrvae.sound import split
from ewaldflow.lib.rrvae.train import train
from ewaldflow.lib.rrvae.trust import FAILED, TRUSTED, assess, noisy_copies, procrustes

SIDE, CONFIG = 33, HarmonicConfig(epochs=10, batch=32, seeds=(0, 1))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def wedges(n=400, seed=0, signal=8.0):
    """Patterns with first and third orders turned at random: (patterns, amplitude, angle)."""
    draw = np.random.default_rng(seed)
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    radius, angle = np.hypot(y, x) / 16, np.arctan2(x, y)
    turn, amplitude = draw.uniform(-np.pi, np.pi, n), draw.uniform(0.3, 1.0, n)
    shape = np.clip(radius * (1 - radius), 0, None) * (radius < 1)
    at = angle - turn[:, None, None]
    data = signal * shape * (amplitude[:, None, None] * np.cos(at) + 0.2 * np.cos(3 * at))
    data = data + draw.standard_normal(data.shape)
    patterns = Patterns(
        data=data.astype(np.float32),
        variance=np.ones((1, SIDE, SIDE), np.float32),
        mask=np.zeros((SIDE, SIDE), bool),
        scan_shape=(n // 20, 20),
        index=np.arange(n),
        centre_px=((SIDE - 1) / 2,) * 2,
        mean=(radius < 1).astype(float),
        dose=float((radius < 1).sum()),
        pixel_mrad=1.0,
        disc_radius_px=16.0,
    )
    return patterns, amplitude, turn


@pytest.fixture(scope="module")
def trained():
    patterns, amplitude, turn = wedges()
    return patterns, amplitude, turn, train(patterns, CONFIG)


@pytest.mark.parametrize("sd", [0.3, 0.7, 0.8, 1.5, 3.0])
def test_divergence_of_a_wrapped_normal(sd):
    def density(a):
        return sum(np.exp(-((a + 2 * np.pi * k) ** 2) / (2 * sd**2)) for k in range(-9, 10)) / (
            np.sqrt(2 * np.pi) * sd
        )

    expected, _ = quad(lambda a: density(a) * np.log(2 * np.pi * density(a)), -np.pi, np.pi)
    assert kl_uniform_angle(torch.tensor(np.log(sd))).item() == pytest.approx(expected, abs=3e-4)


def test_divergence_of_a_normal():
    mean, log_sd = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    assert kl_normal(mean, log_sd).item() == pytest.approx(0.5)


def test_bound_is_what_drawing_gives(trained):
    patterns, _, _, ensemble = trained
    model, one = ensemble.model, ensemble.seed(0)
    inputs = model.inputs(patterns)[None, :3]
    q, terms = model.encode(one.weights, inputs), model.terms(one.weights, inputs)
    draw = torch.Generator().manual_seed(0)
    mean, axes, log_variance = model.pictures(one.weights)
    k, m = 20000, torch.from_numpy(model.basis.order)
    seen = model.basis.coefficients(patterns.data[:3])
    for i in range(3):
        z = q.mean[0, i] + q.log_sd[0, i].exp() * torch.randn(k, model.latents, generator=draw)
        a = q.angle[0, i] + q.angle_log_sd[0, i].exp() * torch.randn(k, generator=draw)
        g = (mean[0] + z @ axes[0]).numpy()
        fixed = model.fixed
        whole = g[:, : len(m)].astype(complex)
        whole[:, fixed:] += 1j * g[:, len(m) :]
        off = seen[i] - whole * np.exp(-1j * np.outer(a.numpy(), m.numpy()))
        variance = log_variance[0, 0].exp().numpy()
        dims = np.where(m.numpy() > 0, 2, 1)
        expected = (0.5 * np.abs(off) ** 2 / variance).sum(1).mean()
        expected += 0.5 * (dims * np.log(variance)).sum()
        assert terms.reconstruction[0, i].item() == pytest.approx(expected, rel=0.02)


def test_finds_angle_and_content(trained):
    patterns, amplitude, turn, ensemble = trained
    latents = ensemble.encode(patterns)
    for angle, content in zip(latents.angle_rad, latents.leading_content, strict=True):
        assert abs(np.exp(1j * (angle - turn)).mean()) > 0.99
        assert abs(np.corrcoef(content, amplitude)[0, 1]) > 0.9


def test_same_seed_same_result(trained):
    patterns, _, _, ensemble = trained
    again = train(patterns, CONFIG)
    for name, one in ensemble.weights.items():
        assert torch.equal(one, again.weights[name])


def test_trusted_and_its_estimate(trained):
    patterns, amplitude, _, ensemble = trained
    trust = assess(ensemble, patterns)
    assert trust.verdict == TRUSTED
    assert trust.equivariance.min() > 0.99
    true = [abs(np.corrcoef(c, amplitude)[0, 1]) for c in ensemble.encode(patterns).leading_content]
    np.testing.assert_allclose(trust.content_r, true, atol=0.04)


def test_a_net_that_learned_nothing_is_not_trusted(trained):
    patterns, _, _, ensemble = trained
    draw = torch.Generator().manual_seed(1)
    broken = {k: torch.randn(v.shape, generator=draw) for k, v in ensemble.weights.items()}
    trust = assess(replace(ensemble, weights=broken), patterns)
    assert trust.verdict != TRUSTED
    assert not trust.content_accepted.any()
    assert trust.verdict == FAILED or trust.com_r > 0.5


def test_copies_have_independent_noise():
    patterns, _, _ = wedges(signal=0.0)
    one, two = noisy_copies(patterns, 3)
    assert abs(np.corrcoef(one.data.ravel(), two.data.ravel())[0, 1]) < 0.01
    assert one.data.var() == pytest.approx(2, rel=0.02)


def test_procrustes():
    a = np.random.default_rng(0).standard_normal((50, 2))
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    assert procrustes(a, 3 * a @ turn + 1) == pytest.approx(1)
    assert procrustes(a, np.zeros((50, 2))) == 0


def test_copies_of_a_pattern_stay_on_one_side():
    patterns, _, _ = wedges()
    twice = patterns.with_(data=np.concatenate([patterns.data[:200]] * 2))
    held = split(twice, 0.2, 0)
    np.testing.assert_array_equal(held[:200], held[200:])
    assert 0.15 < held.mean() <= 0.2


def test_what_is_a_lattice_vector_apart_stays_on_one_side():
    """Without noise the same place of another cell differs by rounding alone."""
    step = (3**0.5 * GRAPHENE_A / 6, GRAPHENE_A / 4)
    periodic = simulate_graphene(scan_shape=(12, 8), scan_step_A=step, start_A=(0.1, 0.03))
    held = split(prepare(periodic, PreprocessConfig(pseudo_dose=1e6)), 0.25, 0).reshape(12, 8)
    assert 0.1 < held.mean() <= 0.25
    np.testing.assert_array_equal(held[:6], held[6:])
    np.testing.assert_array_equal(held[:, :4], held[:, 4:])


def test_training_holds_out_no_copy_of_what_it_learned_from():
    patterns, _, _ = wedges(200)
    twice = patterns.with_(data=np.concatenate([patterns.data[:100]] * 2))
    held = train(twice, HarmonicConfig(epochs=1, seeds=(0,))).held_out
    assert held.any()
    np.testing.assert_array_equal(held[:100], held[100:])


def test_too_few_patterns_repeated():
    patterns, _, _ = wedges()
    data = np.repeat(patterns.data[:2], 200, axis=0)
    with pytest.raises(UserError, match="400 that repeat 2"):
        train(patterns.with_(data=data), CONFIG)


@pytest.mark.parametrize("latents", [1, 2, 4])
def test_gradient_is_that_of_the_bound(latents):
    """The one written out against automatic differentiation of `terms`, away from the start."""
    patterns, _, _ = wedges()
    model = HarmonicModel.of(patterns, HarmonicConfig(latents=latents))
    generator = torch.Generator().manual_seed(3)
    starts = [model.start(seed) for seed in (0, 1)]
    weights = {
        name: torch.stack([one[name] for one in starts]).double().requires_grad_()
        for name in starts[0]
    }
    with torch.no_grad():
        for one in weights.values():
            one += 0.1 * torch.randn(one.shape, generator=generator)
    which = torch.randint(0, len(patterns), (2, 30), generator=generator)
    inputs = model.inputs(patterns)[which].double()
    loss = model.terms(weights, inputs).loss.mean(1)
    loss.sum().backward()
    found = {name: torch.full_like(one, torch.nan).detach() for name, one in weights.items()}
    gradient = HarmonicGradient(model, {k: v.detach() for k, v in weights.items()}, found)
    torch.testing.assert_close(gradient(inputs), loss.detach(), rtol=1e-6, atol=0)
    for name, one in weights.items():
        torch.testing.assert_close(found[name], one.grad, rtol=1e-5, atol=1e-6, msg=name)


def test_file_and_back(trained, tmp_path):
    patterns, _, _, ensemble = trained
    path = tmp_path / "model.safetensors"
    made = made_for(ensemble, patterns)
    save(path, ensemble, made)
    read, again = load(path)
    np.testing.assert_array_equal(again.content_quantiles, made.content_quantiles)
    np.testing.assert_array_equal(read.encode(patterns).content, ensemble.encode(patterns).content)
    assert read.config == ensemble.config


def test_files_that_are_none_of_ours(trained, tmp_path, monkeypatch):
    patterns, _, _, ensemble = trained
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.safetensors")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="safetensors"):
        load(bad)
    monkeypatch.setattr("ewaldflow.lib.rrvae.checkpoint.VERSION", 99)
    save(tmp_path / "later.safetensors", ensemble, made_for(ensemble, patterns))
    monkeypatch.setattr("ewaldflow.lib.rrvae.checkpoint.VERSION", 2)
    with pytest.raises(UserError, match="version 99"):
        load(tmp_path / "later.safetensors")


def test_new_scans(trained):
    patterns, _, _, ensemble = trained
    made = made_for(ensemble, patterns)
    other, amplitude, _ = wedges(seed=5)
    applied = apply(ensemble, made, other)
    assert applied.in_distribution, applied.reasons
    assert abs(np.corrcoef(applied.latents.leading_content[0], amplitude)[0, 1]) > 0.9
    with pytest.raises(UserError, match="pixel_mrad"):
        apply(ensemble, made, other.with_(pixel_mrad=0.8))
    strange = other.with_(data=other.data + 5 * np.eye(SIDE, dtype=np.float32))
    assert not apply(ensemble, made, strange).in_distribution


def test_patterns_of_a_weaker_signal_are_told(trained):
    """As of a blurred probe: each is explained well, as one that is nearly the mean."""
    patterns, _, _, ensemble = trained
    made = made_for(ensemble, patterns)
    weak, _, _ = wedges(seed=5, signal=2.0)
    applied = apply(ensemble, made, weak)
    assert applied.unlike.mean() < 0.05
    assert not applied.in_distribution
    assert any("leading content" in one for one in applied.reasons)


def test_fewer_electrons_alone_are_no_other_patterns(trained):
    """Half of the electrons: half of the signal and of the variance, twice the noise over it."""
    patterns, _, _, ensemble = trained
    made = made_for(ensemble, patterns)
    full, _, _ = wedges(seed=6)
    noise = np.random.default_rng(7).standard_normal(full.data.shape).astype(np.float32)
    half = full.with_(
        data=full.data / 2 + noise / 2, variance=full.variance / 2, mean=full.mean / 2,
        dose=full.dose / 2,
    )  # fmt: skip
    applied = apply(ensemble, made, half)
    assert applied.unlike.mean() < 0.05
    assert applied.in_distribution, applied.reasons


def test_content_shift():
    quantiles = np.linspace(0, 1, 101)
    assert content_shift(quantiles, np.linspace(0, 1, 1001)) < 0.002
    assert content_shift(quantiles, np.linspace(0.5, 1.5, 1001)) == pytest.approx(0.5, abs=0.01)
    assert content_shift(quantiles, np.full(50, 2.0)) == pytest.approx(0.99)


def test_a_strange_place_is_found(trained):
    patterns, _, _, ensemble = trained
    assert residual(ensemble, patterns).defects == ()
    data = patterns.data.copy()
    where = patterns.map_of(np.arange(400.0))[9:12, 9:12].astype(int).ravel()
    data[where] += np.where(np.indices((SIDE, SIDE))[0] > 18, 1.5, 0).astype(np.float32)
    found = residual(ensemble, patterns.with_(data=data)).defects
    assert len(found) == 1
    assert abs(found[0].scan_row - 10) <= 1
    assert abs(found[0].scan_column - 10) <= 1
    assert found[0].log10_p < -6


def test_the_edge_of_a_scan_is_no_defect():
    """Where fewer points are added their mean scatters more: by 2 in a corner, not in sigma."""
    draw = np.random.default_rng(0)
    maps = [_significance(draw.chisquare(60, (30, 30)), (3.0, 3.0))[0] for _ in range(200)]
    spread = np.std(maps, axis=0)
    assert spread[[0, 0, -1, -1], [0, -1, 0, -1]].mean() == pytest.approx(1, abs=0.15)
    assert spread[0, 8:22].mean() == pytest.approx(1, abs=0.15)
    assert spread[8:22, 8:22].mean() == pytest.approx(1, abs=0.15)


def test_what_does_not_repeat():
    row, column = np.indices((40, 40))
    lattice = np.cos(2 * np.pi * (0.13 * row + 0.02 * column)) + np.cos(2 * np.pi * 0.11 * column)
    bump = np.exp(-((row - 20) ** 2 + (column - 12) ** 2) / 8)
    left = aperiodic(lattice + bump)
    assert np.unravel_index(left.argmax(), left.shape) == (20, 12)
    assert left[row > 30].std() < 0.1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p.select(np.arange(10)), "10, expected at least"),
        (lambda p: p.with_(data=np.zeros_like(p.data)), "all of them alike"),
        (lambda p: p.with_(data=p.data * np.nan), "NaN"),
        (lambda p: p.with_(variance=0 * p.variance), "variance"),
    ],
)
def test_bad_patterns(change, told):
    patterns, _, _ = wedges()
    with pytest.raises(UserError, match=told):
        train(change(patterns), CONFIG)


def test_coordinate_model_learns():
    patterns, _, _ = wedges(200)
    config = CoordinateConfig(
        epochs=30, look_every=10, seeds=(0,), learning_rate=2e-3, pixels=128, angle="circular"
    )
    ensemble = train(patterns, config)
    losses = [one.held_out_loss[0] for one in ensemble.history]
    assert losses[-1] < losses[0]
    assert ensemble.decode(ensemble.encode(patterns)).shape == (1, 200, len(ensemble.model.pixels))
