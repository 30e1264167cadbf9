"""From samples to gradients."""

import torchvision_shim  # noqa: F401
