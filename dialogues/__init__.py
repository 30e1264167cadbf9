"""How each paper talks: prompts, readers, and the records of what was said."""

import torchvision_shim  # noqa: F401
from dialogues.base import Dialogue
from dialogues.veason_r1 import VeasonR1

__all__ = ["Dialogue", "VeasonR1"]
