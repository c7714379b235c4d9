# mypy: ignore-errors
"""Run by the Python of DIALS in a folder it worked in: its tables as plain arrays; never imported.

Writes tables.npz. Reflection coordinates are those of DIALS: pixels from the detector's corner,
frames from the start of the scan's array range.
"""

from pathlib import Path

import numpy as np
from dials.array_family import flex
from dxtbx.model.experiment_list import ExperimentListFactory


def table(name):
    """A reflection table."""
    return flex.reflection_table.from_file(name)


def flagged(reflections, *names):
    """Where any of the flags is set."""
    flags = reflections.flags
    return np.any([np.array(reflections.get_flags(getattr(flags, n))) for n in names], axis=0)


def column(reflections, name):
    """One column."""
    return np.array(reflections[name])


strong, integrated = table("refined.refl"), table("integrated.refl")
experiments = ExperimentListFactory.from_json_file("integrated.expt", check_format=False)
used = flagged(strong, "used_in_refinement")
esd = experiments[0].crystal.get_cell_parameter_sd()
arrays = {
    "cell_esd": np.array(esd if len(esd) == 6 else [np.nan] * 6),
    "profile_esd_deg": np.array([experiments[0].profile.sigma_m()])
    if experiments[0].profile is not None
    else np.array([np.nan]),
    "spot_px": column(strong, "xyzobs.px.value"),
    "spot_intensity": column(strong, "intensity.sum.value"),
    "spot_variance": column(strong, "intensity.sum.variance"),
    "spot_indexed": flagged(strong, "indexed"),
    "residual_px": (column(strong, "xyzobs.px.value") - column(strong, "xyzcal.px"))[used, :2],
    "residual_rad": (column(strong, "xyzobs.mm.value") - column(strong, "xyzcal.mm"))[used, 2],
    "hkl": column(integrated, "miller_index"),
    "xyz_px": column(integrated, "xyzcal.px"),
    "observed_px": column(integrated, "xyzobs.px.value"),
    "phi_rad": column(integrated, "xyzcal.mm")[:, 2],
    "first_z": column(integrated, "bbox")[:, 4],
    "stop_z": column(integrated, "bbox")[:, 5],
    "background": column(integrated, "background.mean"),
    "partiality": column(integrated, "partiality"),
    "overloaded": flagged(integrated, "overloaded"),
    "masked": flagged(integrated, "foreground_includes_bad_pixels"),
    "overlapped": flagged(integrated, "overlapped_fg"),
    "no_background": flagged(integrated, "failed_during_background_modelling"),
}
for kind in ("sum", "prf"):
    there = flagged(integrated, f"integrated_{kind}")
    for name, key in (("intensity", "value"), ("variance", "variance")):
        full = f"intensity.{kind}.{key}"
        values = column(integrated, full) if full in integrated else np.zeros(len(integrated))
        arrays[f"{kind}_{name}"] = np.where(there, values, np.nan)
np.savez(Path("tables.npz"), **arrays)
