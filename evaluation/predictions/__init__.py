"""Predictions on disk: trees of pictures, archives of them, and JSON of run-length codes."""

from evaluation.predictions.base import Found, Predictions

__all__ = ["Found", "Predictions"]
