"""A reduction in zarr: one array per column, one subgroup per lattice."""

from __future__ import annotations

import zarr

from ..artefacts.arrays import check_schema, subgroup
from ..artefacts.records import read_attributes, read_columns, write_attributes, write_columns
from .result import FrameTable, Lattice, Reduction, Reflections, StrongSpots

KIND = "reduction"
SCHEMA_VERSION = 1


def write_reduction(group: zarr.Group, reduction: Reduction) -> None:
    """Write all of `reduction` into an empty group.

    Columns of the frame table in ``frames/``, of the strong spots in ``spots/``; of the
    reflections of lattice i (from 0) in ``lattices/i/reflections/``; everything else as
    attributes of the group it belongs to.
    """
    write_columns(group.create_group("frames"), reduction.frames)
    if reduction.spots is not None:
        write_columns(group.create_group("spots"), reduction.spots)
    for number, lattice in enumerate(reduction.lattices):
        sub = group.create_group(f"lattices/{number}")
        write_columns(sub.create_group("reflections"), lattice.reflections)
        write_attributes(sub, lattice, leave=("reflections",))
    write_attributes(group, reduction, leave=("frames", "lattices", "spots"))
    numbers = {"schema_version": SCHEMA_VERSION, "n_lattices": len(reduction.lattices)}
    group.attrs.update({"schema": KIND, **numbers})


def read_reduction(group: zarr.Group) -> Reduction:
    """The reduction in `group`, equal to the one written.

    Raises
    ------
    UserError : the group holds something else or a newer layout; in an artefact, also when
        arrays are damaged.
    """
    check_schema(group, KIND, SCHEMA_VERSION)
    lattices = []
    for number in range(int(str(group.attrs["n_lattices"]))):
        sub = subgroup(group, f"lattices/{number}")
        reflections = read_columns(subgroup(sub, "reflections"), Reflections)
        attributes = read_attributes(sub, Lattice, leave=("reflections",))
        lattices.append(Lattice(reflections=reflections, **attributes))
    return Reduction(
        lattices=tuple(lattices),
        frames=read_columns(subgroup(group, "frames"), FrameTable),
        spots=read_columns(subgroup(group, "spots"), StrongSpots) if "spots" in group else None,
        **read_attributes(group, Reduction, leave=("frames", "lattices", "spots")),
    )
