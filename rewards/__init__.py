"""From episodes to numbers."""

import torchvision_shim  # noqa: F401
