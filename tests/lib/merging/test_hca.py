import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import is_valid_linkage
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.cut import qualities, silhouette
from ewaldflow.lib.merging.hca import cluster
from ewaldflow.lib.merging.linkage import LINKAGES, distances, linkage_of
from ewaldflow.lib.merging.pairwise import Pairwise, pairwise_correlations
from ewaldflow.lib.simulation.data_sets import crystal, filled, framework

OPERATORS = candidate_operators("oP")


def pairwise(cc, n_common=200):
    cc = np.array(cc, float)
    n = np.where(np.isfinite(cc), n_common, 0)
    names = tuple(f"s{i + 1}" for i in range(len(cc)))
    return Pairwise(names, cc, n, n.astype(float), np.full(len(cc), 0.9), 20)


def drawn(quality, labels, between, n_common=200, seed=0):
    """Coefficients of structures that correlate `between`, with Fisher's noise."""
    labels = np.asarray(labels)
    true = np.outer(quality, quality) * np.where(labels[:, None] == labels, 1, between)
    noise = np.triu(np.random.default_rng(seed).normal(size=true.shape), 1) / np.sqrt(n_common - 3)
    cc = np.tanh(np.arctanh(np.clip(true, -0.99, 0.99)) + noise + noise.T)
    np.fill_diagonal(cc, 1)
    return pairwise(cc, n_common)


def test_the_distance_is_that_of_the_thesis_and_negative_is_far():
    d = distances(pairwise([[1, 0.6, -0.9], [0.6, 1, np.nan], [-0.9, np.nan, 1]]))
    assert d[0, 1] == pytest.approx(0.8)  # sqrt(1 - 0.36)
    assert d[0, 2] == 1
    assert np.isnan(d[1, 2])
    assert np.diag(d).tolist() == [0, 0, 0]


def test_average_linkage_by_hand():
    # d: 12 0.2, 13 0.6, 23 0.8, 14 0.9, 24 0.9, 34 0.3
    d = np.array([[0, 0.2, 0.6, 0.9], [0.2, 0, 0.8, 0.9], [0.6, 0.8, 0, 0.3], [0.9, 0.9, 0.3, 0]])
    tree = linkage_of(d)
    assert tree[:, :2].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert tree[:, 2] == pytest.approx([0.2, 0.3, 0.8])  # (0.6 + 0.8 + 0.9 + 0.9) / 4
    assert tree[:, 3].tolist() == [2, 2, 4]


def test_an_absent_pair_is_neither_near_nor_far():
    # without 1-4: the mean of the three others
    d = np.array([[0, 0.2, 0.6, np.nan], [0.2, 0, 0.8, 0.9], [0.6, 0.8, 0, 0.3],
                  [np.nan, 0.9, 0.3, 0]])  # fmt: skip
    assert linkage_of(d)[2, 2] == pytest.approx((0.6 + 0.8 + 0.9) / 3)
    assert linkage_of(d, "single")[2, 2] == pytest.approx(0.6)
    assert linkage_of(d, "complete")[2, 2] == pytest.approx(0.9)


def test_parts_without_a_pair_are_never_one_cluster():
    cc = np.full((4, 4), np.nan)
    cc[:2, :2] = cc[2:, 2:] = 0.9
    np.fill_diagonal(cc, 1)
    found = cluster(pairwise(cc))
    assert np.isinf(found.heights[-1])
    assert found.members == ((0, 1), (2, 3))
    assert "2 parts share too few reflections" in found.why
    assert cluster(pairwise(cc), cut=100.0).members == ((0, 1), (2, 3))


