"""Where every number came from: the artefacts, the code and the raw files."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from ..artefacts.manifest import Manifest
from ..series.rotation_series import SourceFile
from . import html
from .html import Safe
from .notation import duration


def provenance_section(manifests: Sequence[Manifest], sources: Sequence[SourceFile] = ()) -> Safe:
    """Tables of the artefacts (raw side first) and of the files a series was read from."""
    parts: list[str] = []
    if manifests:
        parts.append(
            html.table(
                ["Artefact", "digest", "made", "in", "code"],
                [
                    [_code(m.ref), _code(m.tree_digest[:16]),
                     f"{m.finished:%Y-%m-%d %H:%M} UTC", duration(m.seconds), _version(m)]
                    for m in manifests
                ],
            )
        )  # fmt: skip
        for manifest in manifests:
            parts.append(_made_with(manifest))
        last = manifests[-1]
        versions = {"python": last.python, **last.packages}
        parts.append(
            html.details(
                "Versions of packages", html.table(["Package", "version"], versions.items())
            )
        )
    else:
        parts.append(html.paragraph("This result was not stored: its provenance is not known."))
    if sources:
        files = html.table(["File", "SHA-256"], [[_code(s.path), _code(s.sha256)] for s in sources])
        parts.append(html.details(f"Raw files ({len(sources)})", files))
    return Safe("".join(parts))


def _made_with(manifest: Manifest) -> Safe:
    if not (manifest.configuration or manifest.seeds):
        return Safe("")
    everything = {**manifest.configuration, **({"seeds": manifest.seeds} if manifest.seeds else {})}
    text = yaml.safe_dump(everything, sort_keys=False, allow_unicode=True)
    shown = Safe(f"<pre><code>{html.escape(text)}</code></pre>")
    return html.details(f"Configuration of {manifest.ref}", shown)


def _version(manifest: Manifest) -> str:
    code = manifest.code
    if code.git_commit is None:
        return f"{code.version}, sources {code.digest[:12]}"
    edited = " with edits" if code.git_dirty else ""
    return f"{code.version}, commit {code.git_commit[:10]}{edited}"


def _code(text: str) -> Safe:
    return Safe(f"<code>{html.escape(text)}</code>")
