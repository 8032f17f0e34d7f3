"""The model card of an exported run: README.md as the Hub expects it."""

from __future__ import annotations

import json
import os.path
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from readwrite_edit.errors import DataError
from readwrite_edit.report.facts import facts
from readwrite_edit.report.figures_table import main_rows
from readwrite_edit.report.markdown import code, escaped, fenced, table
from readwrite_edit.report.record import RunRecord, is_number, read_record

FOLDER = "path/to/this/folder"
BASE_FOLDER = "path/to/the/base/model"
_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what its --max-lora-rank accepts
_UNSAFE_TAG = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True)
class _Base:
    """The base model as its users get it.

    Attributes:
        hub_id: Repository on the Hub; None where the base was a local folder or file.
        revision: Of that repository.
        local_name: Last part of the local path, for the text.
    """

    hub_id: str | None
    revision: str | None
    local_name: str

    @property
    def shown(self) -> str:
        """What stands for the base in commands."""
        return self.hub_id or BASE_FOLDER


def model_card(run_path: Path, *, repo_id: str | None = None, merged: bool = False) -> str:
    """README.md of an export, with the Hub's metadata in front.

    Args:
        run_path: Folder of a finished run.
        repo_id: Where it will be uploaded; the folder itself is named where unknown.
        merged: The export holds the merged model, not the adapter.

    Returns:
        Markdown with a YAML head that the Hub accepts: a base that is no Hub
        repository is left out of it, since the Hub refuses paths there.

    Raises:
        DataError: There is no run, or one of its files is damaged.
    """
    record = read_record(run_path)
    config = _read_config(run_path / "adapter" / "adapter_config.json")
    trained = _read_json(run_path / "adapter" / "readwrite_edit.json")
    base = _base(config)
    place = repo_id or FOLDER
    usage = _load_merged(place, trained) if merged else _load_adapter(place, base, record.name, _rank(config))
    parts = [
        f"# {escaped(record.name)}",
        _introduction(record, base, merged),
        "## Figures\n\n" + _figures(record),
        "## How to load it\n\n" + usage,
        "## Certificate\n\n" + _certificate(record),
        "## Settings\n\n" + _settings(record),
        "## Limits\n\n" + _limits(record, trained if merged else {}),
    ]
    head = _metadata(record, base, merged).to_yaml()
    return str(ModelCard(f"---\n{head}\n---\n\n" + "\n\n".join(parts) + "\n"))


def _read_config(file: Path) -> dict[str, Any]:
    config = _read_json(file)
    if not isinstance(config.get("r"), int):
        raise DataError(f"{file} is damaged: 'r' is {config.get('r')!r}, expected a rank; resume the run")
    return config


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{file} does not exist: the run has no finished adapter; resume it first") from error
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}); resume the run to write it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} is damaged: expected an object, found {type(value).__name__}; resume the run")
    return value


def _base(config: dict[str, Any]) -> _Base:
    name = str(config.get("base_model_name_or_path") or "")
    try:
        validate_repo_id(name)
        on_hub = bool(name) and not os.path.exists(name)
    except HFValidationError:
        on_hub = False
    return _Base(name if on_hub else None, config.get("revision") if on_hub else None, Path(name).name)


def _rank(config: dict[str, Any]) -> int:
    return max([config["r"], *(config.get("rank_pattern") or {}).values()])


def _metadata(record: RunRecord, base: _Base, merged: bool) -> ModelCardData:
    adapter = record.section("adapter")
    objective = str(record.section("objective").get("name", ""))
    tags = ["readwrite-edit", objective, "alignment", f"basis-{adapter.get('basis', 'unknown')}"]
    tags += [] if merged else ["lora", "peft"]
    return ModelCardData(
        base_model=base.hub_id,
        base_model_relation=(("finetune" if merged else "adapter") if base.hub_id else None),
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-generation",
        tags=[tag for tag in (_UNSAFE_TAG.sub("-", tag.lower()).strip("-.") for tag in tags) if tag],
    )


def _introduction(record: RunRecord, base: _Base, merged: bool) -> str:
    modules = record.section("adapter").get("modules", [])
    named = ", ".join(code(str(module)) for module in modules) if isinstance(modules, list) else code(str(modules))
    what = "A model aligned with" if merged else "A LoRA adapter that aligns a language model with"
    objective = escaped(str(record.section("objective").get("name", "preference training")))
    lines = [f"{what} {objective}, made by readwrite-edit. It changes {named} of {_base_in_words(base)}."]
    if record.section("adapter").get("basis") not in (None, "lora"):
        columns = "whitened" if record.section("adapter").get("whiten") else "orthonormal"
        lines.append(
            f"Each update is ΔW = B Uᵀ: U is a frozen {columns} basis of directions of the matrix's input, only B was"
            " trained, so the update reads nothing outside U."
        )
    return " ".join(lines)


