"""ewaldflow artefacts: what is in a store, where it came from, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .output import console, table

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at, check and tidy what is in a store.\n\n"
    "Every result is an artefact, KIND/NAME@VERSION: arrays and files that never change, and a "
    "manifest that says what they were made from, with which settings and which code.",
)

Store = Annotated[Path, typer.Option("--store", metavar="FOLDER", help="The store.")]
Ref = Annotated[
    str, typer.Argument(metavar="REF", help="KIND/NAME (the latest) or KIND/NAME@v0001.")
]
STORE = Path("runs")


@app.command("ls")
def ls(
    store: Store = STORE,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only this kind.")] = None,
) -> None:
    """List the artefacts, oldest version first."""
    from ..lib.artefacts import ArtefactStore

    rows = [
        [
            one.ref,
            f"{one.manifest.finished:%Y-%m-%d %H:%M}",
            _size(sum(file.size for file in one.manifest.files.values())),
            _merit(one.manifest.figures_of_merit),
        ]
        for one in ArtefactStore(store).list(kind)
    ]
    console().print(table(["artefact", "made (UTC)", "size", "what it says"], rows, right=(2,)))


@app.command("show")
def show(ref: Ref, store: Store = STORE) -> None:
    """Print the manifest of an artefact, and all that it was made from."""
    from ..lib.artefacts import ArtefactStore

    kept = ArtefactStore(store)
    artefact = kept.get(ref)
    print(f"# {artefact.path}")
    print(artefact.manifest.to_yaml(), end="")
    sources = [(depth, name) for depth, name in kept.lineage(artefact.ref)]
    if sources:
        print("# made from")
        for depth, name in sources:
            print(f"# {'  ' * depth}{name}")


@app.command("verify")
def verify(
    ref: Annotated[str | None, typer.Argument(metavar="REF", help="Only this artefact.")] = None,
    store: Store = STORE,
) -> int:
    """Digest every file again and name what is not as it was written (then exit code 1)."""
    from ..lib.artefacts import ArtefactStore

    kept = ArtefactStore(store)
    checked = len(kept.refs() if ref is None else kept.match(ref))
    problems = list(kept.verify(ref))
    for problem in problems:
        print(problem)
    damaged = len({problem.ref for problem in problems})
    print(f"{checked} artefacts checked, {damaged} damaged")
    return 1 if problems else 0


@app.command("gc")
def gc(
    store: Store = STORE,
    keep: Annotated[int, typer.Option(min=1, help="Versions of each name to keep.")] = 1,
    delete: Annotated[bool, typer.Option("--delete", help="Really remove it.")] = False,
) -> None:
    """Show what nobody needs any more; with --delete, remove it.

    That is what killed writers left behind, and old versions that nothing kept was made from.
    """
    from ..lib.artefacts import ArtefactStore

    removals = ArtefactStore(store).gc(dry_run=not delete, keep=keep)
    for one in removals:
        print(f"{_size(one.size):>9}  {one.path}: {one.reason}")
    total = _size(sum(one.size for one in removals))
    if delete:
        print(f"{len(removals)} removed, {total} freed")
    else:
        print(f"{len(removals)} could go, {total}" + ("; say --delete" if removals else ""))


def _size(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _merit(figures: dict[str, Any]) -> str:
    if "verdict" in figures:
        return str(figures["verdict"])
    plain = {k: v for k, v in figures.items() if isinstance(v, str | int | float)}
    return ", ".join(
        f"{k.replace('_', ' ')} {v:.4g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
        for k, v in plain.items()
    )
