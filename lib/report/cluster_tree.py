"""The tree of a phase's series to choose a branch from: its figures of merit and its command."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..merging.hca import Clusters
from ..merging.part import Branch
from . import html
from .cluster_figures import leaf_order
from .html import LATTICE_COLOURS, Safe, escape
from .notation import rounded

_GREY = "#6b7580"
# The drawing in px: what is left, above and below the tree, its height, and room for a series.
_LEFT, _TOP, _FOOT, _HEIGHT = 64, 16, 150, 300
_WIDTH, _LEAST_STEP, _MOST_STEP = 960, 13, 64
_NAME_LENGTH = 22

_STYLE = """
.tree .line { fill: none; stroke-width: 1.6; }
.tree .hit { fill: none; stroke: transparent; stroke-width: 14; pointer-events: stroke; }
.tree .node { cursor: pointer; outline: none; }
.tree .node:hover .dot, .tree .node:focus .dot { stroke: #111; stroke-width: 2.5; }
.tree .node:focus .dot { r: 8px; }
.tree .on .line { stroke-width: 4; }
.tree text { font: 11.5px sans-serif; fill: #1c2530; }
.tree text.on { font-weight: 700; text-decoration: underline; }
"""

# Fills in what belongs to the branch chosen; arrow keys walk the tree.
_SCRIPT = r"""
(() => {
  const box = document.querySelector(".tree"), panel = document.querySelector(".branch");
  const data = JSON.parse(document.getElementById("branches").textContent);
  const nodes = Array.from(box.querySelectorAll(".node"));
  const leaves = Array.from(box.querySelectorAll("text.leaf"));
  const kept = location.protocol === "file:" &&
    /^(.*)\/phase-report\/[^/]+\/v\d+\/files\/[^/]*$/.exec(decodeURIComponent(location.pathname));
  const quoted = text => /^[\w@%+=:,.\/-]+$/.test(text) ? text : "'" + text + "'";
  const store = kept ? " --store " + quoted(kept[1]) : "";
  const under = k => k < 0 ? [] : [k, ...under(data[k].down[0]), ...under(data[k].down[1])];
  const choose = (k, focus) => {
    const on = new Set(under(k)), members = new Set(data[k].members);
    nodes.forEach((node, i) => {
      node.classList.toggle("on", on.has(i));
      node.setAttribute("aria-pressed", i === k);
      node.setAttribute("tabindex", i === k ? 0 : -1);
    });
    leaves.forEach(leaf => leaf.classList.toggle("on", members.has(+leaf.dataset.leaf)));
    for (const [name, text] of Object.entries(data[k].shown))
      panel.querySelector("[data-field=" + name + "]").textContent =
        text + (name === "command" ? store : "");
    if (focus) nodes[k].focus();
  };
  const way = {ArrowUp: d => d.up, ArrowDown: d => Math.max(...d.down),
    ArrowLeft: d => d.down[0], ArrowRight: d => d.down[1]};
  nodes.forEach((node, k) => {
    node.addEventListener("click", () => choose(k, true));
    node.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(k, true); }
      if (!way[event.key]) return;
      event.preventDefault();
      const to = way[event.key](data[k]);
      if (to >= 0) choose(to, true);
    });
  });
  const button = panel.querySelector("button"), code = panel.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(code);
    const said = text => { button.textContent = text; };
    (navigator.clipboard ? navigator.clipboard.writeText(code.textContent) : Promise.reject())
      .then(() => said("copied"), () => said("selected: press Ctrl+C"));
  });
  choose(nodes.findIndex(node => node.getAttribute("aria-pressed") === "true"), false);
})();
"""

_FIELDS = {
    "n": "Series", "cc_half": "CC1/2", "completeness": "Completeness",
    "multiplicity": "Multiplicity", "r_meas": "R_meas", "height": "Joined at",
}  # fmt: skip


@dataclass(frozen=True)
class _Place:
    """Where a leaf or branch stands in the drawing, px."""

    x: float
    y: float


def cluster_tree(clusters: Clusters, branches: Sequence[Branch], ref: str) -> Safe:
    """The tree, what is known of the branch chosen, and all branches as a table.

    Parameters
    ----------
    clusters : the tree and its cut; of two series or more.
    branches : of `merging.part.branches`, in the order of the joins.
    ref : reference of the merge, which the commands name.
    """
    first = _first_shown(clusters, branches)
    n = len(clusters.names)
    shown = [_shown(one, ref) for one in branches]
    upwards = _parents(clusters)
    at = np.argsort(leaf_order(clusters))  # places of the series along the foot

    def leftmost(i: int) -> int:
        return int(at[i] if i < n else min(at[list(branches[i - n].members)]))

    told = [
        {
            "shown": text,
            "members": list(one.members),
            "down": [
                int(i) - n if i >= n else -1
                for i in sorted(clusters.linkage[k, :2].astype(int), key=leftmost)
            ],
            "up": upwards[k],
        }
        for k, (one, text) in enumerate(zip(branches, shown, strict=True))
    ]
    facts = html.facts({label: _field(name, shown[first][name]) for name, label in _FIELDS.items()})
    panel = (
        f'<div class="branch" aria-live="polite"><h3>The branch chosen</h3>{facts}'
        f"<p>{_field('why', shown[first]['why'])}</p>"
        f"<p>Series: {_field('members', shown[first]['members'])}.</p>"
        "<p>To merge it by itself, in the same space group and to the same resolution:</p>"
        f'<pre><code data-field="command">{escape(shown[first]["command"])}</code></pre>'
        "<p><button type=button hidden>Copy the command</button></p></div>"
    )
    return Safe(
        "<figure><div class=scroll>" + _drawing(clusters, branches, shown, first) + "</div>"
        f"<figcaption>Distance √(1 − CC²), {escape(clusters.method)} linkage. "
        f"{escape(clusters.why.rstrip('.'))}. Choose a branch with the mouse, or with Tab and the "
        "arrow keys: up to what it is part of, left and right to its parts.</figcaption></figure>"
        + panel
        + html.details("All branches as a table", _table(branches, ref))
        + html.data("branches", told)
        + html.script(_SCRIPT)
    )


def command(ref: str, names: Sequence[str]) -> str:
    """What merges some series of a merge by themselves."""
    return shlex.join(["ewaldflow", "merge", ref, *names])


def _field(name: str, text: str) -> Safe:
    return Safe(f'<span data-field="{name}">{escape(text)}</span>')


def _shown(branch: Branch, ref: str) -> dict[str, str]:
    s = branch.statistics
    none = "–"
    return {
        "n": f"{len(branch.names)}",
        "height": f"{branch.height:.3f}" if np.isfinite(branch.height) else "no common reflections",
        "cc_half": rounded(s.cc_half, 4) if s else none,
        "completeness": f"{100 * s.completeness:.1f} %" if s else none,
        "multiplicity": rounded(s.multiplicity, 1) if s else none,
        "r_meas": rounded(s.r_meas, 3) if s else none,
        "why": f"{s.d_max_A:.1f} to {s.d_min_A:.2f} Å, {s.n_observed} observations of {s.n_unique} "
        "unique reflections." if s else f"No figures: {branch.why}.",
        "members": ", ".join(branch.names),
        "command": command(ref, branch.names),
    }  # fmt: skip


def _table(branches: Sequence[Branch], ref: str) -> Safe:
    rows = []
    for one in sorted(branches, key=lambda one: -len(one.members)):
        s, text = one.statistics, _shown(one, ref)
        rows.append(
            [
                len(one.names),
                html.Exact(text["height"], one.height),
                html.Exact(text["cc_half"], s and s.cc_half),
                html.Exact(text["completeness"], s and s.completeness),
                html.Exact(text["multiplicity"], s and s.multiplicity),
                html.Exact(text["r_meas"], s and s.r_meas),
                text["members"],
            ]
        )
    return html.table(
        ["series", "joined at", "CC1/2", "completeness", "multiplicity", "R_meas", "members"],
        rows,
        numeric=range(6),
        name="branches",
    )


def _first_shown(clusters: Clusters, branches: Sequence[Branch]) -> int:
    """The largest cluster if it is a branch, else everything."""
    largest = clusters.members[0] if clusters.members else ()
    for k, one in enumerate(branches):
        if one.members == tuple(sorted(largest)):
            return k
    return len(branches) - 1


def _parents(clusters: Clusters) -> list[int]:
    n = len(clusters.names)
    above = [-1] * len(clusters.linkage)
    for k, pair in enumerate(clusters.linkage[:, :2].astype(int)):
        for i in pair:
            if i >= n:
                above[i - n] = k
    return above


def _drawing(
    clusters: Clusters, branches: Sequence[Branch], shown: Sequence[dict[str, str]], first: int
) -> Safe:
    n = len(clusters.names)
    step = float(np.clip((_WIDTH - _LEFT - 20) / n, _LEAST_STEP, _MOST_STEP))
    width = _LEFT + n * step + 20
    finite = clusters.heights[np.isfinite(clusters.heights)]
    top = 1.1 * max(float(finite.max(initial=0.0)), min(clusters.cut, 1.0), 0.05)

    def y_of(height: float) -> float:
        return _TOP + _HEIGHT * (1 - min(height, top) / top)

    places: list[_Place] = [_Place(0, 0)] * n
    for at, leaf in enumerate(leaf_order(clusters)):
        places[leaf] = _Place(_LEFT + (at + 0.5) * step, y_of(0))
    parts = [_axis(top, y_of, width), _cut(clusters.cut, top, y_of, width)]
    for leaf, place in enumerate(places[:n]):
        name = clusters.names[leaf]
        short = name if len(name) <= _NAME_LENGTH else f"…{name[1 - _NAME_LENGTH :]}"
        parts.append(
            f'<text class="leaf" data-leaf="{leaf}" text-anchor="end" transform="translate('
            f'{place.x + 4:.1f} {place.y + 8:.1f}) rotate(-90)">{escape(short)}</text>'
        )
    for k, (a, b) in enumerate(clusters.linkage[:, :2].astype(int)):
        y = y_of(float(clusters.heights[k]))
        left, right = sorted((places[a], places[b]), key=lambda p: p.x)
        places.append(_Place((left.x + right.x) / 2, y))
        path = f"M{left.x:.1f} {left.y:.1f}V{y:.1f}H{right.x:.1f}V{right.y:.1f}"
        text = shown[k]
        label = (
            f"{text['n']} series joined at {text['height']}: CC1/2 {text['cc_half']}, complete "
            f"{text['completeness']}, multiplicity {text['multiplicity']}, R_meas {text['r_meas']}"
        )
        dashes = "" if np.isfinite(clusters.heights[k]) else ' stroke-dasharray="5 4"'
        colour = _colour(clusters, branches[k].members)
        parts.append(
            f'<g class="node" role="button" tabindex="{0 if k == first else -1}" '
            f'aria-pressed="{"true" if k == first else "false"}" aria-label="{escape(label)}">'
            f'<path class="hit" d="{path}"/>'
            f'<path class="line" d="{path}" stroke="{colour}"{dashes}/>'
            f'<circle class="dot" cx="{places[-1].x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/></g>'
        )
    height = _TOP + _HEIGHT + _FOOT
    return Safe(
        f'<svg class="tree" role="group" aria-label="Tree of {n} series by the correlation of '
        f'their intensities" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} '
        f'{height}"><style>{_STYLE}</style>{"".join(parts)}</svg>'
    )


def _colour(clusters: Clusters, members: Sequence[int]) -> str:
    labels = set(clusters.labels[list(members)].tolist())
    number = labels.pop()
    return _GREY if labels or number < 0 else LATTICE_COLOURS[number % len(LATTICE_COLOURS)]


def _axis(top: float, y_of: Callable[[float], float], width: float) -> str:
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if top / s <= 7)
    lines = []
    for i in range(int(top / step) + 1):
        y = y_of(i * step)
        lines.append(
            f'<path d="M{_LEFT} {y:.1f}H{width - 16:.0f}" stroke="#e3e7eb"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{i * step:.2f}</text>'
        )
    middle = _TOP + _HEIGHT / 2
    return "".join(lines) + (
        f'<text text-anchor="middle" transform="translate(16 {middle}) rotate(-90)">'
        "distance √(1 − CC²)</text>"
    )


def _cut(cut: float, top: float, y_of: Callable[[float], float], width: float) -> str:
    if not cut < top:
        return ""
    y = y_of(cut)
    return (
        f'<path d="M{_LEFT} {y:.1f}H{width - 16:.0f}" stroke="#b34a00" stroke-dasharray="3 4"/>'
        f'<text x="{width - 18:.0f}" y="{y - 4:.1f}" text-anchor="end">cut {cut:.3f}</text>'
    )
