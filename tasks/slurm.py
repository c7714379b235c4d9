"""Workers as jobs of SLURM: what is asked of it, and jobs that ended submitted anew."""

from __future__ import annotations

import logging
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dask.utils import parse_bytes
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
)

from ..lib.errors import UserError
from ..lib.instrument import first_problem
from ..lib.yaml_file import read_fields
from . import workers as shared

if TYPE_CHECKING:
    from distributed import LocalCluster

SCHEDULERS = Path(__file__).resolve().parents[1] / "configs" / "schedulers"
#: How often jobs are looked after, and how many in vain are enough.
_LOOK_S, _IN_VAIN = 10.0, 4
#: A worker leaves so long before its job is ended.
_BEFORE_END_S = 60


def _one_line(value: str) -> str:
    if not value.strip() or "\n" in value:
        raise ValueError("expected one line of text")
    return value


Line = Annotated[str, AfterValidator(_one_line)]


class SlurmConfig(BaseModel):
    """How jobs of workers are submitted.

    Attributes
    ----------
    queue, account : partition and account; SLURM's own default if not stated.
    cores : of a job, each a worker process.
    memory : of a job, that its processes share evenly, such as "16 GB".
    walltime : of a job, hours:minutes:seconds. Work that a job leaves is done again by another.
    prologue : lines of the shell before the workers start, such as "module load ewaldflow".
    directives : further options of sbatch, such as "--constraint=fast".
    python : interpreter on the nodes; the one that runs this if not stated.
    interface : network that nodes and this machine share, such as "ib0".
    local_directory : of a node, for what does not fit in memory, such as "$TMPDIR".
    log_folder : where what the jobs print is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: Line | None = None
    account: Line | None = None
    cores: PositiveInt = 1
    memory: Line = "8 GB"
    walltime: str = Field("04:00:00", pattern=r"^\d{1,3}:[0-5]\d:[0-5]\d$")
    prologue: tuple[Line, ...] = ()
    directives: tuple[Line, ...] = ()
    python: Line | None = None
    interface: Line | None = None
    local_directory: Line | None = None
    log_folder: Path = Path("slurm-logs")

    @field_validator("memory")
    @classmethod
    def _bytes(cls, value: str) -> str:
        if parse_bytes(value) < 2**28:
            raise ValueError("expected a number and a unit, at least 256 MiB, such as 16 GB")
        return value

    @property
    def lifetime_s(self) -> int:
        """After which a worker leaves."""
        hours, minutes, seconds = (int(part) for part in self.walltime.split(":"))
        whole = 3600 * hours + 60 * minutes + seconds
        return max(whole - _BEFORE_END_S, whole // 2)


def load_scheduler(name_or_path: str) -> SlurmConfig:
    """A batch system by its name in configs/schedulers, or from a YAML file anywhere.

    Raises
    ------
    UserError : no such name or file; or a field that is unknown or wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = SCHEDULERS / f"{name_or_path}.yaml"
        if not path.exists():
            known = ", ".join(sorted(one.stem for one in SCHEDULERS.glob("*.yaml")))
            raise UserError(
                "scheduler", f"'{name_or_path}'", f"local, an address tcp://..., or {known}",
                "name one, or give a .yaml",
            )  # fmt: skip
    content = read_fields(path)
    try:
        return SlurmConfig.model_validate(content)
    except ValidationError as error:
        raise first_problem(path, error) from None


def job_script(config: SlurmConfig, address: str, name: str) -> str:
    """What is submitted for a job whose workers join the scheduler at an address.

    Raises
    ------
    UserError : dask-jobqueue, which writes it, is not installed.
    """
    try:
        from dask_jobqueue.slurm import SLURMJob
    except ImportError:
        raise UserError(
            "scheduler slurm", "no dask-jobqueue", "what writes its jobs",
            "pip install 'ewaldflow[slurm]'",
        ) from None  # fmt: skip
    job: Any = SLURMJob(
        scheduler=address,
        name=name,
        cores=config.cores,
        processes=config.cores,
        memory=config.memory,
        walltime=config.walltime,
        job_name="ewaldflow",
        queue=config.queue,
        account=config.account,
        python=config.python,
        interface=config.interface,
        local_directory=config.local_directory,
        job_script_prologue=list(config.prologue),
        job_extra_directives=[f"-o {config.log_folder.absolute()}/%x-%j.log", *config.directives],
        worker_extra_args=["--lifetime", f"{config.lifetime_s}s", "--lifetime-stagger", "30s"],
    )
    return str(job.job_script())


