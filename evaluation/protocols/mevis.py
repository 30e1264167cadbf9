"""MeViS."""

from evaluation.protocols.base import BenchmarkProtocol, Missing, Row


class MeViSProtocol(BenchmarkProtocol):
    """MeViS (arXiv 2308.08544): the plain mean over expressions; whatever groups they are in."""

    datasets = ("MeViS",)
    tool = Missing("zero", "drop", "drop")

    def row(self, group: str | None) -> str:
        """Return ``overall``."""
        return "overall"

    def overall(self, rows: dict[str, Row]) -> Row:
        """Return the only row."""
        return rows["overall"]
