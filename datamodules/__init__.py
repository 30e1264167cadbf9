"""From disk to `VideoSample`. Knows no model."""

import torchvision_shim  # noqa: F401
