"""The states of all random number generators as tensors, which a checkpoint may hold without a pickle."""

import random

import numpy as np
import torch
from torch import Tensor


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of Python's, NumPy's, torch's and, on a GPU, the device's generator.

    Args:
        device: of this process.

    Returns:
        Tensors in memory whose shapes are the same in every process; ``*_gauss`` is NaN if there is none.
    """
    _, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    spare = numpy["gauss"] if numpy["has_gauss"] else np.nan
    states = {
        "python": torch.tensor(words),
        "python_gauss": torch.tensor(np.nan if gauss is None else gauss, dtype=torch.float64),
        "numpy": torch.tensor([*numpy["state"]["key"].tolist(), numpy["state"]["pos"]]),
        "numpy_gauss": torch.tensor(spare, dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Give all generators the states that `random_states` has returned."""
    gauss, spare = float(states["python_gauss"]), float(states["numpy_gauss"])
    random.setstate((3, tuple(states["python"].tolist()), None if np.isnan(gauss) else gauss))
    *key, position = states["numpy"].tolist()
    has_spare = not np.isnan(spare)
    np.random.set_state(
        ("MT19937", np.array(key, dtype=np.uint32), position, int(has_spare), spare if has_spare else 0.0)
    )
    # Torch reads the memory of a state from its beginning: one row of several ranks' must be a tensor of its own.
    torch.set_rng_state(states["torch"].cpu().clone())
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu().clone(), device)
