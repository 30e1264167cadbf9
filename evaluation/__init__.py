"""The numbers people publish."""

import torchvision_shim  # noqa: F401
