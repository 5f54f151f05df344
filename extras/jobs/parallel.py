"""Run the jobs of cross_validate.sh or seeds.sh side by side: on this machine, or by Slurm.

    python -m extras.jobs.parallel --jobs outputs/seeds/jobs.txt

Reads   JOBS: a job a line, its name and its command of the shell
Writes  NAME.log beside JOBS: what each job prints

Here, each GPU has one job at a time; without GPUs there are as many jobs as cores, and the cores
are dealt to them. With Slurm the jobs are an array, jobs.sbatch beside JOBS, and this waits until
it is done. A job that fails ends the whole: its last line is shown and its exit status returned.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib

from common import settings
from common.files import UserError, write_text

# ----------------------------------------------------------------------------------------------
JOBS = "outputs/seeds/jobs.txt"  # lines such as "seed1 runs/models.sh --seed 1"
AT_ONCE = 0  # jobs at a time; 0: one a GPU, without GPUs one a core; Slurm: as many as it likes
SLURM = ""  # options of sbatch, "--partition=gpu --gres=gpu:1 --time=8:00:00"; empty: run here
DRY_RUN = False  # print what would be run, and run nothing
# ----------------------------------------------------------------------------------------------

ARRAY = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --array=1-{count}
#SBATCH --chdir={project}
#SBATCH --output={folder}/slurm-%a.log
#SBATCH {options}
export OMP_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}}
read -r name command < <(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {jobs})
bash -c "$command" > {folder}/"$name.log" 2>&1 || {{
  status=$?
  echo "$name" >> {folder}/failed.txt
  scancel --state=PENDING "$SLURM_ARRAY_JOB_ID"
  exit $status
}}
"""


def main() -> None:
    path = Path(JOBS).resolve()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"--jobs: {error}") from None
    jobs = dict(line.split(maxsplit=1) for line in lines)
    if not jobs:
        raise UserError(f"--jobs: {path} has no job")
    name, status = run_by_slurm(path, len(jobs)) if SLURM else run_here(path.parent, jobs)
    if status:
        log = path.parent / f"{name}.log"
        said = log.read_text(errors="replace").split("\n") if log.exists() else []
        last = next((line for line in reversed(said) if line.strip()), "it says nothing")
        print(f"{name} failed with status {status}, {log}: {last}", file=sys.stderr)
        sys.exit(status)


def run_by_slurm(path: Path, count: int | str) -> tuple[str, int]:
    """Submit all jobs as one array and wait; return the name of a failed one, and the status."""
    names = {"project": Path.cwd(), "folder": path.parent, "jobs": path, "name": path.parent.name}
    quoted = {name: shlex.quote(str(value)) for name, value in names.items()}
    count = f"{count}%{AT_ONCE}" if AT_ONCE else count
    text = ARRAY.format(count=count, options=SLURM, **quoted)
    if DRY_RUN:
        print(text)
        return "", 0
    if not shutil.which("sbatch"):
        raise UserError("--slurm: there is no sbatch here: call this where Slurm takes jobs")
    write_text(path.with_suffix(".sbatch"), text)
    failed = path.with_name("failed.txt")
    failed.unlink(missing_ok=True)
    status = subprocess.run(["sbatch", "--wait", path.with_suffix(".sbatch")]).returncode
    if status and not failed.exists():
        logs = f"{path.parent}/slurm-*.log"
        raise UserError(f"--slurm: sbatch ends with status {status}: see above and {logs}")
    return (failed.read_text().split()[0] if status else ""), status


def find_places(count: int) -> list[dict[str, str]]:
    """Return what is set in the environment of each of the jobs that run at a time."""
    gpus, cores = find_gpus(), joblib.cpu_count()
    number = min(count, AT_ONCE or len(gpus) or cores)
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // number)))
    return [
        {"OMP_NUM_THREADS": threads}
        | ({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {})
        for place in range(number)
    ]


def find_gpus() -> list[str]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES allows; where it is not set, all there are."""
    if (allowed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in allowed.split(",") if gpu.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return [line for line in done.stdout.split() if line.isdigit()] * (done.returncode == 0)


def run_here(folder: Path, jobs: dict[str, str]) -> tuple[str, int]:
    """Run the jobs; return the name and the status of the first that fails, else ("", 0)."""
    free = find_places(len(jobs))
    if DRY_RUN:
        for name, command in jobs.items():
            print(f"{name}: {command}")
        print(f"{len(free)} at a time: {free}")
        return "", 0
    asked: list[int] = []  # signals, obeyed below: while a job starts, it would outlive this
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda sign, _: asked.append(sign))
    waiting, running = list(jobs), {}
    try:
        while waiting or running:
            while waiting and free:
                name, place = waiting.pop(0), free.pop()
                running[name] = start(folder / f"{name}.log", jobs[name], place), place, time.time()
                print(f"{name}: started, {place}, {folder / name}.log", flush=True)
            time.sleep(0.05)
            if asked:
                sys.exit(128 + asked[0])
            for name, (process, place, began) in list(running.items()):
                if (status := process.poll()) is not None:
                    print(f"{name}: status {status} after {time.time() - began:.0f} s", flush=True)
                    del running[name]
                    free.append(place)
                    if status:
                        return name, status if status > 0 else 128 - status
    finally:
        for process, *_ in running.values():
            end(process)
    return "", 0


def start(log: Path, command: str, place: dict[str, str]) -> subprocess.Popen:
    """Start a job in a group of processes, which can be ended together."""
    with open(log, "wb") as stream:
        return subprocess.Popen(
            ["bash", "-c", command],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | place,
            start_new_session=True,
        )


def end(process: subprocess.Popen) -> None:
    """End a job and what it started, if it still runs."""
    with contextlib.suppress(ProcessLookupError):  # it may end right now
        if process.poll() is None and hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGTERM)
        elif process.poll() is None:  # Windows knows no groups of processes
            process.terminate()


if __name__ == "__main__":
    settings.run(main)
