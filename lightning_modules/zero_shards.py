"""The shards of a DeepSpeed ZeRO checkpoint as one state."""

from pathlib import Path

from torch import Tensor


def read_zero_shards(folder: Path) -> dict[str, Tensor]:
    """Put the shards of all ranks together, by DeepSpeed's own reader.

    The shards are pickles, which run what they hold when they are opened: ask whether the user trusts them first.

    Args:
        folder: what ``DeepSpeedStrategy`` wrote, with the file ``latest``; stage 1, 2 or 3, any number of ranks.

    Returns:
        The module's state on the CPU; what was trained is ``float32``, from the optimiser's own copy.
    """
    # An extra, needed for these folders only.
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    state: dict[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(folder))
    return state
