"""The tutorial, followed literally: its commands are run, what they print and show is compared.

    python docs/hooks/tutorial.py FOLDER    follows it there and writes what came into the page

Commands stand in fenced blocks marked `console`, after `$ `; lines of here-documents after `> `.
A picture stands below a mark that names the page it is on and its number there, from 1:

    <!-- picture: runs/acquisition/first-session/v0001/files/index.html 1 -->
    ![what it shows](tutorial/grid.png)
"""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parents[1]
PAGE = DOCS / "tutorial.md"
COLUMNS = 100
WIDTH = 900
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"^<!-- picture: (\S+) (\d+) -->\n!\[[^\]]*\]\((\S+)\)", re.MULTILINE)
_SHOWN = re.compile(r"<figure[^>]*>.*?src=\"data:image/(png|svg\+xml);base64,([^\"]+)\"", re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A command as it stands in the page, and what it prints."""

    command: str
    printed: str

    def __str__(self) -> str:
        first, *rest = self.command.split("\n")
        lines = [f"$ {first}", *(f"> {line}".rstrip() for line in rest)]
        return "\n".join([*lines, *([self.printed] if self.printed else [])]) + "\n"


@dataclass(frozen=True)
class Picture:
    """A picture of a page that the tutorial leaves, and where it is kept."""

    page: str
    number: int
    kept: str


def steps(block: str) -> list[Step]:
    """The commands of one block."""
    done: list[tuple[list[str], list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            done.append(([line[2:]], []))
        elif (line.startswith("> ") or line == ">") and not done[-1][1]:
            done[-1][0].append(line[2:])
        else:
            done[-1][1].append(line)
    return [Step("\n".join(command), "\n".join(out)) for command, out in done]


def blocks(text: str) -> list[list[Step]]:
    """All commands of the page, block by block."""
    return [steps(one) for one in _BLOCK.findall(text)]


def pictures(text: str) -> list[Picture]:
    """All pictures of the page."""
    return [Picture(page, int(n), kept) for page, n, kept in _PICTURE.findall(text)]


def run(command: str, folder: Path) -> str:
    """What a command prints in a terminal of `COLUMNS` without colours; it must succeed."""
    here = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": str(COLUMNS),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    left_out = ("PREFECT_", "PYTEST_", "FORCE_COLOR")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=inherited | here, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command}\nended with {done.returncode}:\n{done.stdout}")
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").split("\n"))


def picture(page: Path, number: int) -> bytes:
    """The picture on a page of the program."""
    found = _SHOWN.findall(page.read_text(encoding="utf-8"))
    if not 0 < number <= len(found):
        raise RuntimeError(f"{page}: {len(found)} pictures, not {number}")
    content = base64.b64decode(found[number - 1][1])
    return _small(content) if content.startswith(b"\x89PNG") else content


def _small(png: bytes) -> bytes:
    """As JPEG, no wider than a page of the site."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((WIDTH, 4 * WIDTH))
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=80)
    return out.getvalue()


def rewritten(text: str, folder: Path) -> str:
    """The page with what its commands print in `folder` now."""

    def follow(found: re.Match[str]) -> str:
        done = [Step(one.command, run(one.command, folder)) for one in steps(found[1])]
        return "```console\n" + "".join(map(str, done)) + "```"

    return _BLOCK.sub(follow, text)


def main() -> None:
    """Follow the tutorial, and keep what it prints and shows."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    text = rewritten(PAGE.read_text(encoding="utf-8"), folder)
    PAGE.write_text(text, encoding="utf-8")
    for one in pictures(text):
        (DOCS / one.kept).parent.mkdir(exist_ok=True)
        (DOCS / one.kept).write_bytes(picture(folder / one.page, one.number))


if __name__ == "__main__":
    main()
