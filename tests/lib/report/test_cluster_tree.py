from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest

from ewaldflow.lib.merging.hca import Clusters, cluster
from ewaldflow.lib.merging.pairwise import Pairwise
from ewaldflow.lib.merging.part import Branch
from ewaldflow.lib.report.cluster_tree import cluster_tree, command

NAMES = ("a", "b & <b>", "c", "d")


def tree() -> Clusters:
    """a and b at CC 0.99, c and d at 0.98, the two pairs at 0.5."""
    cc = np.full((4, 4), 0.5)
    cc[0, 1] = cc[1, 0] = 0.99
    cc[2, 3] = cc[3, 2] = 0.98
    np.fill_diagonal(cc, 1.0)
    n = np.full((4, 4), 100)
    pairwise = Pairwise(NAMES, cc, n, n.astype(float), np.ones(4), 20)
    return cluster(pairwise, cut=0.5)


def bare(clusters: Clusters) -> list[Branch]:
    members = [(0, 1), (2, 3), (0, 1, 2, 3)]
    return [
        Branch(m, tuple(NAMES[i] for i in m), float(h), None, "too much")
        for m, h in zip(members, clusters.heights, strict=True)
    ]


@pytest.fixture(scope="module")
def shown() -> str:
    clusters = tree()
    return cluster_tree(clusters, bare(clusters), "merge/x@v0001")


def data(shown: str) -> list[dict]:
    found = re.search(r'id="branches">(.*?)</script>', shown, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_every_branch_can_be_chosen_by_mouse_and_keys(shown: str) -> None:
    nodes = re.findall(r'<g class="node" ([^>]*)>', shown)
    assert len(nodes) == 3
    assert all('role="button"' in one and "aria-label=" in one for one in nodes)
    # one of them is reached by Tab, the others from it by arrow keys
    assert sum('tabindex="0"' in one for one in nodes) == 1
    assert [one["up"] for one in data(shown)] == [2, 2, -1]
    assert sorted(data(shown)[2]["down"]) == [0, 1]
    assert data(shown)[0]["down"] == [-1, -1]


def test_arrow_keys_go_where_the_branch_is_drawn(shown: str) -> None:
    dots = [float(x) for x in re.findall(r'<circle class="dot" cx="([\d.]+)"', shown)]
    left, right = data(shown)[2]["down"]
    assert dots[left] < dots[2] < dots[right]


def test_commands_name_the_series_of_their_branch(shown: str) -> None:
    told = [shlex.split(one["shown"]["command"]) for one in data(shown)]
    assert told[0] == ["ewaldflow", "merge", "merge/x@v0001", "a", "b & <b>"]
    assert told[2][3:] == list(NAMES)
    assert command("merge/x@v0001", ["c"]) == "ewaldflow merge merge/x@v0001 c"


def test_the_largest_cluster_is_chosen_at_first(shown: str) -> None:
    # two clusters of two: the first
    assert re.search(r'tabindex="0" aria-pressed="true" aria-label="2 series', shown)
    assert '<span data-field="members">a, b &amp; &lt;b&gt;</span>' in shown
    assert "No figures: too much." in shown


def test_heights_are_drawn_to_scale(shown: str) -> None:
    clusters = tree()
    y = [float(v) for v in re.findall(r'<circle class="dot" cx="[\d.]+" cy="([\d.]+)"', shown)]
    foot = 316.0  # 16 px above and 300 px of tree
    heights = foot - np.array(y)
    np.testing.assert_allclose(
        heights / heights[2], clusters.heights / clusters.heights[2], atol=1e-3
    )


def test_names_from_outside_are_text_not_html(shown: str) -> None:
    assert "<b>" not in shown
    assert "b &amp; &lt;b&gt;" in shown


def test_branches_without_common_reflections_are_dashed() -> None:
    clusters = tree()
    clusters.linkage[2, 2] = np.inf
    shown = cluster_tree(clusters, bare(clusters), "merge/x@v0001")
    assert shown.count('stroke-dasharray="5 4"') == 1
    assert data(shown)[2]["shown"]["height"] == "no common reflections"
