"""Vision-language models that think and point."""

from models.reasoners.adapters import LoRA
from models.reasoners.base import PolicyOutput, Reasoner, Sampling
from models.reasoners.qwen_vl import QwenVL
from models.reasoners.scripted import ScriptedReasoner

__all__ = ["LoRA", "PolicyOutput", "QwenVL", "Reasoner", "Sampling", "ScriptedReasoner"]
