"""Which device an item occupies, how its process is kept to it, and the lock that all queues of a host share."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from readwrite_edit.cache import cache_folder
from readwrite_edit.queue.locks import take
from readwrite_edit.runs.folder import FolderError

CPU = "cpu"
_NAME = re.compile(r"cpu|mps|cuda(:[A-Za-z0-9-]+)?")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICES = Path("/dev")  # asking torch for the GPUs would load it
_NVIDIA = re.compile(r"nvidia\d+")
_UNCOUNTED = ("kfd", "dxg")  # AMD, Windows' Linux: there is one file however many GPUs
_IN_RECIPE = "model.device="


def device_of(argv: Sequence[str], given: str | None = None) -> str:
    """The device that a command occupies.

    Args:
        argv: Arguments of the command; its ``--device`` or ``--set model.device=`` counts.
        given: Named by the user, and above all else.

    Returns:
        ``cpu``, ``mps`` or ``cuda:N``; N is a device's number or UUID as in CUDA_VISIBLE_DEVICES. Without a name it
        is the first of CUDA_VISIBLE_DEVICES, else the first GPU where there is one, else ``cpu``. Whether this machine
        has it, ``why_absent`` tells.

    Raises:
        FolderError: The name is none of a device.
    """
    named = _named_in(argv) if given is None else given
    if named is not None and not _NAME.fullmatch(named):
        raise FolderError(f"device {named!r}: expected cpu, mps, cuda or cuda:N")
    if named is None or named == "cuda":
        gpu = _first_gpu()
        return gpu or (CPU if named is None else "cuda:0")
    kind, _, number = named.partition(":")
    return f"{kind}:{int(number)}" if number.isdecimal() else named  # one name, one lock


def why_absent(device: str) -> str | None:
    """Why a device can not be one of this machine, as a clause; None where it is, or where that can not be known.

    NVIDIA's GPUs are counted by their files in ``/dev``. UUIDs, and the number of other makers' GPUs, are not looked
    into.

    Args:
        device: As ``device_of`` gives it.
    """
    kind, _, number = device.partition(":")
    if kind == "mps":
        return None if sys.platform == "darwin" else "only a Mac has one"
    count = gpu_count()
    if kind == CPU or count is None:
        return None
    if count == 0:
        return "this machine has no GPU; expected cpu"
    if number.isdecimal() and int(number) >= count:
        return f"expected {'cuda:0' if count == 1 else f'cuda:0 to cuda:{count - 1}'}, as this machine has {count}"
    return None


def environment_for(device: str) -> dict[str, str]:
    """The present environment, with no other GPU in sight than the item's device."""
    kind, _, number = device.partition(":")
    return {**os.environ, _VISIBLE: number if kind == "cuda" else ""}


def device_lock(device: str) -> Path:
    """The lock's file in the user's cache, of this host: a home folder may be shared by several."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{socket.gethostname()}-{device}")
    return cache_folder() / "devices" / f"{safe}.lock"


def take_device(device: str, note: str) -> int | None:
    """Take a device's lock: its descriptor, or None while another item occupies the device.

    Raises:
        FolderError: The lock can not be written.
    """
    path = device_lock(device)
    try:
        return take(path, note)
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}: a queue needs a cache folder that can be written") from error


def _named_in(argv: Sequence[str]) -> str | None:
    """The device that the command itself names; the last word counts."""
    named = None
    for position, argument in enumerate(argv):
        option, equals, value = argument.partition("=")
        if option == "--device":
            named = value if equals else _at(argv, position + 1)
        elif option == "--set":
            setting = value if equals else _at(argv, position + 1) or ""
            named = setting.removeprefix(_IN_RECIPE) if setting.startswith(_IN_RECIPE) else named
    return named or None


def _at(argv: Sequence[str], position: int) -> str | None:
    return argv[position] if position < len(argv) else None


def _first_gpu(environment: Mapping[str, str] = os.environ) -> str | None:
    visible = environment.get(_VISIBLE)
    if visible is not None:
        first = visible.split(",")[0].strip()
        return f"cuda:{first}" if first and first != "-1" else None
    return None if gpu_count() == 0 else "cuda:0"


def gpu_count() -> int | None:
    """How many GPUs this machine has, by files alone; None where there are some that can not be counted."""
    if any((_DEVICES / name).exists() for name in _UNCOUNTED):
        return None
    return sum(bool(_NVIDIA.fullmatch(path.name)) for path in _DEVICES.iterdir())
