"""What every test may rely on: no network, one thread, a torchvision that imports, and no GPU tests without a GPU."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["WANDB_MODE"] = "disabled"

import hypothesis
import pytest
import torch

import torchvision_shim  # noqa: F401

torch.set_num_threads(1)
# A shared machine may stall any single example; totality and linear time have tests of their own.
hypothesis.settings.register_profile("thinkseg", deadline=None, derandomize=True)
hypothesis.settings.load_profile("thinkseg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
