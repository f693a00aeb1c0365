"""Verbs about the command line's own containers: `ps`, `rm`."""

import os
import time
from typing import Any

from wasm_shim.cli.output import OURS, complain, say, table
from wasm_shim.errors import FailedPrecondition, WasmShimError
from wasm_shim.paths import user_paths
from wasm_shim.records import Record, all_records, find_record


def ps(values: dict[str, Any]) -> int:
    """List containers, those that run first made first; with --all the ended ones, too."""
    rows: list[tuple[str, ...]] = [("CONTAINER ID", "IMAGE", "COMMAND", "STATUS", "NAME")]
    for record in all_records(user_paths(os.environ)):
        alive = record.alive()
        if not alive and not values["all"]:
            continue
        if values["quiet"]:
            say(record.short_id)
            continue
        rows.append(_row(record, alive=alive))
    if not values["quiet"]:
        table(rows)
    return 0


def _row(record: Record, *, alive: bool) -> tuple[str, ...]:
    state = record.state()
    command = " ".join(state.get("command") or ())
    short = command if len(command) <= 30 else f"{command[:29]}…"
    image = state.get("image", "") if state.get("digest") else os.path.basename(state.get("program") or "")
    return record.short_id, image, short, _status(state, alive=alive), state.get("name") or ""


def _status(state: dict[str, Any], *, alive: bool) -> str:
    if alive:
        return "Running"
    if "exit_status" not in state:
        return "Dead"
    return f"Exited ({state['exit_status']}) {_ago(time.time() - state['exited_at'])} ago"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}" + ("s" if count > 1 else "")
    return "less than a second"


def rm(values: dict[str, Any]) -> int:
    """Remove containers that have ended, and say which."""
    paths, code = user_paths(os.environ), 0
    for wanted in values["CONTAINER"]:
        try:
            record = find_record(paths, wanted)
            if record.alive():
                message = f"container {wanted} is running; stop it first, with an interrupt where it runs"
                raise FailedPrecondition(message)
            record.finish(remove=True)
            say(wanted)
        except WasmShimError as error:
            complain(error.message)
            code = OURS
    return code
