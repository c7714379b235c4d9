"""Workers as jobs of SLURM, which a stand-in plays: jobs come, end early, and are refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ewaldflow.lib.errors import UserError
from ewaldflow.tasks import slurm
from ewaldflow.tasks.slurm import SlurmConfig, job_script, load_scheduler
from ewaldflow.tasks.workers import carry_out, carry_out_each, workers

_STAND_IN = Path(__file__).with_name("slurm_stand_in.py")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of a laboratory whose SLURM is the stand-in; a YAML for it lies there."""
    for name in ("sbatch", "squeue", "scancel"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {_STAND_IN} {name} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "jobs").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setattr(slurm, "_LOOK_S", 0.5)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for number in _queue():
        subprocess.run(["scancel", number], check=False)


def _stated(folder: Path, **fields: object) -> str:
    path = folder / "lab.yaml"
    path.write_text(yaml.safe_dump({"memory": "2 GB", "walltime": "00:10:00", **fields}))
    return str(path)


def _queue() -> list[str]:
    return subprocess.run(["squeue"], capture_output=True, text=True, check=True).stdout.split()


def _gone() -> bool:
    for _ in range(100):
        if not _queue():
            return True
        time.sleep(0.1)
    return False


def test_the_script_says_what_was_asked_for() -> None:
    config = SlurmConfig(
        queue="compute", account="em-lab", cores=4, memory="16 GiB", walltime="02:30:00",
        prologue=("module load ewaldflow", "export OMP_NUM_THREADS=1"),
        directives=("--constraint=fast",), python="/opt/ed/bin/python", interface="ib0",
        local_directory="$TMPDIR", log_folder=Path("/shared/logs"),
    )  # fmt: skip
    script = job_script(config, "tcp://10.1.2.3:8786", "ewaldflow-0")
    lines = script.splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    for line in ("-J ewaldflow", "-p compute", "-A em-lab", "-n 1", "--cpus-per-task=4",
                 "--mem=16G", "-t 02:30:00", "--constraint=fast",
                 "-o /shared/logs/%x-%j.log"):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    module, worker = lines.index("module load ewaldflow"), len(lines) - 1
    assert lines[module + 1] == "export OMP_NUM_THREADS=1"
    assert module < worker
    command = lines[worker]
    assert command.startswith("/opt/ed/bin/python -m distributed.cli.dask_worker tcp://10.1.2.3:")
    for option in ("--name ewaldflow-0", "--nthreads 1", "--nworkers 4", "--memory-limit 4.00GiB",
                   "--interface ib0", "--local-directory $TMPDIR", "--lifetime 8940s"):  # fmt: skip
        assert option in command


def test_the_script_of_the_documentation_is_the_one_that_is_written() -> None:
    page = (Path(slurm.__file__).parents[1] / "docs" / "slurm.md").read_text(encoding="utf-8")
    stated = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    shown = re.search(r"```bash\n(#!/usr.*?)```", page, re.DOTALL)
    assert stated is not None
    assert shown is not None
    config = SlurmConfig.model_validate(yaml.safe_load(stated[1]))
    written = job_script(config, "tcp://10.0.0.7:40123", "ewaldflow-0")
    assert "".join(written.split()) == "".join(shown[1].split())


def test_jobs_work_are_replaced_when_they_end_and_are_cancelled(cluster: Path) -> None:
    with workers(1, _stated(cluster, cores=2)) as address:
        assert _queue() == ["1000"]
        assert carry_out_each(address, divmod, [(n, 7) for n in range(9)])[8] == (1, 1)
        assert carry_out(address, os.getcwd) == str(cluster)
        mark = str(cluster / "begun")

        def long() -> int:
            import os
            import time

            if not os.path.exists(mark):
                open(mark, "w").close()
                time.sleep(60)
            return 5

        def cancel() -> None:
            while not Path(mark).exists():
                time.sleep(0.1)
            subprocess.run(["scancel", "--signal=KILL", "1000"], check=True)

        thread = threading.Thread(target=cancel)
        thread.start()
        assert carry_out(address, long) == 5
        thread.join()
        assert _queue() == ["1001"]
    assert _gone()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"account": "nobody"}, "sbatch: found 'sbatch: error: Invalid account specified'"),
        ({"python": "/bin/false"}, "4 jobs without a worker; the last, 1003, ended"),
        ({"log_folder": "/proc/none"}, "correct interface or log_folder"),
        ({"interface": "none0"}, "none0"),
    ],
)
def test_what_does_not_work_is_one_line(cluster: Path, fields: dict[str, str], told: str) -> None:
    with pytest.raises(UserError) as error, workers(1, _stated(cluster, **fields)):
        pass
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert _gone()


def test_without_slurm_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch: found no such file"), workers(1, "slurm"):
        pass


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("quue: x", "quue"),
        ("cores: 0", "cores"),
        ("memory: lots", "memory"),
        ("memory: 3 KB", "at least 256 MiB"),
        ("walltime: forever", "walltime"),
        ("prologue: ['a\n\n  b']", "one line"),
        ("[1]", "fields and values"),
        ("a: [", "plain YAML"),
    ],
)
def test_wrong_fields_are_named(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=told) as error:
        load_scheduler(str(path))
    assert str(path) in str(error.value)


def test_the_one_in_configs_can_be_used() -> None:
    config = load_scheduler("slurm")
    assert config.cores == 4
    assert SlurmConfig(walltime="00:01:30").lifetime_s == 45
    with pytest.raises(UserError, match="check the path"):
        load_scheduler("none.yaml")
