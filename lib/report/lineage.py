"""The graph of what a page was made from: artefacts and raw files, drawn in layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from ..artefacts.manifest import Manifest
from . import html
from .html import Safe

PAGE = "page"
_WIDTH, _HEIGHT, _ROW = 196, 58, 104  # px of a box, and from row to row
_THROUGH = 14  # px that a line needs which passes a row
_GAP = 16
_ALONE = 4  # so many of one kind have a box each; more share one
_SWEEPS = 8


@dataclass(frozen=True)
class Step:
    """A box of the graph.

    Attributes
    ----------
    kind : of the artefacts in it; "files" and "page" are no artefacts.
    members : references of the artefacts, or paths of the files.
    lines : what stands below the kind.
    anchor : of the details that the box leads to; "" for none.
    """

    kind: str
    members: tuple[str, ...]
    lines: tuple[str, ...]
    anchor: str = ""


def lineage_graph(manifests: Sequence[Manifest], files: Sequence[str] = ()) -> nx.DiGraph:
    """Boxes and what was made from what, from the raw files to this page.

    Every node has its `Step` under "step" and the number of its layer under "layer", 0 for the
    raw side. Artefacts of one kind, if there are many, share a node.

    Parameters
    ----------
    manifests : of all that a page was made from, in any order. What nothing else here was made
        from is what the page itself shows.
    files : paths of raw files that the page itself shows.
    """
    by_ref = {one.ref: one for one in manifests}
    number = Counter(one.kind for one in by_ref.values())
    node_of = {ref: one.kind if number[one.kind] > _ALONE else ref for ref, one in by_ref.items()}
    members: dict[str, list[Manifest]] = {}
    for ref, one in by_ref.items():
        members.setdefault(node_of[ref], []).append(one)
    graph = nx.DiGraph()
    for node, inside in members.items():
        graph.add_node(node, step=_step(inside))
        if raw := [item.path for one in inside for item in one.inputs if item.path]:
            graph.add_node(f"files of {node}", step=_files(node, raw))
            graph.add_edge(f"files of {node}", node)
    used = set()
    for ref, one in by_ref.items():
        for item in one.inputs:
            source = node_of.get(item.artefact or "")
            if source and source != node_of[ref]:  # of one kind, one may be made from another
                graph.add_edge(source, node_of[ref])
                used.add(source)
    graph.add_node(PAGE, step=Step(PAGE, (), ("what you are reading",)))
    if files:
        graph.add_node(f"files of {PAGE}", step=_files(PAGE, files))
        graph.add_edge(f"files of {PAGE}", PAGE)
    for node in members:
        if node not in used:
            graph.add_edge(node, PAGE)
    _break_circles(graph)
    for layer, nodes in enumerate(nx.topological_generations(graph)):
        for node in nodes:
            graph.nodes[node]["layer"] = layer
    # Raw files stand just above what was made from them, not all at the top.
    for node in list(nx.topological_sort(graph))[::-1]:
        if after := list(graph.successors(node)):
            graph.nodes[node]["layer"] = min(graph.nodes[one]["layer"] for one in after) - 1
    return graph


def _break_circles(graph: nx.DiGraph) -> None:
    """Kinds that share a box may be made from each other; the later arrow goes."""
    while not nx.is_directed_acyclic_graph(graph):
        graph.remove_edge(*nx.find_cycle(graph)[-1])


def anchor_of(node: str) -> str:
    """Of the details of a node: what an address can hold."""
    return "from-" + "".join(c if c.isalnum() else "-" for c in node)


def _step(inside: Sequence[Manifest]) -> Step:
    first = inside[0]
    refs = tuple(one.ref for one in inside)
    if len(inside) > 1:
        return Step(first.kind, refs, (f"{len(inside)} of them",), anchor_of(first.kind))
    name = f"{first.name}@v{first.version:04d}"
    return Step(first.kind, refs, (name, first.tree_digest[:16]), anchor_of(first.ref))


def _files(node: str, paths: Sequence[str]) -> Step:
    files = tuple(dict.fromkeys(paths))
    first = files[0].replace("\\", "/")
    some = f"{len(files)} file{'s' * (len(files) > 1)}"
    parts = first.split("/")
    lines = (some, "/".join(parts[-2:]) if len(files) == 1 else ".../" + "/".join(parts[-3:-1]))
    return Step("files", files, lines, anchor_of(f"files of {node}"))


def lineage_svg(graph: nx.DiGraph) -> Safe:
    """The graph as inline SVG, raw side at the top; boxes lead to their details."""
    places, width, rows = _places(graph)
    lines, boxes = [], []
    for a, b, path in _paths(graph):
        x, y = places[a][0], places[a][1] + _HEIGHT
        drawn = f"M{x:.0f} {y:.0f}"
        for node in path:
            to_x, to_y = places[node]
            middle = (y + to_y) / 2
            drawn += f"C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"
            x, y = to_x, to_y
            if node != b:
                y += _HEIGHT
                drawn += f"V{y:.0f}"
        lines.append(f'<path d="{drawn}"/>')
    for node, step in graph.nodes(data="step"):
        x, y = places[node]
        boxes.append(_box(step, x, y))
    height = rows * _ROW - (_ROW - _HEIGHT) + 4
    return Safe(
        f'<div class="scroll"><svg class="lineage" role="group" aria-label="What this page was '
        f'made from, raw files at the top" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}"><defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        f'<g class="arrows">{"".join(lines)}</g>{"".join(boxes)}</svg></div>'
    )


def _box(step: Step, x: float, y: float) -> str:
    words = [f'<text x="{x:.0f}" y="{y + 17:.0f}" class="kind">{html.escape(step.kind)}</text>']
    for k, line in enumerate(step.lines):
        short = line if len(line) <= 30 else f"{line[:14]}…{line[-15:]}"
        words.append(f'<text x="{x:.0f}" y="{y + 33 + 15 * k:.0f}">{html.escape(short)}</text>')
    kind = step.kind if step.kind in ("files", PAGE) else "made"
    inner = (
        f'<rect class="{kind}" x="{x - _WIDTH / 2:.0f}" y="{y:.0f}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="4"/>{"".join(words)}'
    )
    return f'<a href="#{step.anchor}">{inner}</a>' if step.anchor else f"<g>{inner}</g>"


def _paths(graph: nx.DiGraph) -> list[tuple[str, str, list[str]]]:
    """Every arrow with the places it passes: one in each row between, and its end."""
    found = []
    for a, b in graph.edges:
        rows = range(graph.nodes[a]["layer"] + 1, graph.nodes[b]["layer"])
        found.append((a, b, [*(f"{a} to {b} in {row}" for row in rows), b]))
    return found


def _places(graph: nx.DiGraph) -> tuple[dict[str, tuple[float, float]], float, int]:
    """Where boxes and passing lines are: x of the middle, y of the top; width, rows.

    Sugiyama's scheme: every node goes to the mean of its neighbours in the row before, up and
    down in turn, so that few arrows cross.
    """
    rows: list[list[str]] = [
        [] for _ in range(max(nx.get_node_attributes(graph, "layer").values()) + 1)
    ]
    for node, layer in graph.nodes(data="layer"):
        rows[layer].append(node)
    near: dict[str, list[str]] = {}
    for a, _, path in _paths(graph):
        for k, (one, other) in enumerate(zip([a, *path], path, strict=False)):
            near.setdefault(one, []).append(other)
            near.setdefault(other, []).append(one)
            if other not in graph:
                rows[graph.nodes[a]["layer"] + 1 + k].append(other)
    at: dict[str, float] = {node: float(k) for row in rows for k, node in enumerate(row)}
    for sweep in range(_SWEEPS):
        order = range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1)
        for k in order:
            beside = set(rows[k - 1] if sweep % 2 == 0 and k else rows[(k + 1) % len(rows)])
            wish = {
                node: _mean([at[o] for o in near.get(node, ()) if o in beside], at[node])
                for node in rows[k]
            }
            rows[k].sort(key=lambda node: (wish[node], node))
            _spread(rows[k], wish, graph, at)
    low = min(at[node] - _half(node, graph) for row in rows for node in row)
    width = max(at[node] + _half(node, graph) for row in rows for node in row) - low
    return (
        {node: (at[node] - low + 2, 2 + _ROW * k) for k, row in enumerate(rows) for node in row},
        width + 4,
        len(rows),
    )


def _half(node: str, graph: nx.DiGraph) -> float:
    return (_WIDTH if node in graph else _THROUGH) / 2


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _spread(
    row: Sequence[str], wish: Mapping[str, float], graph: nx.DiGraph, at: dict[str, float]
) -> None:
    """As near to what each wishes as room allows, the row's mean kept."""
    x, placed = -1e9, []
    for node in row:
        half = _half(node, graph)
        x = max(wish[node], x + half)
        placed.append(x)
        x += half + _GAP
    shift = _mean([wish[n] - p for n, p in zip(row, placed, strict=True)], 0.0)
    for node, place in zip(row, placed, strict=True):
        at[node] = place + shift
