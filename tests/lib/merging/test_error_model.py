import numpy as np
import pytest

from ewaldflow.lib.merging.error_model import (
    common_error_model,
    corrected_sigmas,
    set_error_models,
)
from ewaldflow.lib.reduction.scaling import ErrorModel


def repeats(rng, n_groups, per_set, a, b):
    """Each set sees each reflection `per_set` times; sigmas are too small by a and b."""
    true = rng.exponential(100, n_groups)
    member = np.repeat(np.arange(len(a)), n_groups * per_set)
    group = np.tile(np.repeat(np.arange(n_groups), per_set), len(a))
    sigma = np.sqrt(true[group] + 4)
    real = np.array(a)[member] * np.hypot(sigma, np.array(b)[member] * true[group])
    return member, group, true[group] + real * rng.normal(size=len(group)), sigma


def test_each_set_has_its_own_a_and_b():
    rng = np.random.default_rng(0)
    a, b = [1.0, 2.0, 0.7, 1.0], [0.05, 0.0, 0.1, 0.3]
    member, group, i, sigma = repeats(rng, 800, 1, a, b)
    found = set_error_models(
        member, group, i, sigma, np.zeros(len(i)), ErrorModel(1.1, 0.08, 0.0), 4
    )
    assert [m.a for m in found] == pytest.approx(a, rel=0.15)
    assert [m.b for m in found] == pytest.approx(b, abs=0.05)


def test_a_set_with_few_repeats_keeps_the_common_model():
    rng = np.random.default_rng(1)
    member, group, i, sigma = repeats(rng, 500, 1, [1.0, 1.0, 5.0], [0.05, 0.05, 0.05])
    few = (member < 2) | (np.arange(len(i)) % 500 < 3)
    common = ErrorModel(1.0, 0.05, 0.0)
    found = set_error_models(
        member[few], group[few], i[few], sigma[few], np.zeros(few.sum()), common, 4
    )
    assert found[2].a < 2.5
    assert found[3].a == pytest.approx(1.0)  # it has none at all
    assert found[3].b == pytest.approx(0.05)


def test_without_any_repeat_all_keep_the_common_model():
    common = ErrorModel(1.3, 0.1, 0.2)
    one = np.ones(3)
    assert set_error_models(np.array([0, 0, 1]), np.arange(3), one, one, one, common, 2) == (
        common,
        common,
    )
    assert common_error_model(np.arange(200), np.ones(200), np.ones(200), np.ones(200)) is None


def test_a_few_wild_ones_do_not_inflate_a_set():
    rng = np.random.default_rng(2)
    member, group, i, sigma = repeats(rng, 800, 1, [1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    wild = rng.random(len(i)) < 0.01
    found = set_error_models(
        member, group, i + 30 * sigma * wild, sigma, np.zeros(len(i)), ErrorModel(1.2), 3,
        robust=True,
    )  # fmt: skip
    assert [m.a for m in found] == pytest.approx([1.0] * 3, abs=0.12)


def test_the_common_model_of_many_observations_comes_from_a_sample():
    rng = np.random.default_rng(3)
    # 2000 reflections 150 times: 300,000 observations
    _, group, i, sigma = repeats(rng, 2000, 1, [1.5] * 150, [0.1] * 150)
    found = common_error_model(group, i, sigma, np.full(len(i), 100.0))
    assert found is not None
    corrected = corrected_sigmas(
        (found,),
        np.zeros(len(i), int),
        sigma,
        np.bincount(group, i)[group] / 150,
        np.full(len(i), 100.0),
    )
    mean = (np.bincount(group, i) / np.bincount(group))[group]
    z = (i - mean) / corrected
    for part in np.array_split(np.argsort(mean), 4):
        assert z[part].std() == pytest.approx(1, abs=0.06)


def test_sigmas_by_hand():
    models = (ErrorModel(2.0, 0.0, 0.0), ErrorModel(1.0, 0.5, 0.25))
    found = corrected_sigmas(
        models, np.array([0, 1, 1]), np.array([3.0, 3.0, 3.0]), np.array([8.0, 8.0, -8.0]),
        np.array([1.0, 2.0, 2.0]),
    )  # fmt: skip
    # 2 x 3; sqrt(9 + 0.25 x 8 x 2 + 16) = sqrt(29); a negative mean adds nothing
    assert found == pytest.approx([6.0, np.sqrt(29), 3.0])
