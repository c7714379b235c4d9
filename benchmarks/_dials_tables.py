"""Run by the Python of DIALS in a folder it worked in: its reflection tables as plain arrays."""

from pathlib import Path

import numpy as np
from dials.array_family import flex


def table(path):
    return flex.reflection_table.from_file(path)


def flag(reflections, *names):
    values = [np.array(reflections.get_flags(getattr(reflections.flags, n))) for n in names]
    return np.any(values, axis=0)


def column(reflections, name):
    return np.array(reflections[name])


strong, integrated = table("indexed.refl"), table("integrated.refl")
arrays = {
    "n_spots": len(strong),
    "n_indexed": int(flag(strong, "indexed").sum()),
    "hkl": column(integrated, "miller_index"),
    "xyz_px": column(integrated, "xyzcal.px"),
    "d_A": column(integrated, "d"),
    "partiality": column(integrated, "partiality"),
    "lp": column(integrated, "lp"),
    "overloaded": flag(integrated, "overloaded"),
    "masked": flag(integrated, "foreground_includes_bad_pixels"),
}
for kind in ("sum", "prf"):
    there = flag(integrated, f"integrated_{kind}")
    for name, key in (("intensity", "value"), ("variance", "variance")):
        full = f"intensity.{kind}.{key}"
        values = column(integrated, full) if full in integrated else np.zeros(len(integrated))
        arrays[f"{kind}_{name}"] = np.where(there, values, np.nan)
if Path("scaled.refl").exists():
    scaled = table("scaled.refl")
    factor = column(scaled, "inverse_scale_factor")
    # where the scaling model ran away, intensities of 1e9 come out
    good = ~flag(scaled, "bad_for_scaling") & (factor > 0.1 * np.median(factor))
    arrays["scaled_hkl"] = column(scaled, "miller_index")[good]
    arrays["scaled_z_px"] = column(scaled, "xyzcal.px")[good, 2]
    arrays["scaled_intensity"] = (column(scaled, "intensity.scale.value") / factor)[good]
np.savez("tables.npz", **arrays)