@contextmanager
def slurm_workers(config: SlurmConfig, n: int, wait: bool = True) -> Iterator[str]:
    """The address of a scheduler in this process, with `n` workers as SLURM has room for them.

    Parameters
    ----------
    wait : for the first of them.

    Raises
    ------
    UserError : nothing can be submitted, or jobs end before their workers come up.
    """
    from distributed import LocalCluster

    try:
        config.log_folder.mkdir(parents=True, exist_ok=True)
        cluster = LocalCluster(
            n_workers=0,
            host=None if config.interface else "tcp://0.0.0.0",
            interface=config.interface,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
            scheduler_kwargs={"allowed_failures": shared.RUNS - 1},
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            "scheduler slurm", " ".join(str(error).split())[:160], "a scheduler that starts",
            "correct interface or log_folder",
        ) from None  # fmt: skip
    with cluster:
        address = cluster.scheduler_address
        shared.queued.add(address)
        shared.ended.pop(address, None)
        jobs = _Jobs(config, address, -(-n // config.cores))
        keeper = threading.Thread(target=jobs.keep, args=(cluster,), daemon=True)
        try:
            jobs.submit()
            keeper.start()
            while wait and not cluster.scheduler_info["workers"]:
                if why := shared.ended.get(address):
                    raise UserError(
                        "scheduler slurm", why, "jobs whose workers come up",
                        f"read what they wrote in {config.log_folder}",
                    )  # fmt: skip
                time.sleep(0.2)
            yield address
        finally:
            jobs.over.set()
            if keeper.is_alive():
                keeper.join()
            jobs.cancel()
            shared.queued.discard(address)


class _Jobs:
    """The jobs of a scheduler, so many of them, whatever becomes of each.

    Attributes
    ----------
    over : set when no more are wanted.
    """

    def __init__(self, config: SlurmConfig, address: str, count: int) -> None:
        self._config, self._address, self._count = config, address, count
        self._names: dict[str, str] = {}  # by SLURM's number
        self._submitted = self._in_vain = 0
        self._came: set[str] = set()
        self.over = threading.Event()

    def submit(self) -> None:
        """Submit those that are not there; UserError if SLURM does not take one."""
        while len(self._names) < self._count:
            name = f"ewaldflow-{self._submitted}"
            self._submitted += 1
            port = self._address.rpartition(":")[2]
            script = (self._config.log_folder / f"{name}-{port}.sh").absolute()
            script.write_text(job_script(self._config, self._address, name), encoding="utf-8")
            said = _asked("sbatch", str(script))
            number = re.search(r"\d+", said)
            if number is None:
                raise UserError("sbatch", repr(said), "the number of a job", f"try it on {script}")
            self._names[number[0]] = name

    def keep(self, cluster: LocalCluster) -> None:
        """Submit jobs anew that ended; give up if none brings a worker."""
        last = ""
        while not self.over.wait(_LOOK_S):
            workers = {str(one["name"]) for one in cluster.scheduler_info["workers"].values()}
            came = {one for one in self._names.values() if any(_is_of(w, one) for w in workers)}
            if came - self._came:
                self._in_vain = 0
            self._came |= came
            try:
                there = set(
                    _asked("squeue", "--noheader", "--format=%i", "--user", getuser()).split()
                )
            except UserError:  # it does not answer at times
                continue
            for number in self._names.keys() - there:
                last = f"the last, {number}, ended"
                self._in_vain += self._names.pop(number) not in self._came
            try:
                self.submit()
            except UserError as error:
                last = str(error)
                self._in_vain += 1
            if self._in_vain >= _IN_VAIN and not workers:
                shared.ended[self._address] = f"{self._in_vain} jobs without a worker; {last}"
                return

    def cancel(self) -> None:
        """Cancel all; those that ended before are no error."""
        for number in self._names:
            with suppress(UserError):
                _asked("scancel", number)


def _is_of(worker: str, job: str) -> bool:
    """Whether a worker's name is that of a job, which may have several."""
    return worker == job or worker.startswith(f"{job}-")


def _asked(*command: str) -> str:
    """What a command of SLURM says; UserError if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        found = error.strerror if isinstance(error, OSError) else "no answer in 60 s"
        raise UserError(
            command[0], str(found).lower(), "a command of SLURM",
            "run this on a machine that submits jobs",
        ) from None  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(
            command[0], f"'{said[0]}'", "a job that SLURM takes", "mend the YAML of the scheduler"
        )
    return done.stdout
