"""maintain: artefacts are digested again, and what dead writers left is removed; for a schedule."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..tasks.live import prefect_progress
from ..tasks.progress import tell
from .forms import described


@flow(name="maintain", flow_run_name="maintain {store}", persist_result=False)
@described
def maintain(store: Path, remove: bool = False, keep: int = 3) -> tuple[str, ...]:
    """Digest every artefact again, and name or remove what nobody needs.

    Parameters
    ----------
    store : root of the artefact store.
    remove : remove what dead writers left, and old versions that nothing was made from; otherwise
        only name it.
    keep : latest versions of each artefact that stay.

    Raises
    ------
    UserError : an artefact is not as it was written; all such are named.
    """
    kept = ArtefactStore(store)
    with prefect_progress("maintain", f"maintain {store}"):
        tell("maintain", "digest artefacts")
        problems = tuple(str(one) for one in kept.verify())
        tell("maintain", "look for what nobody needs", 0.8)
        removed = [str(one) for one in kept.gc(dry_run=not remove, keep=keep)]
        tell("maintain", "done", 1.0)
    did = "Removed" if remove else "Could be removed"
    lines = [
        f"# {store}",
        f"{len(kept.refs())} artefacts; {len(problems)} damaged.",
        *(f"- {line}" for line in problems),
        f"## {did}: {len(removed)}",
        *(f"- {line}" for line in removed[:200]),
    ]
    create_markdown_artifact("\n\n".join(lines), key="maintenance", description=str(store))
    if problems:
        raise UserError(
            store, f"{len(problems)} damaged: {problems[0]}", "artefacts as they were written",
            "restore them from a copy, or remove them and run their flows again",
        )  # fmt: skip
    return problems