def _base_in_words(base: _Base) -> str:
    if base.hub_id:
        revision = f" at revision {code(base.revision)}" if base.revision else ""
        return f"[{escaped(base.hub_id)}](https://huggingface.co/{base.hub_id}){revision}"
    name = f" named {code(base.local_name)}" if base.local_name else ""
    return f"a local model{name} (not on the Hub: this card names no base model in its metadata)"


def _figures(record: RunRecord) -> str:
    rows = [[f"{row.label} ({row.unit})" if row.unit else row.label, row.before, row.after, row.change]
            for row in main_rows(record.summary)]  # fmt: skip
    if not rows:
        return "The run wrote no end table."
    notes = (
        "Before is the base model, after is the base model with this update. Loss, accuracy and margin are of"
        " preference pairs held out from training; accuracy before is undefined, all implicit rewards being 0."
    )
    return table(("", "before", "after", "change"), rows) + "\n\n" + notes


def _load_adapter(place: str, base: _Base, name: str, rank: int) -> str:
    revision = f", revision={base.revision!r}" if base.revision else ""
    python = f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {base.shown!r}
tokenizer = AutoTokenizer.from_pretrained(base{revision})
model = AutoModelForCausalLM.from_pretrained(base{revision}, dtype="auto")
model = PeftModel.from_pretrained(model, {place!r})"""
    return f"With PEFT:\n\n{fenced(python, 'python')}\n\n" + _vllm(place, base, name, rank)


def _vllm(place: str, base: _Base, name: str, rank: int) -> str:
    limit = next((limit for limit in _VLLM_RANKS if limit >= rank), None)
    if limit is None:
        return f"vLLM serves adapters up to rank {_VLLM_RANKS[-1]}; this one has {rank}: export it with --merge."
    revision = f" --revision {shlex.quote(base.revision)}" if base.revision else ""
    served = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "adapter"
    module = shlex.quote(f"{served}={place}")
    command = (
        f"vllm serve {shlex.quote(base.shown)}{revision} --enable-lora --lora-modules {module} --max-lora-rank {limit}"
    )
    return f"With vLLM:\n\n{fenced(command, 'sh')}"


def _load_merged(place: str, trained: dict[str, Any]) -> str:
    python = f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({place!r})
model = AutoModelForCausalLM.from_pretrained({place!r}, dtype="auto")"""
    # By itself vLLM would round float32 weights to half precision.
    command = f"vllm serve {shlex.quote(place)} --dtype {shlex.quote(_dtype(trained))}"
    return f"{fenced(python, 'python')}\n\nWith vLLM:\n\n{fenced(command, 'sh')}"


def _dtype(trained: dict[str, Any]) -> str:
    base = trained.get("base")
    return str(base.get("dtype", "auto")) if isinstance(base, dict) else "auto"


def _certificate(record: RunRecord) -> str:
    certificate = record.summary.get("certificate")
    if not certificate:
        return "The adapter was not certified."
    verdict = "passed every check" if certificate.get("passed") else "did **not** pass"
    checks = [
        f"- [{'x' if check['passed'] else ' '}] {escaped(str(check['name']))}: {escaped(str(check['detail']))}"
        for check in certificate.get("checks", [])
    ]
    return "\n".join(
        [f"The adapter {verdict}, checked in a fresh process with stock transformers and peft.\n", *checks]
    )


def _settings(record: RunRecord) -> str:
    skipped = {"Base model"}
    rows = [(name, value) for name, value in facts(record) if name not in skipped]
    recipe = record.recipe_text.replace(str(Path.home()), "~")
    return table(("", "value"), rows) + "\n\nThe recipe, as resolved:\n\n" + fenced(recipe, "yaml")


def _limits(record: RunRecord, merged_as: dict[str, Any]) -> str:
    limits = [
        "- The figures are of one run with one seed, on one set of held-out pairs; they say nothing of other data.",
        "- KL and perplexity were measured on the texts named in the table, and on no others.",
        "- What the base model knows, gets wrong or is biased in, it still is: preferences change, not knowledge.",
        *_quantised_base(record, bool(merged_as)),
        *_rounding(merged_as),
        *(f"- Alarm during training: {escaped(alarm)}" for alarm in record.alarms),
    ]
    return "\n".join(limits)


def _quantised_base(record: RunRecord, merged: bool) -> list[str]:
    if not (record.base_model.startswith("bundled:") or record.base_model.lower().endswith(".gguf")):
        return []
    if merged:
        return [f"- Its base is {code(record.base_model)}, a quantised copy of the base model, and so are its weights."]
    return [
        f"- It was trained on {code(record.base_model)}, a quantised copy of the base model: on the full weights its"
        " figures will differ a little."
    ]


def _rounding(merged_as: dict[str, Any]) -> list[str]:
    loss = merged_as.get("rounding_loss")
    if not is_number(loss):
        return []
    return [
        f"- The weights are stored in {_dtype(merged_as)}. Rounded to bfloat16, {min(loss, 1):.0%} of the update would"
        " be lost: load them as they are, or use the adapter."
    ]
