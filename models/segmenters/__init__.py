"""Frozen models that turn prompts into masks."""
