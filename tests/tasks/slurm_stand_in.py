"""A stand-in for SLURM: `sbatch`, `squeue` and `scancel` that run jobs on this machine.

``python slurm_stand_in.py sbatch SCRIPT`` is ``sbatch SCRIPT``, and so on. The ``#SBATCH`` lines of
the script are read, and unknown options are refused, as by the real one. Scripts and process
numbers of the jobs lie in the folder STAND_IN_JOBS.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

_KNOWN = {"-J", "-o", "-p", "-A", "-n", "--cpus-per-task", "--mem", "-t", "--constraint"}


def alive(job: Path) -> bool:
    """Whether the job's processes are still there."""
    try:
        os.killpg(int(job.read_text()), 0)
    except (ProcessLookupError, ValueError):
        return False
    return True


def sbatch(jobs: Path, script: Path) -> int:
    """Start a job script and tell its number."""
    stated: dict[str, str] = {}
    for line in script.read_text().splitlines():
        if line.startswith("#SBATCH "):
            name, _, value = line.removeprefix("#SBATCH ").replace("=", " ", 1).partition(" ")
            stated[name] = value
    unknown = set(stated) - _KNOWN
    if unknown or stated.get("-A") == "nobody":
        what = f"unknown option {unknown}" if unknown else "Invalid account specified"
        print(f"sbatch: error: {what}", file=sys.stderr)
        return 1
    number = 1000 + len(list(jobs.glob("*.job")))
    (jobs / f"{number}.sh").write_text(script.read_text())
    log = stated["-o"].replace("%x", stated["-J"]).replace("%j", str(number))
    with open(log, "w") as out:
        process = subprocess.Popen(
            ["bash", str(jobs / f"{number}.sh")],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env={**os.environ, "SLURM_JOB_ID": str(number)},
        )  # fmt: skip
    (jobs / f"{number}.job").write_text(str(process.pid))
    print(f"Submitted batch job {number}")
    return 0


def main(command: str, *given: str) -> int:
    """What each command does."""
    jobs = Path(os.environ["STAND_IN_JOBS"])
    if command == "sbatch":
        return sbatch(jobs, Path(given[-1]))
    if command == "squeue":
        for job in sorted(jobs.glob("*.job")):
            if alive(job):
                print(job.stem)
        return 0
    job = jobs / f"{given[-1]}.job"
    if not alive(job):
        print(f"scancel: error: Invalid job id {given[-1]}", file=sys.stderr)
        return 1
    how = signal.SIGKILL if "--signal=KILL" in given else signal.SIGTERM
    os.killpg(int(job.read_text()), how)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
