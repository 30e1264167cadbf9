"""The built-in toy benchmark: moving shapes, sentences that are true of them, and the trees of real benchmarks."""

import torchvision_shim  # noqa: F401
from datamodules.shapes.writer import write_shapes

__all__ = ["write_shapes"]
