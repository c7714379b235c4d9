"""Stand-ins for programs that are not there: scripts that the tests write."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.reduction.xds_ascii import write_xds_ascii
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth

Script = Callable[..., Path]
FakeXds = Callable[..., Path]
Simulated = tuple[RotationSeries, Truth]

BANNER = """
 ***** XDS ***** (VERSION Jun 30, 2024  BUILT=20241002)   5-Nov-2024
 Author: Wolfgang Kabsch
 Copy licensed until 31-Aug-2999 to
  academic users for non-commercial applications
 No redistribution.

"""


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """``script(name, text)``: an executable shell script in a folder of its own."""

    def write(name: str, text: str) -> Path:
        folder = tmp_path / "programs"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(text))
        path.chmod(0o755)
        return path

    return write


def idxref_lp(
    n_indexed: int,
    n_spots: int,
    cell: str = "    10.00     12.00     14.00     90.00     90.00     90.00",
    error: str = "",
    cut: bool = False,
) -> str:
    """An IDXREF.LP with as many spots indexed, ended by an error if one is given."""
    error = f" !!! ERROR !!! {error}\n\n" if error else ""
    text = f"""
 ***** IDXREF ***** (VERSION Jun 30, 2024  BUILT=20241002)  14-Feb-2025

 SPACE_GROUP_NUMBER=    0
 AUTOINDEXING IS BASED ON {n_spots:6d} OUT OF {n_spots:7d} SPOTS
 SPOT_RANGE=       1      20

 PARAMETERS OF THE REDUCED CELL (ANGSTROEM & DEGREES)
{cell}

 ***** INDEXING OF OBSERVED SPOTS IN SPACE GROUP #   1 *****
   {n_indexed:6d} OUT OF    {n_spots:6d} SPOTS INDEXED.
        0 REJECTED REFLECTIONS (REASON: OVERLAP)
   {n_spots - n_indexed:6d} REJECTED REFLECTIONS (REASON: TOO FAR FROM IDEAL POSITION)

{error}"""
    return text if cut or error else text + " elapsed wall-clock time        0.3 sec\n"


INTEGRATE_LP = """
 ***** INTEGRATE ***** (VERSION Jun 30, 2024  BUILT=20241002)  14-Feb-2025

 (PIXEL VALUE - OFFSET)/GAIN ,    WITH GAIN=   2.00

 IMAGE IER    SCALE     NBKG NOVL NEWALD NSTRONG  NREJ   SIGMAB   SIGMAR
     1   0    0.714     7091    0     50       8     2  0.00843  0.19558
     2   0    0.715     7005    0     45       6     3  0.00956  0.11973

 total elapsed wall-clock time for INTEGRATE       1.5 sec
"""

CORRECT_LP = """
 ***** CORRECT ***** (VERSION Jun 30, 2024  BUILT=20241002)  14-Feb-2025

 REFINED VALUES OF DIFFRACTION PARAMETERS DERIVED FROM       609 INDEXED SPOTS
 REFINED PARAMETERS:   AXIS BEAM ORIENTATION CELL POSITION
 STANDARD DEVIATION OF SPOT    POSITION (PIXELS)     0.93
 STANDARD DEVIATION OF SPINDLE POSITION (DEGREES)    0.11
 SPACE GROUP NUMBER      4
 UNIT CELL PARAMETERS     10.732     7.283    11.107  90.000 108.060  90.000
 E.S.D. OF CELL PARAMETERS  2.2E-02 1.4E-02 2.2E-02 0.0E+00 1.2E-01 0.0E+00

     a        b          ISa
 2.690E+00  6.013E-03    7.86

 elapsed wall-clock time        0.2 sec
"""


@pytest.fixture(scope="session")
def make_idxref_lp() -> Callable[..., str]:
    """`idxref_lp`."""
    return idxref_lp


@pytest.fixture
def fake_xds(tmp_path: Path, script: Script, reduction: Reduction, simulated: Simulated) -> FakeXds:
    """``fake_xds(idxref={"condition on XDS.INP": text}, before=...)``: a stand-in for xds_par.

    It writes what each step of JOB writes: an IDXREF.LP by the first pattern that XDS.INP has,
    and the faultless reduction of the simulated series as XDS_ASCII.HKL.
    """
    folder = tmp_path / "outputs"
    folder.mkdir()
    series = simulated[0]
    lattice = reduction.lattices[0]
    write_xds_ascii(
        folder / "XDS_ASCII.HKL", lattice, reduction.frames, name="data/?????.img",
        shape=series.shape,
    )  # fmt: skip
    r = lattice.reflections[lattice.reflections.intensity > 8 * lattice.reflections.sigma]
    number = np.interp(r.frame, np.arange(len(series)), series.frame_number)
    spots = np.stack([r.column + 1, r.row + 1, number - 0.5, r.intensity], axis=1)
    np.savetxt(
        folder / "SPOT.XDS", np.column_stack([spots, r.hkl]), fmt="%.2f %.2f %.2f %.0f %d %d %d"
    )
    (folder / "INTEGRATE.LP").write_text(INTEGRATE_LP)
    (folder / "CORRECT.LP").write_text(CORRECT_LP)

    def write(
        idxref: Mapping[str, str] | None = None, before: str = "", banner: str = BANNER
    ) -> Path:
        (folder / "banner").write_text(banner)
        choice = []
        for number, (pattern, text) in enumerate((idxref or {"": idxref_lp(90, 100)}).items()):
            (folder / f"IDXREF.{number}").write_text(text)
            word = "elif" if number else "if"
            choice.append(f"{word} grep -aEq '{pattern}' XDS.INP; then lp=IDXREF.{number}")
        return script(
            "xds_par",
            f"""
from={folder}
cat $from/banner
if [ ! -e XDS.INP ]; then echo ' !!! ERROR !!! CANNOT OPEN OR READ FILE XDS.INP'; exit 0; fi
job=$(grep -a '^JOB=' XDS.INP | tail -1 | sed 's/JOB= *//; s/ *!.*//' | tr -d '\\r')
echo $job >> jobs
cp XDS.INP XDS.INP.$(wc -l < jobs)
for step in $job; do
{before}
  case $step in
  COLSPOT) cp $from/SPOT.XDS . ;;
  IDXREF)
    {chr(10).join(choice)}
    fi
    cp $from/$lp IDXREF.LP; cat IDXREF.LP; touch XPARM.XDS ;;
  INTEGRATE) cp $from/INTEGRATE.LP .; touch INTEGRATE.HKL ;;
  CORRECT) cp $from/CORRECT.LP $from/XDS_ASCII.HKL . ;;
  esac
done
""",
        )

    return write
