"""Why a run shows no values, no geometry or no result: not yet, never, or there is a file that can not be read.

The command line and the TUI say it in these words. All of them are safe to show.
"""

from __future__ import annotations

from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.reader import RunView
from readwrite_edit.terminal import printable

METRICS, GEOMETRY, SUMMARY = "metrics.jsonl", "geometry.jsonl", "summary.json"
_THING = {METRICS: "values", GEOMETRY: "geometry", SUMMARY: "result"}
_DONE = {METRICS: "logged", GEOMETRY: "recorded", SUMMARY: "wrote"}
_NOT_YET = {
    METRICS: "No values yet: they come with the first logged step.",
    GEOMETRY: "No snapshot yet: the first comes with the start of training.",
    SUMMARY: "No result yet: it is written at the end.",
}
_NOT_YET_OF_A_PROBE = {
    METRICS: "No values yet; many kinds of probe log none.",
    GEOMETRY: "No matrices yet; some kinds of probe measure none.",
}
_NEVER_OF_A_PROBE = {
    METRICS: "This probe logged no values: its result is in its report, its matrices in its geometry.",
    GEOMETRY: "This probe measured no layers × matrices: its tables are in its report.",
}
_NEVER_OF_AN_EDIT = {
    METRICS: "An edit logs no values: its effect and its price are in its report.",
    GEOMETRY: "An edit records no geometry: its effect and its price are in its report.",
}
_ENDED = {
    "finished": "this run is finished and {done} none",
    "stopped": "this run was stopped before it {done} any",
    "failed": "this run failed before it {done} any",
    "broken": "there is none, and what the run says of itself can not be read",
}


def absence(file: str, view: RunView, problem: str) -> str:
    """A sentence to stand where something would be.

    Args:
        file: ``METRICS``, ``GEOMETRY`` or ``SUMMARY``, of which there is nothing to show.
        view: The run.
        problem: Why it can not be read, as a clause; empty where it is absent or has nothing.
    """
    if problem:
        return unread_text(file, problem)
    if view.kind == "edit" and file in _NEVER_OF_AN_EDIT:
        return _NEVER_OF_AN_EDIT[file]
    if view.live or view.status == "queued":
        return (_NOT_YET_OF_A_PROBE if view.kind == "probe" else {}).get(file, _NOT_YET[file])
    if view.kind == "probe" and file in _NEVER_OF_A_PROBE:
        return _NEVER_OF_A_PROBE[file]
    return f"No {_THING[file]}: {_ENDED[view.status].format(done=_DONE[file])}."


def unread_text(file: str, problem: str) -> str:
    """A sentence on a file that can not be read."""
    return f"{file} can not be read: {printable(problem)}."


def damage(cursor: Cursor, records: int, *, live: bool) -> str:
    """A sentence on what can not be read of a JSONL file: all of it, or some lines; empty where nothing is wrong.

    Args:
        cursor: As for ``why_no_records``.
        records: As there.
        live: As there.
    """
    name, lines = cursor.path.name, cursor.garbage
    if problem := why_no_records(cursor, records, live=live):
        return unread_text(name, problem)
    which = "1 line" if lines == 1 else f"{lines} lines"
    return f"{which} of {name} can not be read and {'is' if lines == 1 else 'are'} left out." if lines else ""


def why_no_records(cursor: Cursor, records: int, *, live: bool) -> str:
    """Why a JSONL file that was read gave nothing, as a clause; empty where it gave something, or holds nothing.

    Args:
        cursor: That has read it.
        records: How many records it gave.
        live: Whether the run may still write it: then a line without its end is no fault.
    """
    lines = cursor.garbage + cursor.objects
    if cursor.problem or records:
        return cursor.problem
    if lines:
        return "its only line is no record" if lines == 1 else f"none of its {lines} lines is a record"
    return "it breaks off within its first line" if cursor.torn and not live else ""
