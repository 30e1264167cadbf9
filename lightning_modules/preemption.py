"""When a cluster wants its machine back: signals are noted, and the job is put into the queue again."""

import logging
import os
import re
import signal
import subprocess
from types import FrameType

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer

logger = logging.getLogger(__name__)


class Preempted(SystemExit):
    """Ends a process whose run was told to stop and can go on from its checkpoint.

    The status is 75 (``EX_TEMPFAIL``: try again), so that a shell does not take the run for finished. A node's other
    ranks end with 0: Lightning's launcher would answer any other status of theirs by killing the first.
    """

    def __init__(self, local_rank: int) -> None:
        super().__init__(os.EX_TEMPFAIL if local_rank == 0 else 0)


class StopSignals:
    """Notes SIGTERM and the signal by which SLURM announces the end of a job, SIGUSR1 unless it is set otherwise.

    The handler does nothing else: it may be called between two halves of an optimiser step, where saving would mix the
    weights of two steps, and in the middle of a collective, where any other would hang. Lightning's handlers, which do
    both, are replaced; Lightning restores what was there before when the run ends.
    """

    def __init__(self) -> None:
        self.noted: signal.Signals | None = None

    def install(self, trainer: Trainer) -> None:
        """Listen from now on. Call it after Lightning has installed its handlers."""
        environment = slurm(trainer)
        requeue_signal = environment.requeue_signal if environment else None
        for number in (signal.SIGTERM, requeue_signal or signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = signal.Signals(number)


def slurm(trainer: Trainer) -> SLURMEnvironment | None:
    """Return Lightning's view of the SLURM job this process is a task of, if it is one."""
    environment = trainer._accelerator_connector.cluster_environment
    return environment if isinstance(environment, SLURMEnvironment) else None


def requeue(trainer: Trainer) -> None:
    """Put the SLURM job of this process into the queue again, on rank zero; elsewhere do nothing.

    Nothing happens outside SLURM, and with ``SLURMEnvironment(auto_requeue=False)``.
    """
    environment = slurm(trainer)
    if environment is None or not environment.auto_requeue or not trainer.is_global_zero:
        return
    job = job_name(dict(os.environ))
    try:
        done = subprocess.run(["scontrol", "requeue", job], timeout=60, capture_output=True, text=True)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.error("Job %s was not requeued: %s. Submit it again: it goes on from its checkpoint", job, error)
        return
    if done.returncode:
        reason = done.stderr.strip()
        logger.error("Job %s was not requeued: %s. Submit it again: it goes on from its checkpoint", job, reason)
    else:
        logger.warning("Job %s is requeued", job)


def job_name(variables: dict[str, str]) -> str:
    """Return how SLURM calls this job: its number, or that of the array and the place in it.

    >>> job_name({"SLURM_JOB_ID": "75", "SLURM_ARRAY_JOB_ID": "72", "SLURM_ARRAY_TASK_ID": "3"})
    '72_3'

    Args:
        variables: of the environment.

    Raises:
        ValueError: if it is not a number.
    """
    array, task = variables.get("SLURM_ARRAY_JOB_ID"), variables.get("SLURM_ARRAY_TASK_ID")
    name = f"{array}_{task}" if array else variables.get("SLURM_JOB_ID", "")
    if not re.fullmatch(r"\d+(_\d+)?", name):
        raise ValueError(f"Expected `SLURM_JOB_ID` to be a number, but got {name!r}")
    return name
