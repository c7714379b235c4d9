"""Notebooks: run anew and kept with what they print, and shown as pages of the site.

    python docs/hooks/notebooks.py          runs those of docs/notebooks and keeps their outputs

A test runs them too and compares what they print with what is kept (tests/docs).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def executed(path: Path, timeout_s: int = 300) -> Any:
    """The notebook after a run in a fresh kernel; an error in a cell is raised."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    # in its own folder, as a user would open it
    client = NotebookClient(notebook, timeout=timeout_s, resources={"metadata": {"path": FOLDER}})
    client.execute()
    return notebook


def kept(notebook: Any) -> Any:
    """The notebook as it is kept: without what differs from run to run."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python",
                                        "name": "python3"}}  # fmt: skip
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_output(one) for one in cell.outputs]
    return notebook


def _output(output: Any) -> Any:
    output.pop("execution_count", None)
    if output.output_type == "execute_result":
        output.execution_count = None
    if "data" in output and "image/png" in output.data:
        # the words for a figure are an address in memory
        output.data = {"image/png": output.data["image/png"]}
    return output


def printed(notebook: Any) -> list[str]:
    """What the cells print, one text for each cell of code."""
    return ["".join(_words(one) for one in cell.outputs) for cell in notebook.cells
            if cell.cell_type == "code"]  # fmt: skip


def _words(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    return str(output.get("data", {}).get("text/plain", ""))


def as_markdown(path: Path) -> str:
    """A page of the site."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            if words := _words(output).rstrip():
                parts.append(f"```text\n{words}\n```")
            if picture := output.get("data", {}).get("image/png"):
                alt = "figure made by the cell above"
                address = "data:image/png;base64," + "".join(picture.split())
                parts.append(f'<figure><img alt="{alt}" src="{address}"></figure>')
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run all of them and keep what they print."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        print(path.name)
        nbformat.write(kept(executed(path)), path)


if __name__ == "__main__":
    main()
