"""The jobs of configs/slurm: bash reads them, and what they ask `srun` to run parses."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from lightning_modules.callbacks import RecentCheckpoint
from tests.test_configs import resolved_words

ROOT = Path(__file__).parent.parent
JOBS = sorted((ROOT / "configs/slurm").glob("*.sbatch"))
OVERLAYS = sorted((ROOT / "configs/slurm/sweep").glob("*.yaml"))
#: nodes and tasks per node
SIZES = {
    "one_gpu.sbatch": (1, 1),
    "eight_gpus.sbatch": (1, 8),
    "sixty_four_gpus.sbatch": (8, 8),
    "sweep.sbatch": (1, 1),
}


def options(job: Path) -> dict[str, str]:
    """What a job asks SLURM for."""
    found = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", job.read_text(), re.MULTILINE)
    assert len(found) == job.read_text().count("#SBATCH")
    return dict(found)


def command(job: Path, folder: Path, task: int = 0) -> list[str]:
    """The words that `srun` is given when the job runs, behind its own."""
    asked = options(job)
    (folder / "configs").symlink_to(ROOT / "configs")
    for name, text in ((".venv/bin/activate", ""), ("bin/srun", '#!/bin/sh\nprintf "%s\\n" "$@"\n')):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    variables = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "SLURM_CPUS_PER_TASK": asked["cpus-per-task"],
        "SLURM_NTASKS_PER_NODE": asked["ntasks-per-node"],
        "SLURM_JOB_NUM_NODES": asked["nodes"],
        "SLURM_ARRAY_TASK_ID": str(task),
    }
    done = subprocess.run(["bash", job], cwd=folder, env=variables, capture_output=True, text=True, check=True)
    given = done.stdout.splitlines()
    return given[given.index("thinkseg") + 1 :]


def test_every_job_is_known() -> None:
    assert {job.name for job in JOBS} == SIZES.keys()


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_survives_its_end(job: Path) -> None:
    subprocess.run(["bash", "-n", job], check=True)
    asked = options(job)
    assert job.read_text().startswith("#!/bin/bash\n# ")
    assert asked["signal"] == "USR1@300"
    assert asked["open-mode"] == "append"
    assert "requeue" in asked
    assert asked["job-name"] not in ("bash", "interactive")  # Lightning does not believe these to be jobs
    assert (int(asked["nodes"]), int(asked["ntasks-per-node"])) == SIZES[job.name]
    assert asked["gpus-per-node"] == asked["ntasks-per-node"]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_what_a_job_runs(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = command(job, tmp_path)
    monkeypatch.chdir(tmp_path)
    run = resolved_words(given, capsys)
    assert run["ckpt_path"] == "last"
    nodes, tasks = SIZES[job.name]
    assert (run["trainer"]["num_nodes"], int(run["trainer"]["devices"])) == (nodes, tasks)
    names = [callback["class_path"].split(".")[-1] for callback in run["trainer"]["callbacks"]]
    assert RecentCheckpoint.__name__ in names
    strategy = run["trainer"]["strategy"]
    assert isinstance(strategy, str) or strategy["init_args"]["trust_shards"]  # the job's own, after a requeue


def test_a_sweep_runs_each_overlay_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ROOT / "configs/slurm/sweep.sbatch"
    assert options(job)["array"].split("%")[0] == f"0-{len(OVERLAYS) - 1}"
    betas = []
    for task, overlay in enumerate(OVERLAYS):
        folder = tmp_path / str(task)
        folder.mkdir()
        given = command(job, folder, task)
        monkeypatch.chdir(folder)
        run = resolved_words(given, capsys)
        assert run["trainer"]["default_root_dir"] == f"runs/sweep/{overlay.stem}"
        betas.append(run["model"]["init_args"]["loss"]["beta"])
        assert run["model"]["init_args"]["loss"]["kl_clamp"] == [-10, 10]  # of the file below
    assert betas == [0.0, 4e-2]


def test_the_page_names_every_job() -> None:
    page = (ROOT / "docs/cluster.md").read_text()
    assert all(f"configs/slurm/{job.name}" in page for job in JOBS)
    for file in re.findall(r"(?:configs|docs)/[\w./-]+\.\w+", page):
        assert (ROOT / file).exists(), file
