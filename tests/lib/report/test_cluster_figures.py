import io
from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.merging.delta_cc_half import DeltaCCHalf
from ewaldflow.lib.merging.hca import cluster
from ewaldflow.lib.merging.pairwise import Pairwise
from ewaldflow.lib.report.cluster_figures import (
    correlation_matrix,
    delta_cc_half,
    dendrogram,
    leaf_order,
)


def pairwise(cc):
    cc = np.array(cc, float)
    n = len(cc)
    common = np.where(np.isfinite(cc), 200, 3)
    names = tuple(f"series {i}" for i in range(n))
    return Pairwise(names, cc, common, common.astype(float), np.full(n, 0.9), 20)


def two_blocks(n, between=0.3):
    label = np.arange(n) % 2
    cc = np.where(label[:, None] == label, 0.9, between)
    cc += 0.01 * np.cos(np.add.outer(np.arange(n), np.arange(n)) + np.arange(n)[:, None] * 0)
    np.fill_diagonal(cc, 1)
    return pairwise(cc)


def drawn(figure):
    out = io.BytesIO()
    figure.savefig(out, format="svg")
    return out.getvalue().decode()


def test_members_lie_together_and_are_framed():
    correlations = two_blocks(10)
    found = cluster(correlations)
    assert found.members == ((0, 2, 4, 6, 8), (1, 3, 5, 7, 9))
    order = leaf_order(found)
    assert sorted(order.tolist()) == list(range(10))
    assert len({i % 2 for i in order[:5]}) == 1
    figure = correlation_matrix(correlations, found)
    panel = figure.axes[0]
    assert sorted((p.get_x(), p.get_width()) for p in panel.patches) == [(-0.5, 5), (4.5, 5)]
    shown = panel.images[0].get_array()
    assert shown.shape == (10, 10)
    assert shown.mask.sum() == 10  # the diagonal


def test_absent_pairs_are_not_drawn_as_numbers():
    cc = two_blocks(6).cc
    cc[0, 3] = cc[3, 0] = np.nan
    found = cluster(pairwise(cc))
    shown = correlation_matrix(pairwise(cc), found).axes[0].images[0].get_array()
    assert shown.mask.sum() == 6 + 2


def test_the_tree_has_its_cut_and_its_colours():
    found = cluster(two_blocks(10))
    panel = dendrogram(found).axes[0]
    assert any(line.get_ydata()[0] == pytest.approx(found.cut) for line in panel.lines
               if len(line.get_ydata()) == 2)  # fmt: skip
    branches = [line for line in panel.lines if len(line.get_ydata()) == 4]
    assert len(branches) == 9
    assert len({line.get_color() for line in branches}) == 3


def test_branches_that_nothing_joins_are_dashed():
    cc = np.full((4, 4), np.nan)
    cc[:2, :2] = cc[2:, 2:] = 0.9
    np.fill_diagonal(cc, 1)
    panel = dendrogram(cluster(pairwise(cc))).axes[0]
    assert sum(line.get_linestyle() == "--" for line in panel.lines) == 1


@pytest.mark.parametrize("n", [1, 2, 70])
def test_any_number_of_data_sets_can_be_drawn(n):
    correlations = two_blocks(n, 0.8)
    found = cluster(correlations, min_size=1)
    assert "<svg" in drawn(correlation_matrix(correlations, found))
    assert "<svg" in drawn(dendrogram(found))
    everything = replace(found, members=())
    assert "<svg" in drawn(dendrogram(everything))


def test_delta_cc_half_shows_harm():
    found = DeltaCCHalf(("a", "b", "c"), 0.9, np.array([0.88, 0.95, np.nan]),
                        np.array([0.02, -0.05, np.nan]))  # fmt: skip
    bars = delta_cc_half(found).axes[0].patches
    assert [round(bar.get_height(), 6) for bar in bars] == [2.0, -5.0, 0.0]
    assert bars[0].get_facecolor() != bars[1].get_facecolor()
