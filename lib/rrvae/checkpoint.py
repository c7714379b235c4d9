"""Trained ensembles on disc: one safetensors file, its header as JSON; nothing is executed.

Tensors are the weights, under ``weight/``, and the arrays of the architecture (pixels, functions),
under ``model/``. The header has the version, the configuration and what describes the patterns
that the ensemble was made for.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from ..errors import UserError
from .config import CoordinateConfig, HarmonicConfig, RrvaeConfig
from .coordinate_model import CoordinateModel
from .harmonic_model import HarmonicModel, Linear
from .harmonics import HarmonicBasis
from .patterns import Patterns
from .train import Ensemble

VERSION = 2
KIND = "ewaldflow rrvae"
MADE_ARRAYS = ("mean", "loss_quantiles", "content_quantiles")  # of `Made`, beside the header


@dataclass(frozen=True)
class Made:
    """The patterns that an ensemble was made for.

    Attributes
    ----------
    shape : (rows, columns).
    dose : electrons in a pattern.
    pixel_mrad, disc_radius_px, centre_px : as in `Patterns`.
    mean : (rows, columns) float64, electrons; their mean pattern.
    loss_quantiles, content_quantiles : (101,) percentiles of the loss and of the leading content
        of the patterns, of the first seed.
    """

    shape: tuple[int, int]
    dose: float
    pixel_mrad: float | None
    disc_radius_px: float | None
    centre_px: tuple[float, float]
    mean: NDArray[np.float64]
    loss_quantiles: NDArray[np.float64]
    content_quantiles: NDArray[np.float64]


def made_for(ensemble: Ensemble, patterns: Patterns) -> Made:
    """What is kept of the patterns that an ensemble was trained on."""
    percent = np.arange(101)
    content = ensemble.encode(patterns).leading_content[0]
    return Made(
        patterns.shape, patterns.dose, patterns.pixel_mrad, patterns.disc_radius_px,
        patterns.centre_px, patterns.mean,
        np.percentile(losses(ensemble, patterns), percent), np.percentile(content, percent),
    )  # fmt: skip


def losses(ensemble: Ensemble, patterns: Patterns) -> NDArray[np.float64]:
    """(n,) squared residual over the noise per pixel, of the first seed."""
    latents, one = ensemble.encode(patterns), ensemble.seed(0)
    found = np.empty(len(patterns))
    for start in range(0, len(patterns), 1024):
        part = slice(start, start + 1024)
        off = one.model.whitened(patterns.data[part]) - one.decode(latents.part(0, part))[0]
        found[part] = (off**2).mean(1)
    return found


def save(path: Path, ensemble: Ensemble, made: Made) -> None:
    """Write an ensemble; the file appears whole or not at all."""
    from safetensors.numpy import save_file

    arrays = {f"weight/{name}": one.numpy() for name, one in ensemble.weights.items()}
    model, plain = _taken_apart(ensemble.model)
    arrays |= {f"model/{name}": one for name, one in model.items()}
    arrays |= {f"made/{name}": getattr(made, name) for name in MADE_ARRAYS}
    arrays |= {"epoch": ensemble.epoch, "held_out": ensemble.held_out.astype(np.uint8)}
    described = dataclasses.asdict(made)
    for name in MADE_ARRAYS:
        described.pop(name)
    header = {
        "kind": KIND,
        "version": VERSION,
        "config": ensemble.config.model_dump(mode="json"),
        "model": plain,
        "made": described,
    }
    staged = path.with_name(path.name + ".part")
    contiguous = {name: np.ascontiguousarray(one) for name, one in arrays.items()}
    save_file(contiguous, staged, {"header": json.dumps(header)})
    staged.replace(path)


def load(path: Path) -> tuple[Ensemble, Made]:
    """Read an ensemble; its history is not kept.

    Raises
    ------
    UserError : no such file, not one of ours, damaged, or of another version.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(path, "no such file", "a trained model", "give its safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as problem:
        raise UserError(
            path, f"no safetensors file ({problem})", "a trained model", "copy or train it again"
        ) from None
    if header.get("kind") != KIND:
        raise UserError(path, "weights of something else", f"those of {KIND}", "give another file")
    if header.get("version") != VERSION:
        raise UserError(
            path, f"a model of version {header.get('version')}", f"version {VERSION}",
            "train it again, or use the program that wrote it",
        )  # fmt: skip
    try:
        config: HarmonicConfig | CoordinateConfig = TypeAdapter(RrvaeConfig).validate_python(
            header["config"]
        )
        taken = {name[6:]: one for name, one in arrays.items() if name.startswith("model/")}
        model = _put_together(config, taken, header["model"])
        weights = {
            name[7:]: torch.from_numpy(one)
            for name, one in arrays.items()
            if name.startswith("weight/")
        }
        wanted = {name: tuple(one.shape) for name, one in model.start(0).items()}
        if {name: tuple(one.shape[1:]) for name, one in weights.items()} != wanted:
            raise KeyError("weights of other sizes")
        described = header["made"]
        made = Made(
            shape=tuple(described["shape"]),
            dose=described["dose"],
            pixel_mrad=described["pixel_mrad"],
            disc_radius_px=described["disc_radius_px"],
            centre_px=tuple(described["centre_px"]),
            **{name: arrays[f"made/{name}"] for name in MADE_ARRAYS},
        )
        held_out = arrays["held_out"].astype(bool)
        return Ensemble(model, weights, config, (), arrays["epoch"], held_out), made
    except (KeyError, TypeError, ValidationError) as problem:
        raise UserError(
            path, f"a header that does not fit ({str(problem).splitlines()[0]})",
            "that of a trained model", "copy or train it again",
        ) from None  # fmt: skip


def _taken_apart(
    model: HarmonicModel | CoordinateModel,
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and plain values of an architecture; complex arrays as pairs of real ones."""
    fields: dict[str, Any] = {}
    for one in dataclasses.fields(model):
        value = getattr(model, one.name)
        if isinstance(value, HarmonicBasis | Linear):
            fields |= {
                f"{one.name}.{f.name}": getattr(value, f.name) for f in dataclasses.fields(value)
            }
        else:
            fields[one.name] = value
    arrays, plain = {}, {}
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            complex_ = np.iscomplexobj(value)
            arrays[name] = np.stack([value.real, value.imag]) if complex_ else value
        else:
            plain[name] = value
    return arrays, plain


def _put_together(
    config: HarmonicConfig | CoordinateConfig,
    arrays: dict[str, NDArray[Any]],
    plain: dict[str, Any],
) -> HarmonicModel | CoordinateModel:
    values: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in (arrays | plain).items()
    }
    if isinstance(config, CoordinateConfig):
        return CoordinateModel(**values)
    for name in ("basis.functions", "basis.analysis"):
        real, imaginary = values[name]
        values[name] = (real + np.complex64(1j) * imaginary).astype(np.complex64)
    basis = HarmonicBasis(**{k[6:]: v for k, v in values.items() if k.startswith("basis.")})
    linear = Linear(**{k[7:]: v for k, v in values.items() if k.startswith("linear.")})
    rest = {name: one for name, one in values.items() if "." not in name}
    return HarmonicModel(basis=basis, linear=linear, **rest)
