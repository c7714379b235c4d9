"""That the house stands: its layout, import rule, exact versions and licence."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ewaldflow import __version__

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("flows", "tasks", "lib", "hardware", "cli", "service")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _packages() -> list[str]:
    found = [ROOT, *(path for room in ROOMS for path in [ROOT / room, *(ROOT / room).rglob("*")])]
    return sorted(
        ".".join(("ewaldflow", *path.relative_to(ROOT).parts))
        for path in found
        if (path / "__init__.py").is_file()
    )


def test_every_package_is_installed() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(name for name in listed if "configs" not in name) == _packages()


def test_type_checkers_see_every_room() -> None:
    links = ROOT / ".typing" / "ewaldflow"
    for name in (*ROOMS, "__init__.py", "py.typed"):
        assert (links / name).resolve() == ROOT / name
        assert not (links / name).readlink().is_absolute()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_has_a_lower_bound_and_an_exact_version() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    exact = {_normal(line.split("==")[0]) for line in lines if "==" in line}
    assert len(exact) == len(lines)
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["dev"], *extras["docs"]]:
        if requirement.startswith("ewaldflow["):
            continue
        name, bound = re.match(r"([\w.-]+)(?:\[.*\])?(.*)", requirement).groups()  # type: ignore[union-attr]
        assert bound.startswith(">="), requirement
        assert _normal(name) in exact, requirement


def test_versions_agree() -> None:
    assert PROJECT["project"]["version"] == __version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changes or f"## [{__version__}]" in changes


def test_licence_is_the_one_declared() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["project"]["license"] == "BSD-3-Clause"
    assert text.startswith("BSD 3-Clause License")
    assert "2026, The Ewaldflow developers" in text


@pytest.fixture
def git() -> str:
    program = shutil.which("git")
    if program is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return program


@pytest.mark.parametrize("path", ["lib/x.py", "lib/formats/new.py", "configs/instruments/x.yaml"])
def test_no_source_is_ignored(git: str, path: str) -> None:
    done = subprocess.run([git, "check-ignore", path], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("path", [".venv/x", "runs/series/x", "lib/__pycache__/x.pyc"])
def test_what_is_made_is_ignored(git: str, path: str) -> None:
    done = subprocess.run([git, "check-ignore", path], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == path


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("lib/errors.py", "import prefect", "ewaldflow.lib.errors -> prefect"),
        ("lib/optics.py", "from ..tasks import progress", "ewaldflow.lib is not allowed to import"),
        ("tasks/progress.py", "from ..flows import demo", "ewaldflow.tasks is not allowed"),
        ("hardware/__init__.py", "from ..tasks import progress", "ewaldflow.hardware is not"),
    ],
)
def test_the_import_rule_bites(module: str, line: str, broken: str, tmp_path: Path) -> None:
    house = tmp_path / "ewaldflow"
    house.mkdir()
    for name in ROOMS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, house / name, ignore=ignore)
    for name in ("__init__.py", "pyproject.toml"):
        shutil.copy(ROOT / name, house / name)
    with (house / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    # first on the path, the copy is found before the checkout
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(config_filename='pyproject.toml', no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=house, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert broken in done.stdout


def test_nothing_names_the_machine_it_was_made_on(git: str) -> None:
    listed = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    # put together, so that this file does not find itself
    words = re.compile("|".join(("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/[a-z]+/")))
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            text = path.read_text(encoding="utf-8", errors="replace")
            assert words.search(text) is None, name


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")),
    ],
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
