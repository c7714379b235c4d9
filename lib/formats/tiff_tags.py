"""What other programs say of a TIFF image: DigitalMicrograph, TVIPS' EMMENU, JEOL's SightX."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .units import reciprocal_A

_DM_UNITS, _DM_SCALES = (65003, 65004), (65009, 65010)
_TVIPS_DIFFRACTION = 3


def of_tiff(tiff: Any, page: Any) -> tuple[dict[str, float], str, list[str]]:
    """(fields of `SeriesMetadata`, camera, notes) of a `tifffile.TiffFile` and its page."""
    if tiff.tvips_metadata:
        return _tvips(tiff.tvips_metadata)
    if "TemReporter" in page.description[:2000]:
        return _jeol(page)
    if _DM_SCALES[0] in page.tags:
        return _digital_micrograph(page)
    return {}, "", []


def _digital_micrograph(page: Any) -> tuple[dict[str, float], str, list[str]]:
    """Scale of the axes; unit texts are empty where DM calibrated nothing."""
    sides = []
    for unit, scale in zip(_DM_UNITS, _DM_SCALES, strict=True):
        tags = page.tags
        text = str(tags[unit].value) if unit in tags else ""
        step = float(np.ravel(tags[scale].value)[0]) if scale in tags else 0.0
        sides.append(reciprocal_A(step, text))
    a, b = sides
    if a is None or b is None:
        return {}, "", ["the DM tags of the TIFF are not calibrated in reciprocal length"]
    if abs(a / b - 1) > 1e-3:
        return {}, "", [f"the DM tags of the TIFF state pixels of {a:g} and {b:g} 1/Å; not used"]
    return {"per_A_per_px": float(np.sqrt(a * b))}, "", []


def _tvips(tags: dict[str, Any]) -> tuple[dict[str, float], str, list[str]]:
    """Volts, nm of a pixel of the chip, ms; the magnification is a camera length in mode 3."""
    fields: dict[str, float] = {}
    notes = []
    if tags.get("TemHighTension", 0) > 0:
        fields["voltage_kV"] = float(tags["TemHighTension"]) / 1000
    pixel_nm, other_nm = (
        float(tags.get(f"PhysicalPixelSize{axis}", 0)) * float(tags.get(f"Binning{axis}", 0))
        for axis in "XY"
    )
    if pixel_nm > 0 and pixel_nm == other_nm:
        fields["pixel_size_mm"] = pixel_nm * 1e-6
    if tags.get("ExposureTime", 0) > 0:
        fields["exposure_s"] = float(tags["ExposureTime"]) / 1000
    if tags.get("TemMode") == _TVIPS_DIFFRACTION:
        if tags.get("TemMagnification", 0) > 0:
            fields["camera_length_mm"] = float(tags["TemMagnification"])
    else:
        notes.append("the TVIPS tags say that the microscope was not in diffraction")
    return fields, str(tags.get("CameraType", "")), notes


def _jeol(page: Any) -> tuple[dict[str, float], str, list[str]]:
    """From the XML of SightX; lengths on the camera by the resolution of the TIFF."""
    text = page.description

    def first(name: str) -> str:
        found = re.search(rf"<{name}>([^<]*)</{name}>", text)
        return found[1] if found else ""

    fields: dict[str, float] = {}
    notes = []
    if float(first("AccelerationVoltage") or 0) > 0:
        fields["voltage_kV"] = float(first("AccelerationVoltage")) / 1000
    if first("ImageFormingMode") == "modeDIFF":
        scale = {"mm": 1.0, "cm": 10.0}.get(first("SelectorUnitString"), 0.0)
        if scale and float(first("SelectorValue") or 0) > 0:
            fields["camera_length_mm"] = float(first("SelectorValue")) * scale
    else:
        notes.append("the JEOL tags say that the microscope was not in diffraction")
    per_m = float(first("Horizontal") or 0)  # of PixelsPerMeter, the first of the file
    if per_m > 0 and float(first("Vertical") or 0) == per_m:
        fields["pixel_size_mm"] = 1000 / per_m
    return fields, first("Modelname"), notes
