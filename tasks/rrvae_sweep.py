"""sweep: several trainings on one scan, compared: an `rrvae-sweep` artefact."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from pydantic import TypeAdapter, ValidationError

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.errors import UserError
from ..lib.rrvae.config import CoordinateConfig, HarmonicConfig, RrvaeConfig
from ..lib.rrvae.plan import Plan
from ..lib.rrvae.preprocess_config import PreprocessConfig
from .overfocus import PAGE
from .report import below
from .running import TASK_OPTIONS, flow_run_id

KIND = "rrvae-sweep"
SCHEMA_VERSION = 1
MOST = 200  # trainings


@dataclass(frozen=True)
class Point:
    """One training of a sweep.

    Attributes
    ----------
    choices : what was tried, by name.
    ref : of its `rrvae` artefact; "" where it failed.
    reason : why it failed; "" where it did not.
    figures : of merit.
    """

    choices: dict[str, Any]
    ref: str = ""
    reason: str = ""
    figures: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """The choices in a line."""
        return ", ".join(f"{name} {_short(value)}" for name, value in self.choices.items())


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def grid(plan: Plan, tried: Mapping[str, Sequence[Any]], repeat: int = 1) -> list[
    tuple[dict[str, Any], Plan]
]:  # fmt: skip
    """Every combination of values, with the plan that it is.

    Parameters
    ----------
    tried : values of fields of the model or of the preparation, by name.
    repeat : times each, with other seeds.

    Raises
    ------
    UserError : an unknown name, a value that cannot be, nothing to try or too many.
    """
    axes = dict(tried)
    for name, values in axes.items():
        if not values:
            raise UserError(name, "no value to try", "one or more", "give some, with commas")
    combinations = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    count = len(combinations) * repeat
    if not (axes or repeat > 1) or count > MOST:
        raise UserError("sweep", f"{count} trainings", f"2 to {MOST}", "give other values to try")
    points = []
    for choices in combinations:
        base = _changed(plan, choices)
        for number in range(repeat):
            one, said = base, dict(choices)
            if repeat > 1:
                shift = number * (max(base.model.seeds) + 1)
                seeds = tuple(seed + shift for seed in base.model.seeds)
                model = base.model.model_copy(update={"seeds": seeds})
                one, said = base.model_copy(update={"model": model}), {**choices, "seeds": seeds}
            points.append((said, one))
    return points


def _changed(plan: Plan, choices: Mapping[str, Any]) -> Plan:
    model = plan.model.model_dump(exclude_unset=True)
    model["model"] = choices.get("model", plan.model.model)
    prepare = plan.prepare.model_dump(exclude_unset=True)
    fields = (
        CoordinateConfig.model_fields if model["model"] == "coordinate"
        else HarmonicConfig.model_fields
    )  # fmt: skip
    model = {name: value for name, value in model.items() if name in fields}
    for name, value in choices.items():
        if name in fields:
            model[name] = value
        elif name in PreprocessConfig.model_fields:
            prepare[name] = value
        else:
            raise UserError(
                f"--try {name}", "no such choice",
                f"one of {', '.join([*fields, *PreprocessConfig.model_fields])}",
                "mend its name",
            )  # fmt: skip
    try:
        chosen: HarmonicConfig | CoordinateConfig = TypeAdapter(RrvaeConfig).validate_python(model)
        return plan.model_copy(
            update={"model": chosen, "prepare": PreprocessConfig.model_validate(prepare)}
        )
    except ValidationError as error:
        from ..lib.instrument import first_problem

        raise first_problem("sweep", error) from None


@task(task_run_name="compare trainings {name}", **TASK_OPTIONS)
def compare(name: str, points: Sequence[Point], store: Path) -> str:
    """Put the trainings of a sweep side by side.

    Returns
    -------
    Reference of the artefact; its file is report.html.
    """
    rows = [
        {**{k: _short(v) for k, v in one.choices.items()}, **(one.figures or {}),
         "failed": one.reason}
        for one in points
    ]  # fmt: skip
    create_table_artifact(rows, key="rrvae-sweep", description=f"Sweep {name}")
    return sweep_artefact(name, points, store, flow_run_id())


def sweep_artefact(
    name: str, points: Sequence[Point], store: Path, flow_run: str | None = None
) -> str:
    """What `compare` does, without Prefect."""
    kept = ArtefactStore(store)
    made = {one.ref: kept.get(one.ref) for one in points if one.ref}
    recipe = Recipe(
        kind=KIND,
        name=name,
        schema_version=SCHEMA_VERSION,
        inputs=tuple(Input.from_artefact("rrvae", one) for one in made.values()),
        configuration={
            "tried": [{**one.choices, "artefact": one.ref, "failed": one.reason} for one in points]
        },
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.report.rrvae_sweep_page import Trained, rrvae_sweep_page

    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        rows = [
            Trained(
                one.label, one.figures or {}, one.reason,
                f"../../../../{below(kept, made[one.ref])}/files/{PAGE}" if one.ref else "",
                made[one.ref].manifest.seconds if one.ref else 0.0,
            )
            for one in points
        ]  # fmt: skip
        manifests = kept.ancestors(*made)
        page = rrvae_sweep_page(name, rows, kept.running_code.version, manifests)
        (draft.files / PAGE).write_text(page, encoding="utf-8")
        good = best_of(points)
        draft.figures_of_merit = {
            "trainings": len(points),
            "failed": sum(not one.ref for one in points),
            "trusted": sum((one.figures or {}).get("verdict") == "trusted" for one in points),
            "best": good.ref if good else None,
            "best_choices": {k: _short(v) for k, v in good.choices.items()} if good else None,
        }
        return draft.publish().ref


def best_of(points: Sequence[Point]) -> Point | None:
    """Of the trusted trainings the one whose held-out patterns gain most; None if none is.

    Gains of patterns prepared in different ways are not alike; estimated r then says more.
    """
    trusted = [one for one in points if (one.figures or {}).get("verdict") == "trusted"]
    return max(
        trusted,
        key=lambda one: (one.figures or {}).get("held_out_gain") or float("-inf"),
        default=None,
    )
