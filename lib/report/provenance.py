"""Where every number came from: the artefacts, the code and the raw files."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from ..artefacts.manifest import Manifest
from ..series.rotation_series import SourceFile
from . import html
from .html import Safe
from .lineage import lineage_graph, lineage_svg
from .notation import duration

# A box leads to its details, which open for it.
_OPEN = """
for (const box of document.querySelectorAll('svg.lineage a')) box.addEventListener("click", () => {
  const made = document.querySelector(box.getAttribute("href"));
  if (made) made.open = true;
});
"""


def provenance_section(manifests: Sequence[Manifest], sources: Sequence[SourceFile] = ()) -> Safe:
    """The graph from raw files to the page, and the details of every box in it.

    Parameters
    ----------
    manifests : of all that the page was made from, as far back as is to be shown (see
        `ArtefactStore.ancestors`), raw side first.
    sources : raw files that the page shows; those that `manifests` name already count once.
    """
    files = {item.path: item.digest for one in manifests for item in one.inputs if item.path}
    direct = {one.path: one.sha256 for one in sources if one.path not in files}
    files |= direct
    if not manifests and not direct:
        return html.paragraph("This result was not stored: its provenance is not known.")
    graph = lineage_graph(manifests, list(direct))
    parts: list[str] = [
        lineage_svg(graph),
        html.paragraph("Choose a box for its digest, configuration and code.") + html.script(_OPEN),
    ]
    by_ref = {one.ref: one for one in manifests}
    for node, step in graph.nodes(data="step"):
        if step.kind == "files":
            rows = [[_code(path), _code(files[path])] for path in step.members]
            heading = f"{node[0].upper()}{node[1:]} ({len(rows)})"
            parts.append(_details(step.anchor, heading, html.table(["File", "SHA-256"], rows)))
        elif step.members:
            parts.append(_artefacts(step.anchor, [by_ref[ref] for ref in step.members]))
    if manifests:
        last = {"python": manifests[-1].python, **manifests[-1].packages}
        versions = html.table(["Package", "version"], last.items(), name="packages")
        parts.append(html.details("Versions of packages", versions))
    return Safe("".join(parts))


def _artefacts(anchor: str, made: Sequence[Manifest]) -> Safe:
    """Digests of a box's artefacts, and their configuration: once where several share it."""
    table = html.table(
        ["Artefact", "digest", "made", "in", "code"],
        [
            [_code(m.ref), _code(m.tree_digest), f"{m.finished:%Y-%m-%d %H:%M} UTC",
             html.Exact(duration(m.seconds), m.seconds), _version(m)]
            for m in made
        ],
        name=anchor,
    )  # fmt: skip
    alike: dict[str, list[str]] = {}
    for one in made:
        alike.setdefault(_configured(one), []).append(one.ref)
    parts = [
        html.paragraph("" if len(made) == 1 else f"Configuration of {_some(refs)}:")
        + Safe(f"<pre><code>{html.escape(text)}</code></pre>")
        for text, refs in alike.items()
        if text
    ]
    heading = made[0].ref if len(made) == 1 else f"{len(made)} of {made[0].kind}"
    return _details(anchor, heading, table, *parts)


def _details(anchor: str, heading: str, *parts: str) -> Safe:
    inner = "".join(parts)
    return Safe(
        f'<details id="{anchor}"><summary>{html.escape(heading)}</summary>{inner}</details>'
    )


def _configured(manifest: Manifest) -> str:
    everything = {**manifest.configuration, **({"seeds": manifest.seeds} if manifest.seeds else {})}
    if not everything:
        return ""
    text: str = yaml.safe_dump(everything, sort_keys=False, allow_unicode=True)
    return text


def _some(refs: Sequence[str]) -> str:
    return refs[0] if len(refs) == 1 else f"{refs[0]} and {len(refs) - 1} more"


def _version(manifest: Manifest) -> str:
    code = manifest.code
    if code.git_commit is None:
        return f"{code.version}, sources {code.digest[:12]}"
    edited = " with edits" if code.git_dirty else ""
    return f"{code.version}, commit {code.git_commit[:10]}{edited}"


def _code(text: str) -> Safe:
    return Safe(f"<code>{html.escape(text)}</code>")
