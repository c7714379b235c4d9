"""prefect.yaml: every flow is offered, each with a form that says what it wants."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

import ewaldflow.flows
from ewaldflow.flows.forms import readable, said_of
from ewaldflow.service.programs import COMPUTE_POOL, INSTRUMENT_POOL
from ewaldflow.service.registration import DEPLOYMENTS

OFFERED = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["deployments"]
EACH = pytest.mark.parametrize("one", OFFERED, ids=[one["name"] for one in OFFERED])
# filled in by the server (service/registration.py)
BY_SERVER = {"store", "n_workers", "merge_every"}


def test_every_flow_is_offered_once() -> None:
    found = set()
    for module in pkgutil.iter_modules(ewaldflow.flows.__path__, "ewaldflow.flows."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Flow) and value.fn.__module__ == module.name:
                found.add(f"{module.name}.{name}")
    entrypoints = [one["entrypoint"] for one in OFFERED]
    assert len(entrypoints) == len(set(entrypoints))
    assert set(entrypoints) == found
    assert len({one["name"] for one in OFFERED}) == len(OFFERED)


@EACH
def test_its_form_says_what_it_wants(one: dict[str, Any]) -> None:
    flow = load_flow_from_entrypoint(one["entrypoint"], use_placeholder_flow=False)
    schema = parameter_schema(flow)
    for name, field in schema.properties.items():
        assert {"type", "anyOf", "$ref", "allOf"} & field.keys(), f"{name} has no type"
        assert len(field.get("description", "")) > 3, f"{name} has no words"
    given = BY_SERVER | set(one.get("parameters", {}))
    assert set(one.get("parameters", {})) <= set(schema.properties)
    # what a person must fill in stands at the top of the form
    wanted = [name for name in schema.properties if name not in given]
    required = [name for name in schema.required if name not in given]
    assert wanted[: len(required)] == required
    assert len(required) <= 2
    assert one["description"].strip().endswith(".")
    assert one["tags"]
    assert one["work_pool"]["name"] in (COMPUTE_POOL, INSTRUMENT_POOL)
    for schedule in one.get("schedules", ()):
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert schedule["active"] is False


def test_several_parameters_may_share_what_is_said_of_them() -> None:
    text = """Do it.

Parameters
----------
one, other : of both,
    and more.
last : a number: 1 : 2.

Returns
-------
what : came of it.
"""
    assert said_of(text) == {
        "one": "of both, and more.",
        "other": "of both, and more.",
        "last": "a number: 1 : 2.",
    }
    assert said_of("Do it.") == {}


def test_fields_of_models_have_their_names_and_words() -> None:
    flow = load_flow_from_entrypoint("ewaldflow.flows.acquire.acquire", use_placeholder_flow=False)
    definitions = parameter_schema(flow).definitions
    readable(definitions)
    stop = definitions["Stop"]
    assert "Attributes" not in stop["description"]
    assert stop["properties"]["beam_hours"]["title"] == "beam_hours"
    assert stop["properties"]["beam_hours"]["description"] == "that the beam was on the specimen."
    imaging = definitions["Imaging"]["properties"]
    assert imaging["magnification"]["description"] == imaging["exposure_s"]["description"]
    assert imaging["exposure_s"]["default"] == 0.1
