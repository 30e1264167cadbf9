"""The networks: reasoners, segmenters and frame samplers."""

import torchvision_shim  # noqa: F401