@given(seed=st.integers(0, 200), method=st.sampled_from(LINKAGES))
@settings(max_examples=40, deadline=None)
def test_with_all_pairs_it_is_scipys_and_with_some_a_valid_tree(seed, method):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 12))
    d = squareform(rng.random(n * (n - 1) // 2))
    whole = scipy_linkage(squareform(d), method)
    assert np.allclose(linkage_of(d, method)[:, 2], whole[:, 2])
    # an object that shares nothing leaves the others' tree as it was
    more = np.full((n + 1, n + 1), np.nan)
    more[:n, :n] = d
    tree = linkage_of(more, method)
    assert np.allclose(tree[:-1, 2], whole[:, 2])
    assert np.isinf(tree[-1, 2])
    d[rng.random((n, n)) < 0.3] = np.nan
    d = np.fmin(d, d.T) + 0 * d + 0 * d.T
    some = linkage_of(d, method)
    assert is_valid_linkage(np.where(np.isinf(some), 9.0, some))
    assert np.all(np.diff(np.minimum(some[:, 2], 9)) >= -1e-12)


def test_silhouette_by_hand():
    d = np.array([[0, 0.2, 0.8], [0.2, 0, 0.6], [0.8, 0.6, 0.0]])
    # s1 (0.8 - 0.2) / 0.8, s2 (0.6 - 0.2) / 0.6, s3 alone 0
    expected = (0.75 + 2 / 3 + 0) / 3
    assert silhouette(d, np.array([0, 0, 1])) == pytest.approx(expected)
    assert np.isnan(silhouette(d, np.array([1, 1, 1])))


def test_qualities_explain_the_coefficients_within_clusters():
    true = np.array([0.9, 0.8, 0.7, 0.95, 0.5])
    cc = np.outer(true, true)
    np.fill_diagonal(cc, 1)
    assert qualities(pairwise(cc), np.zeros(5, int)) == pytest.approx(true, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_two_structures_are_cut_apart_and_one_is_not(seed):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(0.7, 0.95, 18)
    two = cluster(drawn(quality, [0] * 12 + [1] * 6, 0.6, seed=seed))
    assert two.members == (tuple(range(12)), tuple(range(12, 18)))
    one = cluster(drawn(quality, [0] * 18, 1, seed=seed))
    assert one.members == (tuple(range(18)),)
    assert np.isnan(one.silhouette)


def test_an_outlier_is_named_with_its_best_partner():
    found = cluster(drawn([0.9] * 8, [0] * 7 + [1], 0.2))
    assert found.members == (tuple(range(7)),)
    (left,) = found.unassigned
    assert left.index == 7
    assert left.name == "s8"
    assert "best CC is" in left.reason
    assert found.labels.tolist() == [0] * 7 + [-1]


def test_crystals_of_two_structures_with_one_cell():
    mfi, other = framework("MFI", d_min_A=1.3), filled("MFI")
    sets = [crystal(mfi, i, range_deg=10 + 5 * i) for i in range(7)]
    sets += [crystal(other, 50 + i, range_deg=15 + 5 * i) for i in range(5)]
    found = cluster(pairwise_correlations(sets, OPERATORS))
    assert found.members == (tuple(range(7)), tuple(range(7, 12)))
    assert found.heights[-1] > found.cut > found.heights[-2]


def test_a_given_cut_and_least_size():
    correlations = drawn([0.9] * 6, [0, 0, 0, 1, 1, 2], 0.3)
    assert cluster(correlations, cut=0.8).members == ((0, 1, 2), (3, 4))
    assert cluster(correlations, cut=0.8, min_size=1).members == ((0, 1, 2), (3, 4), (5,))
    small = cluster(correlations, cut=0.8, min_size=3)
    assert small.members == ((0, 1, 2),)
    assert [u.index for u in small.unassigned] == [3, 4, 5]
    assert small.criterion == "given"


def test_identical_copies_are_one_cluster():
    found = cluster(pairwise(np.ones((200, 200))))
    assert found.members == (tuple(range(200)),)


def test_one_two_and_disjoint_data_sets():
    one = cluster(pairwise([[1.0]]), min_size=1)
    assert one.members == ((0,),)
    assert one.linkage.shape == (0, 4)
    two = cluster(pairwise([[1, 0.8], [0.8, 1]]))
    assert two.members == ((0, 1),)
    disjoint = cluster(pairwise([[1, np.nan], [np.nan, 1]]))
    assert disjoint.members == ()
    assert all("shares 0 reflections" in u.reason for u in disjoint.unassigned)
    dead = cluster(pairwise([[np.nan, np.nan], [np.nan, 1]]))
    assert dead.unassigned[0].reason == "its intensities do not vary"


def test_the_same_seed_gives_the_same_clusters():
    correlations = drawn([0.6] * 10, [0] * 5 + [1] * 5, 0.5)
    first, second = cluster(correlations, seed=3), cluster(correlations, seed=3)
    assert first.members == second.members
    assert first.why == second.why


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "ward"}, "method: found 'ward'"),
        ({"cut": 0.0}, "cut: found 0.0"),
        ({"cut": float("nan")}, "cut: found nan"),
        ({"min_size": 0}, "min_size: found 0"),
    ],
)
def test_what_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        cluster(pairwise([[1, 0.8], [0.8, 1]]), **options)
