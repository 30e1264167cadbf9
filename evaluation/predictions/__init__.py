"""Predictions on disk: trees of pictures, archives of them, and JSON of run-length codes."""

from evaluation.predictions.base import Found, Predictions
from evaluation.predictions.opening import open_predictions

__all__ = ["Found", "Predictions", "open_predictions"]
