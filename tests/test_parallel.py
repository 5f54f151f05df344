"""extras/jobs/parallel.py and the scripts that use it: folds and seeds side by side, or Slurm."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hostile
import pytest

ROOT = Path(__file__).resolve().parents[1]


def start(*arguments, **environment):
    """Start extras/jobs/parallel.py as the shell scripts do."""
    return subprocess.Popen(
        [sys.executable, "-m", "extras.jobs.parallel", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell ignores Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder, jobs, *settings, **environment):
    """Run {name: command}; return the exit status and both outputs."""
    path = folder / "jobs.txt"
    path.write_text("".join(f"{name} {command}\n" for name, command in jobs.items()))
    process = start("--jobs", path, *settings, **environment)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def wait_for(path):
    for _ in range(5000):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{path} does not come")


def ends(pid):
    """Tell whether a process that was sent a signal is gone soon; a zombie is."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(3000):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_jobs_run_at_the_same_time_and_each_has_its_log(tmp_path):
    """Each waits for what the other one writes."""
    meet = "echo {0} > {2}/{0}; until [ -e {2}/{1} ]; do sleep 0.02; done; echo $OMP_NUM_THREADS"
    jobs = {a: meet.format(a, b, tmp_path) for a, b in (("one", "two"), ("two", "one"))}
    status, _, err = run(tmp_path, jobs, "--at-once", 2, OMP_NUM_THREADS="3")
    assert (status, err) == (0, "")
    assert [(tmp_path / f"{name}.log").read_text() for name in jobs] == ["3\n", "3\n"]


