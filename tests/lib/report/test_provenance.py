from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.artefacts import ArtefactStore, CodeVersion, Input, Manifest, Recipe
from ewaldflow.lib.report.lineage import lineage_graph, lineage_svg
from ewaldflow.lib.report.provenance import provenance_section


def _made(
    kind: str, name: str, inputs: Sequence[str] = (), files: Sequence[str] = (), version: int = 1
) -> Manifest:
    return Manifest.model_validate(
        {
            "kind": kind, "name": name, "version": version, "key": "0" * 64,
            "inputs": [
                *({"role": "x", "digest": "a" * 64, "artefact": ref} for ref in inputs),
                *({"role": "raw", "digest": "b" * 64, "path": path} for path in files),
            ],
            "configuration": {"threshold": 3.5, "of": kind},
            "code": CodeVersion(version="1.0", git_commit=None, git_dirty=False, digest="c" * 64),
            "packages": {"numpy": "2.0"}, "python": "3.12", "seconds": 1.5,
            "created": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:01Z",
            "files": {}, "tree_digest": "d" * 64,
        }
    )  # fmt: skip


SERIES = _made("series", "a", files=["/data/a/1.img", "/data/a/2.img"])
REDUCTION = _made("reduction", "a", ["series/a@v0001"])
PHASES = _made("phases", "s", ["reduction/a@v0001"])
MERGE = _made("merge", "s", ["phases/s@v0001", "reduction/a@v0001"])


def test_graph_goes_from_files_to_page_in_layers() -> None:
    graph = lineage_graph([MERGE, SERIES, PHASES, REDUCTION])
    layers = {node: graph.nodes[node]["layer"] for node in graph}
    assert layers == {
        "files of series/a@v0001": 0, "series/a@v0001": 1, "reduction/a@v0001": 2,
        "phases/s@v0001": 3, "merge/s@v0001": 4, "page": 5,
    }  # fmt: skip
    assert set(graph.edges) == {
        ("files of series/a@v0001", "series/a@v0001"),
        ("series/a@v0001", "reduction/a@v0001"),
        ("reduction/a@v0001", "phases/s@v0001"),
        ("reduction/a@v0001", "merge/s@v0001"),
        ("phases/s@v0001", "merge/s@v0001"),
        ("merge/s@v0001", "page"),
    }


def test_many_of_a_kind_share_a_box_and_list_every_digest_and_configuration_once() -> None:
    many = [_made("reduction", f"r{k}", [f"series/s{k}@v0001"]) for k in range(30)]
    many += [_made("series", f"s{k}", files=[f"/d/{k}.mrc"]) for k in range(30)]
    graph = lineage_graph(many)
    assert set(graph) == {"reduction", "series", "files of series", "page"}
    page = provenance_section(many)
    assert all(f"reduction/r{k}@v0001" in page for k in range(30))
    assert all(f"/d/{k}.mrc" in page for k in range(30))
    assert page.count("threshold: 3.5") == 2  # one for each kind


def test_every_box_leads_to_details_that_exist() -> None:
    page = provenance_section([SERIES, REDUCTION, PHASES, MERGE])
    (svg,) = re.findall("<svg.*</svg>", page)
    ElementTree.fromstring(svg)  # is well-formed
    anchors = re.findall(r'<a href="#([^"]+)"', svg)
    assert len(anchors) == 5  # all but the page
    assert all(f'<details id="{anchor}">' in page for anchor in anchors)
    assert "a" * 64 not in page  # inputs are boxes of their own
    assert "d" * 64 in page


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20),
    st.lists(st.sampled_from("abc"), min_size=7, max_size=7),
)
def test_any_history_can_be_drawn(edges: list[tuple[int, int]], kinds: list[str]) -> None:
    refs = [f"{kind}/{n}@v0001" for n, kind in enumerate(kinds)]
    inputs: dict[int, list[str]] = {n: [] for n in range(7)}
    for a, b in edges:
        if a != b:
            inputs[max(a, b)].append(refs[min(a, b)])
    made = [_made(kind, str(n), inputs[n]) for n, kind in enumerate(kinds)]
    svg = lineage_svg(lineage_graph(made))
    boxes = [
        (float(x), float(y))
        for x, y in re.findall(r'<rect class="\w+" x="([-\d.]+)" y="([-\d.]+)"', svg)
    ]
    assert len(boxes) == len(set(boxes)) == len(lineage_graph(made))
    for x, y in boxes:
        assert x >= 0
        assert not any(0 < other_x - x < 196 for other_x, other_y in boxes if other_y == y)
    assert svg == lineage_svg(lineage_graph(made))


def test_an_artefact_that_is_gone_is_left_out_of_its_descendants_history(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path, CodeVersion(version="1", digest="e" * 64))
    refs: list[str] = []
    for kind in ("one", "two", "three"):
        inputs = (Input.from_artefact("x", store.get(refs[-1])),) if refs else ()
        with store.draft(Recipe(kind=kind, name="n", inputs=inputs)) as draft:
            (draft.files / "f").write_text(kind)
            refs.append(draft.publish().ref)
    assert [one.ref for one in store.ancestors(refs[-1])] == refs
    store.folder(refs[0]).rename(tmp_path / "elsewhere")
    assert [one.ref for one in store.ancestors(refs[-1])] == refs[1:]
