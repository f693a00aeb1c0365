"""Interleaved samples, and the table that a benchmark prints."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Sample = Callable[[], Mapping[str, float]]


def interleaved(
    samples: Mapping[str, Sample], rounds: int, base: str, units: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """One sample of each in turn; the first round warms up and does not count.

    A sample is milliseconds by what took them, or what ends in a key of `units` in that unit. A row has the ratio to
    that of the sample called `base`.
    """
    taken: dict[tuple[str, str], list[float]] = {}
    for round_ in range(rounds + 1):
        for name, sample in samples.items():
            for what, value in sample().items():
                if round_:
                    taken.setdefault((what, name), []).append(value)
    order = {what: number for number, (what, _) in enumerate(taken)}
    keys = sorted(taken, key=lambda key: order[key[0]])
    rows = [_row(what, name, taken[what, name], taken.get((what, base))) for what, name in keys]
    for row in rows:
        row["unit"] = next((unit for end, unit in (units or {}).items() if row["what"].endswith(end)), row["unit"])
    return rows


def _row(what: str, name: str, values: list[float], base: list[float] | None) -> dict[str, Any]:
    ordered = sorted(values)
    median = ordered[len(ordered) // 2]
    row: dict[str, Any] = {"what": f"{name}: {what}" if what else name, "unit": "ms", "n": len(ordered)}
    row |= {"median": round(median, 1), "p95": round(ordered[int(len(ordered) * 0.95)], 1)}
    if base:
        row["ratio"] = round(median / sorted(base)[len(base) // 2], 2)
    return row


def report(rows: list[dict[str, Any]], versions: list[str], missing: list[str], file: Path | None) -> None:
    """Print a table, and JSON unless it goes to the file."""
    columns = ("what", "unit", "n", "median", "p95", "ratio")
    table = [columns, *(tuple(str(row.get(column, "")) for column in columns) for row in rows)]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    notes = [f"versions: {', '.join(versions)}", *(f"not measured: {reason}" for reason in missing)]
    sys.stdout.write("\n".join([*(f"| {line} |" for line in lines), *notes, ""]))
    document = json.dumps({"rows": rows, "versions": versions, "missing": missing}, indent=1)
    sys.stdout.write(f"{document}\n" if file is None else "")
    if file is not None:
        file.write_text(document)