def test_a_failing_job_ends_the_whole_with_its_last_line_and_status(tmp_path):
    """Neither what another job has started goes on, nor does one begin that waits."""
    jobs = {
        "long": f"sleep 600 & echo $! > {tmp_path}/pid; wait",
        "bad": f"until [ -s {tmp_path}/pid ]; do sleep 0.02; done; echo why; echo; exit 7",
        "later": f"touch {tmp_path}/later",
    }
    status, _, err = run(tmp_path, jobs, "--at-once", 2)
    assert (status, err) == (7, f"bad failed with status 7, {tmp_path}/bad.log: why\n")
    assert ends((tmp_path / "pid").read_text().strip())
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("sign, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_no_job_outlives_an_interrupted_run(tmp_path, sign, status):
    (tmp_path / "jobs.txt").write_text(f"long sleep 600 & echo $! > {tmp_path}/pid; wait\n")
    process = start("--jobs", tmp_path / "jobs.txt")
    pid = wait_for(tmp_path / "pid").strip()
    process.send_signal(sign)
    assert process.wait(timeout=300) == status
    process.communicate()
    assert ends(pid)


def test_trainings_side_by_side_give_what_they_give_in_series(tmp_path, data, bert):
    """Two seeds of a real stage: the weights that one of them has alone, and others."""
    command = f"{shlex.quote(sys.executable)} text_train.py --data {data} --bert {bert} --epochs 1"
    jobs = {f"seed{n}": f"{command} --outputs {tmp_path}/seed{n} --seed {n}" for n in (1, 2)}
    assert run(tmp_path, jobs, "--at-once", 2)[0] == 0
    alone = [*shlex.split(command), "--outputs", tmp_path / "alone", "--seed", "2"]
    subprocess.run(alone, cwd=ROOT, check=True, capture_output=True)
    first, second, other = (
        (tmp_path / name / "text/model.safetensors").read_bytes()
        for name in ("seed1", "seed2", "alone")
    )
    assert second == other != first


@pytest.mark.parametrize(
    ("settings", "gpus", "said"), [((), "3,5", {"3\n", "5\n"}), (("--at-once", 1), "", {"\n"})]
)
def test_no_two_jobs_are_at_one_place(tmp_path, settings, gpus, said):
    """Neither on a GPU nor, without any, more at a time than is asked for."""
    place = f"{tmp_path}/place$CUDA_VISIBLE_DEVICES"
    one = f"mkdir {place} && sleep 0.1 && rmdir {place} && echo $CUDA_VISIBLE_DEVICES"
    jobs = {f"job{n}": one for n in range(5)}
    status, _, err = run(tmp_path, jobs, *settings, CUDA_VISIBLE_DEVICES=gpus)
    assert (status, err) == (0, "")
    assert {(tmp_path / f"{name}.log").read_text() for name in jobs} == said


@pytest.fixture
def project(tmp_path):
    """A folder with what the scripts need of the project, and two corpora, A and B, beside it."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "runs", folder / "runs")
    for path in (
        *(ROOT / room for room in ("common", "corpora", "extras", "fusion", "models")),
        *ROOT.glob("*.py"),
        *ROOT.glob("*.txt"),
    ):
        (folder / path.name).symlink_to(path)
    (folder / ".venv" / "bin").mkdir(parents=True)
    wanted = ("requirements.txt", "constraints.txt")
    installed = "".join((ROOT / name).read_text() for name in wanted)
    (folder / ".venv" / "installed.txt").write_text(installed)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    hostile.write(tmp_path / "A", "KEMDy19", [])
    hostile.write(tmp_path / "B", "KEMDy20", [])
    return folder


def call(project, script, *arguments, **environment):
    done = subprocess.run(
        ["bash", project / "runs" / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_folds_of_two_corpora_are_a_job_each(project):
    """A dry run: each fold tests sessions of both, all of them once, and nothing is trained."""
    corpora = f"{project.parent}/A,{project.parent}/B"
    settings = ("--seed", "2", "--bert", "with blank", "--at-once", "2", "--dry-run")
    printed = call(project, "cross_validate.sh", corpora, *settings, K="3")
    jobs = (project / "outputs/folds/jobs.txt").read_text().splitlines()
    assert [job.split()[0] for job in jobs] == ["fold1", "fold2", "fold3"]
    words = [shlex.split(job) for job in jobs]
    tested = [line[line.index("--test-sessions") + 1].split(",") for line in words]
    assert sorted(sum(tested, [])) == [f"{c}00{n}" for c in (1, 2) for n in range(1, 6)]
    assert [len(sessions) for sessions in tested] == [4, 4, 2]
    assert words[1][:3] == ["fold2", "./run_all.sh", corpora]
    assert words[1][-7:-4] == ["--bert", "with blank", "&&"]
    left = ["data/folds/fold2/*_audio.npy", "data/folds/fold2/cache"]
    assert words[1][-4:] == ["rm", "-rf", *left]
    assert jobs[1].removeprefix("fold2 ") in printed and "2 at a time" in printed
    assert not (project / "outputs/folds/fold1").exists()


SBATCH = """#!/bin/bash
# Stands in for the scheduler: the tasks one after another, the highest status.
highest=0
for task in $(seq $(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\).*/\\1/p' "$2")); do
  SLURM_ARRAY_JOB_ID=9 SLURM_ARRAY_TASK_ID=$task SLURM_CPUS_PER_TASK=5 bash "$2"
  status=$?
  [ $status -le $highest ] || highest=$status
done
exit $highest
"""


def test_slurm_gets_an_array_with_a_task_a_seed(project):
    """The dry run prints the file that is submitted; each task runs its seed into its own log."""
    (project / "runs/models.sh").write_text('echo "$OMP_NUM_THREADS" "$@"\n')
    (project / "runs/models.sh").chmod(0o755)
    settings = (3, project.parent / "A", "--slurm", "--gres=gpu:1 --time=1:00:00", "--at-once=2")
    printed = call(project, "seeds.sh", *settings, "--epochs=4", "--dry-run")
    folder = project / "outputs/seeds"
    assert not list(folder.glob("*.log"))
    text = printed[printed.index("#!") :].strip()
    for line in ("--array=1-3%2", "--gres=gpu:1 --time=1:00:00", f"--chdir={project}"):
        assert f"#SBATCH {line}\n" in text
    script = project.parent / "printed.sbatch"
    script.write_text(text)
    task = {**os.environ, "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "5"}
    subprocess.run(["bash", script], cwd=project, env=task, check=True)
    places = "--data data/seeds --outputs outputs/seeds/seed2 --seed 2 --epochs=4"
    assert (folder / "seed2.log").read_text() == f"5 {places}\n"
    assert not (folder / "seed1.log").exists()


def test_a_failing_task_of_slurm_ends_the_whole(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, content in (
        ("sbatch", SBATCH),
        ("scancel", f"#!/bin/sh\necho $* > {tmp_path}/cancelled"),
    ):
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    jobs = {"fold1": "echo fine", "fold2": "echo 'out of memory'; exit 9"}
    path = f"{programs}:{os.environ['PATH']}"
    status, _, err = run(tmp_path, jobs, "--slurm", "--time=1", PATH=path)
    assert status == 9
    assert err == f"fold2 failed with status 9, {tmp_path}/fold2.log: out of memory\n"
    assert (tmp_path / "cancelled").read_text() == "--state=PENDING 9\n"
    assert (tmp_path / "fold1.log").read_text() == "fine\n"
    status, _, err = run(tmp_path, {"fold1": "true"}, "--slurm", "--time=1", PATH=path)
    assert (status, err) == (0, "")


def test_without_slurm_it_is_said(tmp_path):
    status, _, err = run(tmp_path, {"fold1": "true"}, "--slurm", "--time=1", PATH="/usr/bin:/bin")
    assert status == 2
    assert err.count("\n") == 1 and "there is no sbatch here" in err
