"""An evaluation from a request to a filed result."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from readwrite_edit.align.trouble import as_run_error
from readwrite_edit.durable import plain
from readwrite_edit.errors import RunError
from readwrite_edit.evaluate.figures import Figure
from readwrite_edit.evaluate.harness import Harness, prepare_harness, run_harness
from readwrite_edit.evaluate.material import Material, gather
from readwrite_edit.evaluate.measuring import Loaded, Measured, load, measure
from readwrite_edit.evaluate.metrics import described, figures_of
from readwrite_edit.evaluate.records import Evaluation, as_line
from readwrite_edit.evaluate.request import Request
from readwrite_edit.evaluate.result import KIND, SCHEMA, result_path, write_result
from readwrite_edit.evaluate.subject import Subject
from readwrite_edit.interventions.inference import DRAWS
from readwrite_edit.provenance import versions_of

PACKAGES = ("readwrite-edit", "torch", "transformers", "peft", "trl")

Figures = dict[str, dict[str, Figure]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """An evaluation that was carried out.

    Attributes:
        result: As it is filed.
        path: Its file; None where it was not filed.
        broken: Sentences about outputs that are not numbers.
        failure: Why the harness gave no results; None where it was not asked, or did.
    """

    result: dict[str, Any]
    path: Path | None
    broken: tuple[str, ...]
    failure: RunError | None = None


def evaluate(request: Request, *, out: Path | None = None, command: str = "", say: Say = lambda _: None) -> Outcome:
    """Evaluate a run, an adapter or a model, and file the result.

    Args:
        request: What, and on what.
        out: File for the result; for a run ``evaluations/<time>.json`` in its folder, else none.
        command: The command line that asked for it, kept with the result.
        say: Tells the user what happens.

    Raises:
        ReadWriteEditError: Wrong input, before anything is loaded; or the machine gave out.
    """
    material = gather(request)
    harness = prepare_harness(request, material.subject)
    path = result_path(material.subject.run, out, datetime.now())
    for note in material.notes:
        say(note)
    try:
        loaded, notes = load(material.subject, request)
        for note in notes:
            say(note)
        measured = measure(loaded, material, request)
    except Exception as error:
        known = as_run_error(error, path or Path(), again="evaluate again", less="--batch-size or --max-length")
        if known is None:
            raise
        raise known from error
    figures = figures_of_all(measured, material, request, compared=loaded.compared)
    broken = _not_numbers(figures)
    result = _result(request, material, loaded, measured, figures, (*material.notes, *notes, *broken), command)
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    del loaded
    failure = None if harness is None else _hand_over(harness, material.subject, request, dtype, result)
    if path is not None:
        write_result(path, result)
    return Outcome(result, path, broken, failure)


def figures_of_all(measured: Measured, material: Material, request: Request, *, compared: bool) -> Figures:
    """All figures by what they are of: ``rows``, ``text NAME``, ``price NAME``, ``answers``, ``base_answers``."""
    found: Figures = {}
    if measured.rows is not None and material.rows is not None:
        found["rows"] = figures_of(
            "rows", measured.rows, with_base=compared, seed=request.seed, beta=material.rows.beta
        )
    for name, scores in measured.texts.items():
        found[f"text {name}"] = figures_of("texts", scores, with_base=compared, seed=request.seed)
        if name in measured.prices:
            found[f"text {name}"] |= figures_of("price", measured.prices[name])
    for side, written in measured.generations.items():
        found["answers" if side == "model" else "base_answers"] = figures_of(
            "generations", written, seed=request.seed, ngram=request.ngram
        )
    return found


def _not_numbers(figures: Figures) -> tuple[str, ...]:
    """A sentence for each part of the evaluation in which the outputs of a model are not numbers."""
    broken = []
    for where, part in figures.items():
        odd = [figure for figure in part.values() if figure.not_numbers]
        if odd:
            worst = max(odd, key=lambda figure: figure.not_numbers)
            unit = "rows" if where == "rows" else "sequences"
            broken.append(
                f"the outputs are NaN or infinite in {worst.not_numbers} of {worst.n} {unit} of '{where}': "
                "there is no figure for it"
            )
    return tuple(broken)


def _result(
    request: Request,
    material: Material,
    loaded: Loaded,
    measured: Measured,
    figures: Figures,
    notes: tuple[str, ...],
    command: str,
) -> dict[str, Any]:
    subject, rows = material.subject, material.rows
    evaluation = Evaluation(
        step=0,
        beta=rows.beta if rows is not None else 0.0,
        rows=measured.rows,
        texts=measured.texts,
        price={name: sum(found) / len(found) for name, found in measured.prices.items()},
    )
    result = {
        "schema": SCHEMA,
        "kind": KIND,
        "command": command,
        "time": time.time(),
        "provenance": versions_of(PACKAGES),
        "subject": _about(subject, loaded),
        "rows": None
        if rows is None
        else {
            "path": rows.path,
            "count": len(rows.pairs.rows),
            "dropped": len(rows.pairs.dropped),
            "truncated": rows.pairs.truncated,
            "max_length": rows.max_length,
            "beta": rows.beta,
            "sha256": rows.sha256,
        },
        "texts": {text.name: text.about() for text in material.texts},
        "shared_with_training": dict(material.shared),
        "settings": {
            "seed": request.seed,
            "draws": DRAWS,
            "ngram": request.ngram,
            "max_new_tokens": material.max_new_tokens,
            "batch_size": request.batch_size,
            "first_position": material.first_position,
        },
        "metrics": described(),
        "figures": {where: {name: one.as_dict() for name, one in part.items()} for where, part in figures.items()},
        "generations": _side_by_side(measured, material),
        "lm_eval": None,
        "notes": list(notes),
        "evaluation": as_line(evaluation),
    }
    found: dict[str, Any] = plain(result)
    return found


def _about(subject: Subject, loaded: Loaded) -> dict[str, Any]:
    base = subject.model if subject.adapter is not None else subject.base
    return {
        "name": subject.name if subject.run is None else str(subject.run),
        "run": None if subject.run is None else str(subject.run.absolute()),
        "adapter": None if subject.adapter is None else str(subject.adapter.absolute()),
        "model": str(subject.model),
        "base": None if base is None else str(base),
        "weights_sha256": loaded.weights_hash,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "quantization": subject.quantization,
        "device": loaded.model.device.type,
    }


def _side_by_side(measured: Measured, material: Material) -> list[dict[str, Any]]:
    """Each prompt with the answers, under the names that ``summary.json`` has for them."""
    sides = {"model": "after", "base": "before"}
    shown: list[dict[str, Any]] = [{"prompt": prompt} for prompt in material.prompts]
    for side, written in measured.generations.items():
        for entry, one in zip(shown, written, strict=True):
            entry[sides[side]] = str(material.tokenizer.decode(list(one.tokens), skip_special_tokens=True)).strip()
            entry[f"tokens_{sides[side]}"] = len(one.tokens)
            entry[f"ended_{sides[side]}"] = one.ended
    return shown


def _hand_over(
    harness: Harness, subject: Subject, request: Request, dtype: str, result: dict[str, Any]
) -> RunError | None:
    """Let the harness measure, after our own model has left the memory; what fails there spoils nothing here."""
    gc.collect()
    torch.cuda.empty_cache()
    try:
        result["lm_eval"] = run_harness(harness, subject, request, dtype)
    except RunError as error:
        result["notes"].append(str(error))
        return error
    return None
