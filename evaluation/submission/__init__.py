"""Predictions as a benchmark's server takes them."""

from evaluation.submission.archive import Draft, IncompleteSubmissionError, Submission, write_submission
from evaluation.submission.layouts import SubmissionLayout, layout_of

__all__ = ["Draft", "IncompleteSubmissionError", "Submission", "SubmissionLayout", "layout_of", "write_submission"]
