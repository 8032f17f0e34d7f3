"""The end of a run: adapter, figures before and after, certificate, report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from readwrite_edit.adapter import Target, basis_hash, certify_folder, low_rank_update, save_adapter
from readwrite_edit.adapter.logits import LogitsRecord
from readwrite_edit.adapter.merge import rounding_loss
from readwrite_edit.adapter.metadata import base_fields
from readwrite_edit.align.evaluations import EvaluationRecorder
from readwrite_edit.align.prepare import Preparation
from readwrite_edit.align.trainer import PreferenceTrainer
from readwrite_edit.durable import finite_or_none, write_json
from readwrite_edit.errors import RunError
from readwrite_edit.evaluate.generations import answers, side_by_side
from readwrite_edit.models.identity import Base
from readwrite_edit.models.loading import model_folder
from readwrite_edit.models.source import base_model_id
from readwrite_edit.recipe import recipe_hash
from readwrite_edit.report import write_report
from readwrite_edit.runs import records
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.writer import RunWriter

_PROBE_SEQUENCES, _PROBE_TOKENS = 2, 12


def finish_run(
    folder: RunFolder,
    writer: RunWriter,
    prepared: Preparation,
    trainer: PreferenceTrainer,
    targets: tuple[Target, ...],
    base_hash: str,
    evaluations: EvaluationRecorder,
    before: Mapping[str, float | None],
    runtime_s: float,
) -> dict[str, Any]:
    """Write adapter, end table, certificate and report; mark the run finished.

    Returns:
        The contents of ``summary.json``.

    Raises:
        RunError: The adapter does not satisfy its certificate; everything is written all the same.
    """
    _save(folder, prepared, trainer, targets, base_hash)
    after = evaluations.at_the_end()
    before = {**before, **evaluations.base}
    torch.cuda.empty_cache()  # the fresh process loads the base a second time
    bases = {target.module: target.basis for target in targets if target.basis is not None}
    base = str(model_folder(prepared.source))
    certificate = certify_folder(folder.adapter, base, base_hash, bases=bases, exact=True)
    summary = {
        "schema": 1,
        "before": finite_or_none(before),
        "after": finite_or_none(after),
        "generations": _generations(trainer, prepared),
        "certificate": certificate.as_dict(),
        "trainable_parameters": sum(p.numel() for p in trainer.policy.parameters() if p.requires_grad),
        "adapter_bytes": (folder.adapter / "adapter_model.safetensors").stat().st_size,
        "train_runtime_s": runtime_s,
        "alarms": [line["message"] for line in records.metrics(folder.path) if line["kind"] == "alarm"],
    }
    write_json(folder.summary, summary)
    write_report(folder.path)
    if not certificate.passed:
        failed = "; ".join(f"{check.name}: {check.detail}" for check in certificate.checks if not check.passed)
        raise RunError(f"the adapter does not satisfy its certificate ({failed}); see {folder.report}")
    writer.mark("finished")
    return summary


def read_before(path: Path) -> dict[str, float | None]:
    """The held-out figures that were written before the first step.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} can not be read ({error}): delete it to measure it anew before resuming") from None


def _save(
    folder: RunFolder, prepared: Preparation, trainer: PreferenceTrainer, targets: tuple[Target, ...], base_hash: str
) -> None:
    model, quantization = trainer.policy, prepared.recipe.model.quantization
    base = Base.of(prepared.source, weights_hash=base_hash, dtype=model.dtype, quantization=quantization)
    metadata = {
        "base": base_fields(base, model),
        "basis": prepared.recipe.adapter.basis,
        "whiten": prepared.recipe.adapter.whiten,
        "recipe_sha256": recipe_hash(prepared.recipe),
        "provenance": prepared.recipe.provenance,
        "modules": {target.module: _module_metadata(trainer, target) for target in targets},
        "logits": vars(LogitsRecord.of(model, _probe_ids(prepared.held_out.rows))),
        "rounding_loss": rounding_loss(model, targets, torch.bfloat16),
    }
    save_adapter(
        model,
        folder.adapter,
        base_model=base_model_id(prepared.source),
        revision=base.revision,
        metadata=metadata,
    )


def _module_metadata(trainer: PreferenceTrainer, target: Target) -> dict[str, Any]:
    lora_a = low_rank_update(trainer.policy, target).A
    return {
        "rank": target.rank,
        "rows": target.rows,
        "captured_energy": None if target.basis is None else target.captured_energy,
        "basis_sha256": None if target.basis is None else basis_hash(target.basis.T.to(lora_a.dtype)),
    }


def _probe_ids(rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """A few real tokens, sequences of one length, for the logits that a reload must give again."""
    sequences = [[*row["prompt_ids"], *row["chosen_ids"]][:_PROBE_TOKENS] for row in rows]
    shortest = min(map(len, sequences))
    return [sequence[:shortest] for sequence in sequences[:_PROBE_SEQUENCES]]


def _generations(trainer: PreferenceTrainer, prepared: Preparation) -> list[dict[str, str]]:
    options, policy = prepared.recipe.evaluation, trainer.policy
    prompts = list(options.generations)
    return side_by_side(
        policy,
        prompts,
        lambda: answers(policy, prepared.tokenizer, prompts, max_new_tokens=options.max_new_tokens),
    )
