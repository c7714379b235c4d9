"""What Prefect must know before flows can run: pools, limits, deployments, who is dead.

Each part is made if it is not there and changed to what is wanted if it is, so that it can be done
at every start.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    GlobalConcurrencyLimitCreate,
    WorkPoolCreate,
)
from prefect.client.schemas.objects import StateType, WorkPool
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists

from ..flows.forms import readable
from ..flows.turn import microscope_limit
from ..lib.instrument import available_instruments
from .programs import COMPUTE_POOL, INSTRUMENT_POOL
from .settings import ServiceSettings

DEPLOYMENTS = Path(__file__).resolve().parents[1] / "prefect.yaml"
ZOMBIES = "flows that fell silent have crashed"


async def register(settings: ServiceSettings) -> tuple[str, ...]:
    """Make or mend all of it; returns the deployments' names."""
    async with get_client() as client:
        await _pools(client)
        await _limits(client)
        await _zombies(client, settings)
    return await _deployments(settings)


async def _pools(client: PrefectClient) -> None:
    there = {pool.name for pool in await client.read_work_pools()}
    for name, about in (
        (INSTRUMENT_POOL, "flows that move a microscope"),
        (COMPUTE_POOL, "flows that compute"),
    ):
        if name not in there:
            try:
                pool: WorkPool = await client.create_work_pool(
                    WorkPoolCreate(name=name, type="process", description=about)
                )
                assert pool.name == name
            except ObjectAlreadyExists:
                pass


async def _limits(client: PrefectClient) -> None:
    there = {one.name for one in await client.read_global_concurrency_limits(limit=200, offset=0)}
    for instrument in available_instruments():
        name = microscope_limit(instrument)
        if name not in there:
            await client.create_global_concurrency_limit(
                GlobalConcurrencyLimitCreate(name=name, limit=1, active=True)
            )


async def _zombies(client: PrefectClient, settings: ServiceSettings) -> None:
    wanted = AutomationCore(
        name=ZOMBIES,
        description="A killed flow cannot say so: it is recognised by its missing signs of life.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=3 * settings.heartbeat_s),
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message="no sign of life any more")
        ],
    )  # fmt: skip
    there = await client.read_automations_by_name(ZOMBIES)
    if there:
        await client.update_automation(there[0].id, wanted)
        for twin in there[1:]:
            await client.delete_automation(twin.id)
    else:
        await client.create_automation(wanted)


async def _deployments(settings: ServiceSettings) -> tuple[str, ...]:
    names = []
    for one in yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["deployments"]:
        made = await asyncio.to_thread(
            RunnerDeployment.from_entrypoint,
            entrypoint=one["entrypoint"],
            name=one["name"],
            description=one["description"],
            tags=one.get("tags", []),
            schedules=[
                DeploymentScheduleCreate(
                    schedule=CronSchedule(cron=each["cron"], timezone=each["timezone"]),
                    active=each["active"],
                )
                for each in one.get("schedules", ())
            ],
            version=version("ewaldflow"),
            work_pool_name=one["work_pool"]["name"],
        )
        accepted = made._parameter_openapi_schema.properties
        given = {
            "store": str(settings.store),
            "n_workers": settings.workers_per_flow,
            "scheduler": settings.scheduler,
            "merge_every": settings.merge_every,
            **one.get("parameters", {}),
        }
        made.parameters = {name: value for name, value in given.items() if name in accepted}
        readable(made._parameter_openapi_schema.definitions)
        await made.aapply()
        names.append(f"{made.flow_name}/{made.name}")
    return tuple(names)
