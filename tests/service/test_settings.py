"""Settings of a server: what is written first, what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.service.programs import all_programs, variables
from ewaldflow.service.settings import load_settings, write_first_settings

GOOD = """\
home: home
store: runs
roots: {data: data}
password: twelve-letters
"""


def test_first_settings_are_private_and_complete(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    write_first_settings(file, cores=5)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    settings = load_settings(file)
    assert settings.roots == {"data": tmp_path / "data"}
    assert settings.roots["data"].is_dir()
    assert settings.compute_slots == 2
    assert settings.api_url == "http://127.0.0.1:4200/api"
    assert len(settings.password.get_secret_value()) == 24  # 18 bytes in base 64
    with pytest.raises(FileExistsError):
        write_first_settings(file, cores=5)


def test_two_first_settings_have_different_passwords(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_first_settings(tmp_path / name / "serve.yaml", cores=1)
    one, two = (load_settings(tmp_path / name / "serve.yaml") for name in ("one", "two"))
    assert one.auth != two.auth


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("password: short", "password"),
        ("password: with:a:colon:in:it", "password"),
        ("roots: {}", "roots"),
        ("prefect_port: 70000", "prefect_port"),
        ("instruments: [192.168.7.1/24]", "instruments"),  # bits beside the network
        ("attempts: 0", "attempts"),
        ("heartbeat_s: 29", "heartbeat_s"),
        ("gatway_port: 4280", "gatway_port"),
        ("database: postgresql://a:b@c/d", "database"),  # the driver is missing
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: str, field: str) -> None:
    name = change.partition(":")[0]
    lines = [line for line in GOOD.splitlines() if not line.startswith(name + ":")]
    file = tmp_path / "serve.yaml"
    file.write_text("\n".join([*lines, change]))
    with pytest.raises(UserError) as error:
        load_settings(file)
    assert field in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- a\n- b", "home: [", ""])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"serve\.yaml"):
        load_settings(file)


def test_programs_know_where_they_belong(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(GOOD + "prefect_host: 0.0.0.0\ndatabase: postgresql+asyncpg://a:b@c/d\n")
    settings = load_settings(file)
    told = variables(settings)
    assert told["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert told["PREFECT_SERVER_API_AUTH_STRING"] == "lab:twelve-letters"
    assert told["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://a:b@c/d"
    names = [one.name for one in all_programs(settings, file)]
    assert names == ["keeper", "gateway", "worker-instrument", "worker-compute", "server"]
    # passwords are not for everybody who lists processes
    for one in all_programs(settings, file):
        assert "twelve-letters" not in " ".join(one.command)
