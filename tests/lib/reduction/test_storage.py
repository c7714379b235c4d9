from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import zarr
from scipy.spatial.transform import Rotation

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import EllipticalDistortion, Geometry
from ewaldflow.lib.reduction.result import (
    FrameTable,
    Lattice,
    LatticeCandidate,
    Reduction,
    Reflections,
    StrongSpots,
)
from ewaldflow.lib.reduction.storage import read_reduction, write_reduction

CELL = (11.8, 12.1, 13.3, 90.0, 101.5, 90.0)


def column(hint, n, rng):
    if "int" in hint:
        return rng.integers(0, 200, n).astype(hint.split("np.")[1].rstrip("]"))
    if "bool" in hint:
        return rng.random(n) < 0.5
    values = rng.normal(size=n)
    values[rng.random(n) < 0.2] = np.nan
    return values


def table(kind, n, rng):
    columns = {one.name: column(str(one.type), n, rng) for one in fields(kind)}
    if "hkl" in columns:
        columns["hkl"] = rng.integers(-30, 30, (n, 3)).astype(np.int32)
    return kind(**columns)


def lattice(n, rng):
    orientation = Rotation.random(random_state=rng.integers(1 << 30)).as_matrix()
    candidate = LatticeCandidate("mP", CELL, rng.integers(-1, 2, (3, 3)), 0.1, 0.02, float("nan"))
    return Lattice(
        bravais="mP",
        orientation=orientation @ reciprocal_basis(CELL),
        cell=CELL,
        cell_esd=(0.01, 0.01, 0.02, 0.0, float("nan"), float("inf")),
        cell_p1=tuple(rng.normal(size=6).tolist()),
        cell_p1_esd=tuple(rng.random(6).tolist()),
        niggli=tuple(rng.random(6).tolist()),
        geometry=Geometry(
            0.025,
            0.055,
            500.0,
            (1.5, 2.5),
            tuple(rng.normal(size=3)),
            EllipticalDistortion(1.03, 7.0),
        ),
        esd={"distance_mm": 0.3, "axis": float("inf")},
        rotation_scale=1.001,
        candidates=(candidate, candidate),
        mosaicity_deg=0.1,
        size_per_A=0.002,
        n_spots=100,
        n_indexed=93,
        rms_px=0.6,
        rms_deg=float("nan"),
        reflections=table(Reflections, n, rng),
    )


def reduction(n_lattices, n, seed):
    rng = np.random.default_rng(seed)
    return Reduction(
        series="garnet",
        lattices=tuple(lattice(n, rng) for _ in range(n_lattices)),
        frames=table(FrameTable, 4, rng),
        gain=1.85,
        statistics={"cc_half": 0.993, "r_merge": float("nan"), "d_min_A": -float("inf")},
        seconds={"indexing": 0.1},
        notes=("Frame 3 is blank.", "nan"),
        verdict="cI, 92 % indexed",
        spots=table(StrongSpots, 7, rng) if seed else None,
    )


def assert_same(one, two):
    assert type(one) is type(two)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        assert one.tobytes() == two.tobytes()
    elif is_dataclass(one):
        for item in fields(one):
            assert_same(getattr(one, item.name), getattr(two, item.name))
    elif isinstance(one, tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert repr(one) == repr(two)


def group():
    return zarr.open_group(zarr.storage.MemoryStore(), mode="w", zarr_format=3)


@pytest.mark.parametrize(("n_lattices", "n"), [(0, 0), (1, 0), (1, 1), (3, 50)])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_field_comes_back_bit_for_bit(n_lattices, n, seed):
    written = reduction(n_lattices, n, seed)
    where = group()
    write_reduction(where, written)
    assert_same(read_reduction(where), written)


def test_layout_is_one_array_per_column_and_one_group_per_lattice():
    where = group()
    write_reduction(where, reduction(2, 5, 0))
    assert sorted(where["lattices"].group_keys()) == ["0", "1"]
    columns = {one.name for one in fields(Reflections)}
    assert set(where["lattices/1/reflections"].array_keys()) == columns
    assert where["lattices/1/reflections/hkl"].shape == (5, 3)
    assert set(where["frames"].array_keys()) == {one.name for one in fields(FrameTable)}
    assert where["lattices/0"].attrs["cell"] == list(CELL)
    assert where["lattices/0"].attrs["rms_deg"] == "nan"


def test_a_field_added_since_takes_its_default():
    where = group()
    write_reduction(where, reduction(1, 5, 0))
    attributes = where.attrs.asdict()
    del attributes["verdict"], attributes["notes"]
    where.attrs.put(attributes)
    again = read_reduction(where)
    assert (again.verdict, again.notes) == ("", ())


@pytest.mark.parametrize("change", [{"schema": "series"}, {"schema_version": 2}])
def test_another_kind_or_a_newer_layout(change):
    where = group()
    write_reduction(where, reduction(1, 5, 0))
    where.attrs.update(change)
    with pytest.raises(UserError, match=r"expected 'reduction'|expected at most 1"):
        read_reduction(where)
