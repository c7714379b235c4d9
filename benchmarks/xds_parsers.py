"""Every real file of XDS at hand: what it is, what is read from it, figures checked by hand."""

from __future__ import annotations

import csv
import math
import sys
import tarfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _real import add_data_option, archive_of
from _table import Table, options, say, skip, work_folder

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.xds import XdsFile, read_any

FEWEST_BY_HAND = 12
EDNA = "olofsvensson+edna-mx/mxPluginExec/plugins"
XDS = f"{EDNA}/EDPluginGroupXDS-v1.0/tests/data"
BEST = f"{EDNA}/EDPluginBest-v1.2/tests/data"
CCP4 = f"{EDNA}/EDPluginGroupCCP4-v1.0/tests/data"
EDNA2 = "olofsvensson+edna2/tests/test_tasks"
CINCHONINE = "DemoData/Cinchonine/xds"
NAN = math.nan

# Figures that a person read from the file, and how to find each in what is read of it.
Figure = tuple[str, Callable[[Any], Any], Any]
BY_HAND: dict[str, list[Figure]] = {
    f"{CINCHONINE}/CORRECT.LP": [
        ("cell used by INTEGRATE", lambda c: c.integrate_cell,
         (10.917, 7.411, 11.296, 90.0, 108.103, 90.0)),
        ("selected cell", lambda c: c.selected.cell, (11.35, 7.49, 11.47, 90.0, 107.97, 90.0)),
        ("refined cell", lambda c: c.refined.cell, (10.732, 7.283, 11.107, 90.0, 108.06, 90.0)),
        ("its e.s.d.s", lambda c: c.refined.cell_esd, (0.22, 0.14, 0.22, 0.0, 0.12, 0.0)),
        ("SD spot, spindle", lambda c: (c.refined.sd_spot_px, c.refined.sd_spindle_deg),
         (0.93, 0.11)),
        ("a, b, ISa", lambda c: (c.error_model.a, c.error_model.b, c.error_model.isa),
         (2.69, 6.013e-3, 7.86)),
        ("shells", lambda c: len(c.saved.table.shells), 9),
        ("CC1/2, R-meas, compared of the total", lambda c: (
            c.saved.table.total.cc_half, c.saved.table.total.r_meas,
            c.saved.table.total.n_compared), (0.977, 0.142, 1326)),
        ("misfits", lambda c: c.saved.n_misfits, 54),
        ("Wilson B", lambda c: c.wilson.b, 9.182),
        ("absent reflections, % of the mean", lambda c: (c.n_absent_tested, c.absent_percent),
         (8, 11.6)),
        ("settings of the cell", lambda c: [s.esd for s in c.settings], [0.02, 0.03]),
    ],
    f"{CINCHONINE}/IDXREF.LP": [
        ("spots", lambda c: (c.n_spots_used, c.n_spots), (791, 791)),
        ("indexed, overlap, too far", lambda c: (
            c.indexing.n_indexed, c.indexing.n_overlap, c.indexing.n_too_far), (403, 0, 388)),
        ("cell at the start of integration", lambda c: c.start_of_integration.cell,
         (10.917, 7.410, 11.296, 90.0, 108.103, 90.0)),
        ("SD spot, spindle", lambda c: (
            c.start_of_integration.sd_spot_px, c.start_of_integration.sd_spindle_deg),
         (0.85, 0.19)),
        ("subtrees", lambda c: c.subtrees[:3], (419, 108, 9)),
        ("index origins", lambda c: (len(c.index_origins), c.index_origins[2].origin),
         (7, (1, -1, 2))),
        ("lattice characters, marked", lambda c: (
            len(c.lattices), sum(row.marked for row in c.lattices)), (44, 6)),
        ("warnings", lambda c: len(c.warnings), 1),
    ],
    f"{CINCHONINE}/INTEGRATE.LP": [
        ("images, batches", lambda c: (len(c.images), len(c.batches)), (399, 19)),
        ("SIGMAR of image 6", lambda c: float(c.images.mosaicity_esd_deg[1]), 0.11973),
        ("suggested e.s.d.s", lambda c: (c.beam_divergence_esd_deg, c.reflecting_range_esd_deg),
         (0.00991, 0.21014)),
        ("reflections of the last batch", lambda c: c.n_integrated[-1], 156),
        ("saved", lambda c: c.n_saved, 2012),
        ("gain", lambda c: c.gain, 15.92),
    ],
    f"{CINCHONINE}/XDSCONV.LP": [
        ("read, accepted, written", lambda c: (c.n_read, c.n_accepted, c.n_written),
         (2012, 1950, 1950)),
        ("factor for SHELX", lambda c: c.shelx_scale, 269.6869),
    ],
    f"{CINCHONINE}/GXPARM.XDS": [
        ("distance, ORGX, ORGY", lambda c: (c.distance_mm, c.orgx, c.orgy),
         (436.100098, 257.428680, 254.604279)),
        # 257.43 + 436.1 / 0.055 * 0.000478 / 39.8724 - 1, and in y 254.60 + 4.00 - 1
        ("beam centre, 0.01 px", lambda c: tuple(
            round(v, 2) for v in c.geometry().beam_centre_px), (257.60, 256.52)),
    ],
    f"{CINCHONINE}/SPOT.XDS": [("spots", len, 791)],
    f"{XDS}/IDXREF.LP": [
        ("indexed", lambda c: (c.indexing.n_indexed, c.indexing.n_spots), (609, 689)),
        ("cell", lambda c: c.start_of_integration.cell,
         (54.551, 58.781, 66.628, 89.993, 90.137, 90.110)),
        ("quality of oP", lambda c: next(r.quality for r in c.lattices if r.character == 32), 2.7),
    ],
    f"{EDNA2}/XDSTasks/data/IDXREF.LP": [
        ("error", lambda c: c.errors[0].headline,
         "INSUFFICIENT PERCENTAGE (< 50%) OF INDEXED REFLECTIONS"),
        ("indexed", lambda c: (c.indexing.n_indexed, c.indexing.n_spots), (540, 2186)),
        ("used out of", lambda c: (c.n_spots_used, c.n_spots), (2186, 4145)),
        ("overlap, too far", lambda c: (c.indexing.n_overlap, c.indexing.n_too_far), (58, 1588)),
        ("index origins", lambda c: len(c.index_origins), 54),
    ],
    f"{XDS}/CORRECT.LP": [
        ("version", lambda c: c.banner.version, "December 6, 2010"),
        ("refined cell", lambda c: c.refined.cell, (54.364, 54.364, 107.442, 90.0, 90.0, 120.0)),
        ("refined on", lambda c: c.refined.n_spots, 113190),
        ("Rmrgd-F, anomalous CC of the total", lambda c: (
            c.saved.table.total.r_mrgd_f, c.saved.table.total.cc_anomalous), (0.039, -0.05)),
        ("CC1/2", lambda c: c.saved.table.total.cc_half, NAN),
        ("ISa", lambda c: c.error_model.isa, 22.77),
        ("misfits", lambda c: c.saved.n_misfits, 2374),
    ],
    f"{XDS}/CORRECT_ANOM.LP": [
        ("space group selected", lambda c: [r.number for r in c.space_groups if r.selected], [16]),
        ("completeness", lambda c: c.saved.table.total.completeness, 0.159),
        ("I/sigma, R-meas of the last shell", lambda c: (
            c.saved.table.shells[-1].i_over_sigma, c.saved.table.shells[-1].r_meas), (NAN, NAN)),
        ("e.s.d. of c", lambda c: c.refined.cell_esd[2], 0.2),
        ("chi^2 of the three surfaces", lambda c: c.fit_chi_square, (2.041, 1.983, 1.958)),
    ],
    f"{BEST}/FAE_CORRECT.LP": [
        ("ISa (50.00 of defaults)", lambda c: c.error_model.isa, NAN),
        ("refined on, SD spot", lambda c: (c.refined.n_spots, c.refined.sd_spot_px), (404, 0.29)),
        ("compared, R-meas of the total", lambda c: (
            c.saved.table.total.n_compared, c.saved.table.total.r_meas), (20, 0.267)),
    ],
    f"{BEST}/FAEx09_CORRECT.LP": [
        ("reflections", lambda c: c.n_accepted, 7),
        ("refined block", lambda c: c.refined, None),
        ("cell (the selected one)", lambda c: c.cell, (111.55, 111.55, 65.9, 90.0, 90.0, 90.0)),
        ("warnings", lambda c: len(c.warnings), 2),
    ],
    f"{EDNA2}/Best/data/CORRECT.LP": [
        ("first warning", lambda c: c.warnings[0].headline,
         "NONE OF THE SPACE GROUPS ABOVE IS ACCEPTABLE."),
        ("groups tested, selected", lambda c: (
            len(c.space_groups), sum(r.selected for r in c.space_groups)), (14, 0)),
        ("R of the total", lambda c: c.saved.table.total.r_observed, NAN),
    ],
    "PyPI_ewoksmx-0.0.1a0/CORRECT.LP": [
        ("refined cell", lambda c: c.refined.cell, (52.715, 149.002, 79.727, 90.0, 90.0, 90.0)),
        ("total", lambda c: (
            c.saved.table.total.n_observed, c.saved.table.total.n_unique,
            c.saved.table.total.i_over_sigma, c.saved.table.total.cc_half),
         (103575, 25085, 8.82, 0.994)),
        ("last shell", lambda c: (
            c.saved.table.shells[-1].d_min_A, c.saved.table.shells[-1].r_meas), (1.9, 0.667)),
        ("misfits", lambda c: c.saved.n_misfits, 819),
    ],
    "FragMAX+FragMAXapp/tests/data/edna_XSCALE.LP": [
        ("pairs of a single input", lambda c: c.pairs, ()),
        ("total", lambda c: (
            c.saved.table.total.n_observed, c.saved.table.total.r_meas,
            c.saved.table.total.i_over_sigma), (1670383, 0.062, 13.86)),
        ("ISa, ISa0", lambda c: (c.inputs[0].error_model.isa, c.inputs[0].isa_alone),
         (20.55, 22.41)),
        ("R of the finest shell", lambda c: c.inputs[0].r_shells[-1].r_observed, 1.031),
        ("Wilson B", lambda c: c.wilson.b, 32.39),
    ],
    "instamatic-dev+edtools/edtools_demo_xscale_stdout.txt": [
        ("inputs, pairs", lambda c: (len(c.inputs), len(c.pairs)), (7, 21)),
        ("CC and common reflections of 4, 7", lambda c: next(
            (p.cc, p.n_common) for p in c.pairs if (p.i, p.j) == (4, 7)), (0.833, 45)),
        ("K, B of the last", lambda c: (c.inputs[6].k, c.inputs[6].b), (0.3491, -0.812)),
        ("ISa, ISa0 of the second", lambda c: (
            c.inputs[1].error_model.isa, c.inputs[1].isa_alone), (11.02, 27.38)),
        ("rejected of read", lambda c: (c.saved.n_rejected, c.saved.n_read), (13, 14399)),
        ("table (the copy stops before)", lambda c: c.saved.table, None),
    ],
    "DiamondLightSource+XZuiichi/XSCALEOUT.LP": [
        ("runs", lambda c: c.n_runs, 2),
        ("error", lambda c: c.errors[0].headline, "CANNOT OPEN OR READ ../"),
    ],
    "mikaelhelias+CrystalPilot/files/tests/fixtures/xscale_misplaced.LP": [
        ("build", lambda c: c.banner.build, 20260616),
        ("error", lambda c: c.errors[0].headline, "MISPLACED PARAMETER"),
    ],
    "bstrb+BKinD/XDSCONV.LP": [
        ("written", lambda c: c.n_written, 14373),
        ("factor for SHELX", lambda c: c.shelx_scale, 156.2498),
    ],
    "bstrb+BKinD/XDS_ASCII_CBI.HKL": [
        ("reflections", len, 14373),
        ("first appended value", lambda c: float(c.appended["CBI"][0]), -1.8931),
        ("first intensity", lambda c: float(c.intensity[0]), 664.0),
    ],
    "rs-station+careless/tests/data/temp.ahkl": [
        ("reflections of each set", lambda c: [int((c.set_number == n).sum()) for n in (1, 2)],
         [9, 5]),
        ("cell of set 2", lambda c: c.header.sets[1].cell,
         (139.30, 139.30, 176.13, 90.0, 90.0, 90.0)),
    ],
    "jfoadi+cry/inst/extdata/6vww_xds_ascii_merged.hkl": [
        ("merged reflections", lambda c: (len(c), c.observations), (27951, None)),
        ("first intensity", lambda c: float(c.intensity[0]), 192900.0),
    ],
    f"{XDS}/XDS_ANOM.HKL": [("misfits", lambda c: int(c.misfit.sum()), 493)],
    "cctbx+cctbx_project/iotbx/xds/tests/INTEGRATE.HKL": [
        ("reflections, columns", lambda c: (len(c), len(c.header.items)), (11, 20)),
        ("last intensity", lambda c: float(c.intensity[-1]), 2.879),
    ],
    "cctbx+cctbx_project/iotbx/xds/tests/XPARM.XDS": [
        ("distance, ORGX, ORGY", lambda c: (c.distance_mm, c.orgx, c.orgy),
         (191.594391, 1237.948853, 1277.119141)),
        ("cell", lambda c: c.cell, (39.7964, 42.3646, 42.4588, 90.152, 90.123, 89.985)),
        ("version", lambda c: c.version, ""),
    ],
    "dials+data-files/centroid_test_data/SPOT.XDS": [
        ("spots, indexed", lambda c: (len(c), int(c.indexed.sum())), (742, 664)),
    ],
    f"{CCP4}/pointless2.log": [
        ("best", lambda c: (c.best, c.best_is_point_group), ("P 3 2 1", True)),
        ("Laue group, likelihood", lambda c: (c.laue_group.name, c.laue_group.likelihood),
         ("P -3 m 1", 0.999)),
        ("confidences", lambda c: (c.space_group_confidence, c.laue_group_confidence),
         (0.0, 0.999)),
        ("zones observed", lambda c: [zone.n for zone in c.zones], [0]),
        ("Laue groups tried", lambda c: len(c.laue_groups), 16),
    ],
    f"{CCP4}/pointless.log": [
        ("zone", lambda c: (c.zones[0].n, c.zones[0].peak_height, c.zones[0].probability),
         (5, -0.21, 0.0)),
        ("confidences", lambda c: (c.space_group_confidence, c.laue_group_confidence),
         (0.989, 0.987)),
    ],
    "gustalima+xdsapp_html/pointless.log": [
        ("version", lambda c: c.version, "1.12.1"),
        ("best", lambda c: (c.best, c.laue_group_confidence), ("C 1 2 1", 0.857)),
        ("twinned", lambda c: c.twinned, False),
    ],
    "gihankaushyal+Beamtime_Scripts/XSCALE.INP": [
        ("first output", lambda c: c.outputs[0].name, "fae-ip.ahkl"),
        ("its second input", lambda c: c.outputs[0].inputs[1].name,
         "../fae-ip/xds_2/XDS_ASCII.HKL"),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """One file: what it was read as, or why it was refused, or what went wrong."""

    name: str
    file: XdsFile | None
    refused: str
    failed: str
    wrong: tuple[str, ...]
    n_figures: int


def real_files(data: Path, work: Path) -> Iterator[tuple[str, Path]]:
    """Every file of the MANIFEST, and those of the complete run on cinchonine."""
    with (data / "xds" / "MANIFEST.tsv").open(encoding="utf-8", newline="") as manifest:
        for row in csv.DictReader(manifest, delimiter="\t"):
            yield row["local_path"], data / "xds" / row["local_path"]
    archive = archive_of("cinchonine", data)
    if archive is None:
        return
    with tarfile.open(archive) as tar:
        members = [one for one in tar if one.name.startswith(CINCHONINE) and one.isfile()]
        tar.extractall(work, members=members, filter="data")
    for member in sorted(members, key=lambda one: one.name):
        yield member.name, work / member.name


def judge(name: str, path: Path) -> Judged:
    """Read one file and compare the figures that were read by hand."""
    figures = BY_HAND.get(name, [])
    try:
        file = read_any(path)
    except UserError as error:
        return Judged(name, None, error.found, "", (), len(figures))
    except Exception:
        return Judged(name, None, "", traceback.format_exc(limit=-1), (), len(figures))
    wrong = tuple(
        f"{what}: {read!r}, not {by_hand!r}"
        for what, find, by_hand in figures
        if not same(read := find(file.content), by_hand)
    )
    return Judged(name, file, "", "", wrong, len(figures))


def same(read: Any, by_hand: Any) -> bool:
    """Equal, to the last printed digit; NaN equals NaN."""
    if isinstance(by_hand, tuple | list):
        return len(read) == len(by_hand) and all(map(same, read, by_hand))
    if isinstance(by_hand, float) and isinstance(read, float):
        return math.isnan(read) if math.isnan(by_hand) else math.isclose(read, by_hand)
    return bool(read == by_hand)


def version_of(file: XdsFile) -> str:
    """Program build or version, if the file tells."""
    content = file.content
    said = getattr(content, "banner", None) or getattr(content, "header", None) or content
    return str(getattr(said, "build", None) or getattr(said, "version", "") or "")


def told(file: XdsFile) -> str:
    """What stands out in a file, in a few words."""
    content = file.content
    notes = [message.headline for message in getattr(content, "errors", ()) if
             not isinstance(message, str)]  # fmt: skip
    if getattr(content, "stops_at", ""):
        notes.append(f"stops at {content.stops_at}")
    notes += list(getattr(content, "problems", ()))
    if hasattr(content, "__len__"):
        notes.append(f"{len(content)} rows")
    return "; ".join(notes)[:60]


def judge_all(table: Table, files: Iterator[tuple[str, Path]]) -> None:
    """A row for each file, and the bars."""
    judged = [judge(name, path) for name, path in files]
    for one in judged:
        what, said = "refused", one.refused
        if one.file is not None:
            what, said = f"{one.file.kind} {version_of(one.file)}".strip(), told(one.file)
        right = f"{one.n_figures - len(one.wrong)} of {one.n_figures}" if one.n_figures else ""
        if one.failed or one.wrong:
            table.fail(one.name, one.failed or "; ".join(one.wrong))
        else:
            table.tell(one.name, f"{what}{': ' if said else ''}{said}", right)
    by_hand = [one for one in judged if one.n_figures and one.file is not None]
    table.check("files read or refused with a reason, %",
                100 * sum(not one.failed for one in judged) / max(len(judged), 1),
                at_least=100, form=".1f")  # fmt: skip
    table.check("exceptions", sum(bool(one.failed) for one in judged), at_most=0, form="d")
    table.check("files checked by hand", len(by_hand), at_least=FEWEST_BY_HAND, form="d")
    figures, wrong = sum(o.n_figures for o in by_hand), sum(len(o.wrong) for o in by_hand)
    table.tell("figures checked by hand", str(figures))
    table.check("figures that differ", wrong, at_most=0, form="d")


def main() -> int:
    parser = options(__doc__ or "")
    add_data_option(parser)
    arguments = parser.parse_args()
    if not (arguments.data / "xds" / "MANIFEST.tsv").exists():
        return skip(f"no xds/MANIFEST.tsv below {arguments.data}")
    table = Table("Files of XDS: kind and build: what it says | right of those read by hand")
    with work_folder(arguments.work) as work:
        if archive_of("cinchonine", arguments.data) is None:
            say("the archive of cinchonine is absent; only the files of the MANIFEST are read")
        judge_all(table, real_files(arguments.data, work))
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
