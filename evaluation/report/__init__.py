"""An evaluation to look at: one HTML file."""

from evaluation.report.page import write_report

__all__ = ["write_report"]
