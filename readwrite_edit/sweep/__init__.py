"""Sweeps: one recipe under many settings and seeds, as runs in one folder, through an ordinary queue."""

from readwrite_edit.sweep.carrying import carry_out
from readwrite_edit.sweep.grid import Axis, Choice, Planned, parse_arms, parse_axis, planned_runs
from readwrite_edit.sweep.planning import Grid, Survey, survey
from readwrite_edit.sweep.record import SweepRecord, read_record

__all__ = [
    "Axis",
    "Choice",
    "Grid",
    "Planned",
    "Survey",
    "SweepRecord",
    "carry_out",
    "parse_arms",
    "parse_axis",
    "planned_runs",
    "read_record",
    "survey",
]
