"""lm-evaluation-harness on an adapter: it loads base and adapter from their files by itself, as anybody would."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from readwrite_edit.errors import DataError, ModelError, RecipeError, RunError
from readwrite_edit.evaluate.request import Request
from readwrite_edit.evaluate.subject import Subject
from readwrite_edit.models.loading import default_device, model_folder

_LONGEST_REASON = 300
_NETWORK = "tasks read their data from the Hugging Face Hub: connect, or name tasks whose data is in its cache"
_FILED = ("results", "groups", "versions", "n-shot", "higher_is_better", "n-samples")


@dataclass(frozen=True)
class Harness:
    """Tasks whose data is at hand.

    Attributes:
        tasks: Their names.
        manager: The harness's own, which has loaded them.
        limit: Most examples of each task; None takes all.
    """

    tasks: tuple[str, ...]
    manager: Any
    limit: int | None


def prepare_harness(request: Request, subject: Subject) -> Harness | None:
    """Find the tasks and load their data, before any weight is loaded; None where none was asked for.

    Raises:
        RecipeError: The harness is not installed, or has no such task.
        DataError: The data of a task can not be had.
        ModelError: The base is quantised.
    """
    if not request.lm_eval:
        return None
    if find_spec("lm_eval") is None:
        raise RecipeError(
            "--lm-eval needs lm-evaluation-harness, which is not installed: pip install 'readwrite-edit[lm-eval]'"
        )
    if subject.quantization is not None:
        raise ModelError(f"--lm-eval takes no quantised base ({subject.quantization}): run lm_eval by hand for it")
    include = request.lm_eval_include
    if include is not None and not include.is_dir():
        raise DataError(f"--lm-eval-include {include}: no such folder; expected one with task files (.yaml)")
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=None if include is None else str(include))
    unknown = [name for name in request.lm_eval if not manager.match_tasks([name])]
    if unknown:
        raise RecipeError(f"--lm-eval: lm-evaluation-harness has no task {unknown[0]!r}; lm_eval ls tasks lists them")
    try:
        manager.load(list(request.lm_eval))
    except Exception as error:  # data sets, YAML and code of tasks: errors of every kind
        raise DataError(f"--lm-eval {','.join(request.lm_eval)}: {_reason(error)}; {_NETWORK}") from error
    return Harness(request.lm_eval, manager, request.lm_eval_limit)


def run_harness(harness: Harness, subject: Subject, request: Request, dtype: str) -> dict[str, Any]:
    """Carry the tasks out.

    Args:
        harness: From :func:`prepare_harness`.
        subject: Model and adapter, by their files.
        request: For device and batch size.
        dtype: Of the weights in memory, as they were for the other measurements.

    Returns:
        Results, versions and settings, plain values for JSON.

    Raises:
        RunError: The harness failed.
    """
    import lm_eval

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    arguments = {"pretrained": str(model_folder(subject.model)), "dtype": dtype}
    if subject.adapter is not None:
        arguments["peft"] = str(Path(subject.adapter).absolute())
    try:
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args=arguments,
            tasks=list(harness.tasks),
            task_manager=harness.manager,
            device=request.device or subject.device or default_device(),
            batch_size=request.batch_size,
            limit=harness.limit,
            log_samples=False,
        )
    except Exception as error:
        raise RunError(f"lm-evaluation-harness failed on {','.join(harness.tasks)}: {_reason(error)}") from error
    return _filed(found or {}, harness, arguments)


def _filed(found: dict[str, Any], harness: Harness, arguments: dict[str, str]) -> dict[str, Any]:
    kept = {name: found[name] for name in _FILED if name in found}
    about = {"version": _version(), "tasks": list(harness.tasks), "limit": harness.limit, "model_args": arguments}
    plain: dict[str, Any] = json.loads(json.dumps({**about, **kept}, default=str))
    return plain


def _version() -> str | None:
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        return None


def _reason(error: Exception) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:_LONGEST_REASON]}" if lines else type(error).__name__
