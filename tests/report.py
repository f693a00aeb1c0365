"""The list of tests that did not run, each with its reason, at the end of the output."""

import pytest


def write_skips(terminal: pytest.TerminalReporter, *, all_wanted: bool) -> None:
    """Write a line for each test that was skipped, and one for the heavy tests left out."""
    for report in terminal.stats.get("skipped", []):
        terminal.write_line(f"skipped: {report.nodeid}: {_reason(report)}")
    heavy = [item for item in terminal.stats.get("deselected", []) if item.get_closest_marker("heavy")]
    if heavy and not all_wanted:
        terminal.write_line(f"not run: {len(heavy)} heavy tests; tests/run --all runs them")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):  # (file, line, "Skipped: reason")
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)
