"""Files in the layouts of XDS and its companions, made up for these tests, in `layouts`."""

from pathlib import Path

import pytest

LAYOUTS = Path(__file__).parent / "layouts"


@pytest.fixture(scope="session")
def layout():
    """The text of a file in `layouts`."""
    return lambda name: (LAYOUTS / name).read_text(encoding="ascii")


@pytest.fixture(scope="session")
def layouts():
    """Every file in `layouts`."""
    return sorted(LAYOUTS.iterdir())


@pytest.fixture
def written(tmp_path):
    """Write a text, or bytes, to a file; returns its path."""

    def write(text, name="file"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
        return path

    return write
