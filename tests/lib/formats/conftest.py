"""Small series and files of every format, made as other programs make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.instrument import Instrument
from ewaldflow.lib.series.rotation_series import RotationSeries

SHAPE = (20, 30)


def _pixels(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Counts of a frame, different in each frame and each pixel."""
    counts = np.random.default_rng(number).exponential(300, shape)
    return np.clip(counts + 1, 1, 10000).astype(np.uint16)


def _smv_bytes(number: int, dtype: str = "<u2", **changes: str | None) -> bytes:
    """A frame as instamatic writes it, with some header keys changed (None leaves one out)."""
    start = -10 + 0.5 * (number - 1)
    items: dict[str, str | None] = {
        "HEADER_BYTES": "512",
        "DIM": "2",
        "BYTE_ORDER": "little_endian",
        "TYPE": "unsigned_short",
        "SIZE1": str(SHAPE[1]),
        "SIZE2": str(SHAPE[0]),
        "PIXEL_SIZE": "0.05",
        "BEAMLINE": "TimePix_SU",
        "DETECTOR_SN": "901",
        "TIME": "0.3",
        "DISTANCE": "400.0000",
        "PHI": f"{start:.4f}",
        "OSC_START": f"{start:.4f}",
        "OSC_RANGE": "0.5000",
        "WAVELENGTH": "0.0251",
        "BEAM_CENTER_X": "16.5",
        "BEAM_CENTER_Y": "9.5",
    } | changes
    lines = [f"{key}={value};" for key, value in items.items() if value is not None]
    header = "{\n" + "\n".join(lines) + "\n}"
    size = int(items["HEADER_BYTES"] or 512)
    return header.encode().ljust(size) + _pixels(number).astype(dtype).tobytes()


def _smv_folder(folder: Path, numbers: object = range(1, 11), **changes: str | None) -> Path:
    """A folder of SMV frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:  # type: ignore[attr-defined]
        (folder / f"{number:05d}.img").write_bytes(_smv_bytes(number, **changes))
    return folder


# Functions as fixtures, since test folders are no packages to import from.
@pytest.fixture
def pixels() -> Callable[..., np.ndarray]:
    return _pixels


@pytest.fixture
def smv_bytes() -> Callable[..., bytes]:
    return _smv_bytes


@pytest.fixture
def smv_folder() -> Callable[..., Path]:
    return _smv_folder


@pytest.fixture
def instrument() -> Instrument:
    return Instrument(
        name="bench",
        voltage_kV=200,
        detector={
            "shape": SHAPE,
            "pixel_size_mm": 0.05,
            "untrusted_rectangles": [{"rows": (9, 10), "columns": (0, 29)}],
        },
        rotation_axis=(0.0, 1.0, 0.0),
        camera_lengths={300: 400.0},
    )


@pytest.fixture
def make_series() -> Callable[..., RotationSeries]:
    def make(
        numbers: object = range(1, 11), shape: tuple[int, int] = SHAPE, **changes: object
    ) -> RotationSeries:
        number = np.array(list(numbers), np.int64)  # type: ignore[call-overload]
        stack = np.array([_pixels(n, shape) for n in number])
        mask = np.zeros(shape, bool)
        mask[9:11] = True
        mask[3, 7] = True
        values: dict[str, object] = {
            "name": "made",
            "frames": da.from_array(stack, chunks=(4, *shape)),
            "frame_number": number,
            "angle_start_deg": -10 + 0.5 * (number - 1.0),
            "angle_width_deg": np.full(len(number), 0.5),
            "geometry": Geometry(0.025079, 0.05, 400.0, (9.25, 16.75), (-0.6204, 0.7843, 0.0)),
            "mask": mask,
            "saturation": 11810.0,
            "exposure_s": 0.3,
        }
        return RotationSeries(**(values | changes))  # type: ignore[arg-type]

    return make
