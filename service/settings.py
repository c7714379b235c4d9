"""What an administrator decides about a server: one YAML file, checked here."""

from __future__ import annotations

import secrets
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)

from ..lib.instrument import first_problem
from ..lib.yaml_file import read_fields

Port = Annotated[int, Field(ge=1, le=65535)]
Network = IPv4Network | IPv6Network


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServiceSettings(_Strict):
    """A server of one laboratory.

    Attributes
    ----------
    home : folder of its state: records of Prefect, logs, process files. Not on a network drive.
    store : root of the artefact store.
    roots : folders in which sessions may lie, by the name that instruments use for them.
    user, password : that instruments and people give; HTTP Basic.
    prefect_host, prefect_port : where the Prefect UI and API listen. Keep it to this machine and
        put a reverse proxy before it for others.
    gateway_host, gateway_port : where instruments announce their sessions.
    instruments : networks that may do so.
    largest_message_bytes : beyond it a message is refused unread.
    database : connection of PostgreSQL, postgresql+asyncpg://...; None for SQLite in `home`.
    compute_slots : flows that compute at once.
    workers_per_flow : series that a flow reduces at once.
    scheduler : where they run: "local"; tcp://HOST:PORT of a Dask scheduler; or a batch system, as
        in configs/schedulers.
    merge_every : series of a session after which it is merged anew while it runs.
    heartbeat_s : seconds between signs of life of a flow; one silent for three is taken for dead.
    attempts : how often a flow that died is started anew.
    """

    home: Path
    store: Path
    roots: dict[str, Path]
    user: str = Field("lab", min_length=1)
    password: SecretStr
    prefect_host: str = "127.0.0.1"
    prefect_port: Port = 4200
    gateway_host: str = "127.0.0.1"
    gateway_port: Port = 4280
    instruments: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"),)
    largest_message_bytes: PositiveInt = 4 * 2**20
    database: Annotated[str, Field(pattern=r"^postgresql\+asyncpg://")] | None = None
    compute_slots: PositiveInt = 2
    workers_per_flow: PositiveInt = 1
    scheduler: str = "local"
    merge_every: PositiveInt = 4
    heartbeat_s: Annotated[int, Field(ge=30)] = 30  # the least that Prefect takes
    attempts: PositiveInt = 5

    @field_validator("home", "store")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("roots")
    @classmethod
    def _named(cls, value: dict[str, Path]) -> dict[str, Path]:
        if not value:
            raise ValueError("expected at least one folder, NAME: /path")
        return {name: path.expanduser().absolute() for name, path in value.items()}

    @field_validator("password")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < 12 or ":" in value.get_secret_value():
            raise ValueError("expected at least 12 characters, none of them a colon")
        return value

    @property
    def api_url(self) -> str:
        """Of Prefect, as programs on this machine reach it."""
        host = "127.0.0.1" if self.prefect_host in ("0.0.0.0", "::") else self.prefect_host
        return f"http://{host}:{self.prefect_port}/api"

    @property
    def ui_url(self) -> str:
        """Of Prefect's pages."""
        return self.api_url.removesuffix("/api")

    @property
    def auth(self) -> str:
        """``user:password``."""
        return f"{self.user}:{self.password.get_secret_value()}"


_FIRST = """\
# Settings of `ewaldflow serve`; every field is explained in docs/serving.md.
home: {home}
store: {store}
# Folders in which sessions may lie, by the name that instruments use.
roots:
  data: {data}
user: lab
# Keep this file to yourself: whoever has the password can start flows.
password: {password}
prefect_port: 4200
# To let other computers announce sessions: 0.0.0.0, and their networks.
gateway_host: 127.0.0.1
gateway_port: 4280
instruments: [127.0.0.0/8]
compute_slots: {slots}
"""


def write_first_settings(path: Path, cores: int) -> None:
    """Settings to begin with, beside `path`, with a password made up; readable by its owner only.

    Raises FileExistsError if there are settings already.
    """
    here = path.absolute().parent
    text = _FIRST.format(
        home=here / "service",
        store=here / "runs",
        data=here / "data",
        password=secrets.token_urlsafe(18),
        slots=max(1, cores // 2),
    )
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")
    (here / "data").mkdir(exist_ok=True)


def load_settings(path: Path) -> ServiceSettings:
    """The settings in a YAML file.

    Raises
    ------
    UserError : no file, no YAML, or a field that is unknown, missing or wrong.
    """
    content = read_fields(
        path,
        "settings",
        expected="settings as `ewaldflow serve` writes them",
        do="name another with --settings",
    )
    try:
        return ServiceSettings.model_validate(content)
    except ValidationError as error:
        raise first_problem(path, error) from None
