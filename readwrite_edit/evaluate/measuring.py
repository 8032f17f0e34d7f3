"""Loading what is evaluated, and measuring it: rows, texts with the price on each, answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from peft import PeftModel
from transformers import PreTrainedModel

from readwrite_edit.errors import AdapterError
from readwrite_edit.evaluate.energy import added_energy
from readwrite_edit.evaluate.figures import Generated
from readwrite_edit.evaluate.generations import Model, generate, prompt_ids
from readwrite_edit.evaluate.material import Material
from readwrite_edit.evaluate.measured_texts import MeasuredText
from readwrite_edit.evaluate.records import RowScores, TextScores
from readwrite_edit.evaluate.request import Request
from readwrite_edit.evaluate.rows import score_rows
from readwrite_edit.evaluate.subject import Subject
from readwrite_edit.evaluate.texts import Predictor, TextProbe, base_predictor, evaluating, predictor
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import load_model, quiet
from readwrite_edit.progress import progress_bar


@dataclass(frozen=True)
class Loaded:
    """What is evaluated, in memory.

    Attributes:
        model: With the adapter on it, where there is one.
        base: Another model to compare with; None where the base is the model with its adapter off, or there is none.
        weights_hash: Of the base, or of a whole model itself where there is none.
    """

    model: Model
    base: PreTrainedModel | None
    weights_hash: str

    @property
    def compared(self) -> bool:
        """Whether there is a base to compare with."""
        return self.base is not None or isinstance(self.model, PeftModel)

    @property
    def base_predictor(self) -> Predictor | None:
        """The base as something that predicts tokens."""
        if self.base is not None:
            return predictor(self.base)
        return base_predictor(self.model) if isinstance(self.model, PeftModel) else None


@dataclass(frozen=True)
class Measured:
    """What was measured, before anything is averaged.

    Attributes:
        rows: Of the preference rows; None without any.
        texts: Name of a text to its sequences' scores; NaN for what only a base could say.
        prices: Name of a text to the price of each adapted matrix on it; empty where there is no update.
        generations: ``model``, and ``base`` where there is one, to what it wrote for each prompt.
    """

    rows: RowScores | None
    texts: dict[str, TextScores]
    prices: dict[str, list[float]]
    generations: dict[str, list[Generated]]


def load(subject: Subject, request: Request) -> tuple[Loaded, list[str]]:
    """Load the model, its adapter and its base; and notes.

    Raises:
        ModelError: A model can not be loaded.
        AdapterError: The adapter can not be put on it, or belongs to other weights.
    """
    model = _load_base(subject, request)
    if subject.adapter is None:
        base = None if subject.base is None else load_model(subject.base, dtype=_dtype(request), device=request.device)
        return Loaded(model, base, weights_hash(base if base is not None else model)), []
    found, notes = weights_hash(model), []
    if subject.weights_hash is not None and found != subject.weights_hash:
        told = f"the weights of {subject.model} ({found[:12]}) are not those that the adapter was made for"
        if request.base is None and request.dtype is None:
            raise AdapterError(f"{told} ({subject.weights_hash[:12]}): name the right base with --base MODEL")
        notes.append(told)
    try:
        with quiet():
            wrapped = PeftModel.from_pretrained(model, str(subject.adapter), torch_device=str(model.device))
    except (ValueError, RuntimeError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise AdapterError(f"{subject.name}: stock PEFT can not put it on {subject.model}: {lines[0]}") from error
    return Loaded(wrapped.eval(), None, found), notes


def measure(loaded: Loaded, material: Material, request: Request) -> Measured:
    """Measure all that the material holds."""
    rows, base = None, loaded.base_predictor
    with evaluating(loaded.model):
        if material.rows is not None:
            with progress_bar("preference rows", "row") as advance:
                rows = score_rows(
                    predictor(loaded.model),
                    base,
                    material.rows.pairs.rows,
                    max_length=material.rows.max_length,
                    batch_size=request.batch_size,
                    progress=advance,
                )
        texts, prices = {}, {}
        for text in material.texts:
            texts[text.name], prices[text.name] = _text(loaded, base, text, material, request.batch_size)
    return Measured(rows, texts, {name: found for name, found in prices.items() if found}, _written(loaded, material))


def _load_base(subject: Subject, request: Request) -> PreTrainedModel:
    """The model as the run had it in memory, but for what the request says."""
    return load_model(
        subject.model,
        dtype=_dtype(request, subject.dtype),
        quantization=subject.quantization,
        device=request.device or subject.device,
        attn_implementation=subject.attn_implementation,
    )


def _dtype(request: Request, recorded: str = "auto") -> str:
    return request.dtype or recorded


def _text(
    loaded: Loaded, base: Predictor | None, text: MeasuredText, material: Material, batch_size: int
) -> tuple[TextScores, list[float]]:
    """Scores of a text's sequences, and the price of each adapted matrix on it."""
    model = predictor(loaded.model)
    probe = TextProbe(text.sequences, batch_size, again=False)
    matrices = material.matrices
    with progress_bar(f"KL and perplexity on '{text.name}'", "seq") as advance:
        if not isinstance(loaded.model, PeftModel):
            scores = probe.measure(model, base or model, advance)
            return (scores if base is not None else _without_base(scores)), []
        with added_energy(loaded.model, matrices, first_position=material.first_position) as energies:
            scores = probe.measure(model, base_predictor(loaded.model), advance)
    return scores, [energy.mean / one.d_out for (one, _), energy in zip(matrices, energies, strict=True)]


def _without_base(scores: TextScores) -> TextScores:
    unknown = (math.nan,) * len(scores.ids)
    return replace(scores, kl=unknown, base_nll=unknown)


def _written(loaded: Loaded, material: Material) -> dict[str, list[Generated]]:
    if not material.prompts:
        return {}
    prompts = prompt_ids(material.tokenizer, material.prompts)
    found = {"model": _answers(loaded.model, material, prompts, "the model's answers")}
    if loaded.base is not None:
        found["base"] = _answers(loaded.base, material, prompts, "the base's answers")
    elif isinstance(loaded.model, PeftModel):
        with loaded.model.disable_adapter():
            found["base"] = _answers(loaded.model, material, prompts, "the base's answers")
    return found


def _answers(model: Model, material: Material, prompts: Sequence[Sequence[int]], title: str) -> list[Generated]:
    with progress_bar(title, "prompt") as advance:
        return generate(model, material.tokenizer, prompts, max_new_tokens=material.max_new_tokens, progress=advance)
