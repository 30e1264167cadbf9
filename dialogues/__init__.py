"""How each paper talks: prompts, readers, and the records of what was said."""

import torchvision_shim  # noqa: F401
