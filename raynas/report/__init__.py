"""The report of a run: one self-contained HTML page."""

from raynas.result import SearchResult


def write_report(result: SearchResult) -> None:
    (result.path / "report.html").write_text("")
