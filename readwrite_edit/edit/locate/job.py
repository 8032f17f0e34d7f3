"""``edit locate``: a causal trace as a small job of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.edit.locate.choice import verdict
from readwrite_edit.edit.locate.prompts import TracePrompt, trace_prompt
from readwrite_edit.edit.locate.runs import sites_of
from readwrite_edit.edit.locate.tables import layers_table, prompts_table, trace_table
from readwrite_edit.edit.locate.trace import Trace, trace
from readwrite_edit.edit.settings.locate import LocateSettings
from readwrite_edit.job.result import Result
from readwrite_edit.job.session import Session
from readwrite_edit.models.loading import build_meta_model, load_model, load_tokenizer
from readwrite_edit.models.pathways import Pathways, find_pathways
from readwrite_edit.probe.checkpoint import parse_model

_MAIN_KINDS = ("mlp", "attention", "hidden")


@dataclass(frozen=True, eq=False)
class _Ready:
    """Checked input of the job."""

    settings: LocateSettings
    model: PreTrainedModel
    pathways: Pathways
    tokenizer: PreTrainedTokenizerBase
    prompts: tuple[TracePrompt, ...]


def locate(model: str, **options: Any) -> Result:
    """Trace which layers carry what a model says about a subject.

    Args:
        model: As ``readwrite-edit edit locate`` takes it.
        **options: Fields of ``LocateSettings``.

    Returns:
        Tables ``layers``, ``trace`` and ``traced``; ``docs/edit.md`` documents their columns.

    Raises:
        RecipeError: An option is wrong.
        ModelError: The model can not be loaded, or has no matrix of a kind.
        DataError: A subject does not stand in its prompt.

    Source: Meng, Bau, Andonian and Belinkov, arXiv 2202.05262, section 2.
    """
    return prepare(LocateSettings.checked({"model": model, **options}))(Session())


def prepare(settings: LocateSettings) -> Callable[[Session], Result]:
    """Find the subjects, load the model, and refuse what can not be traced.

    Raises:
        ModelError: The model can not be loaded, or has no matrix of a kind.
        DataError: A subject does not stand in its prompt.
    """
    source = parse_model(settings.model)
    tokenizer = load_tokenizer(source)
    prompts = _prompts(settings, tokenizer)
    described = build_meta_model(source)
    sites_of(described, find_pathways(described), settings.kinds)
    model = load_model(source, dtype=settings.dtype, device=settings.device).requires_grad_(False)
    ready = _Ready(settings, model, find_pathways(model), tokenizer, prompts)
    return lambda session: _measure(ready, session)


def _prompts(settings: LocateSettings, tokenizer: PreTrainedTokenizerBase) -> tuple[TracePrompt, ...]:
    count = len(settings.prompt)
    subjects = settings.subject * (count if len(settings.subject) == 1 else 1)
    targets = (settings.target or (None,)) * (count if len(settings.target) <= 1 else 1)
    triples = zip(settings.prompt, subjects, targets, strict=True)
    return tuple(trace_prompt(tokenizer, *triple) for triple in triples)


def _measure(ready: _Ready, session: Session) -> Result:
    settings = ready.settings
    found = trace(
        ready,
        ready.prompts,
        noise=settings.noise,
        samples=settings.samples,
        kinds=settings.kinds,
        seed=settings.seed,
        window=settings.window,
        session=session,
    )
    layers, kind = layers_table(found), next(kind for kind in _MAIN_KINDS if kind in settings.kinds)
    layer, sentence = verdict(found, layers, kind)
    traced = prompts_table(found, ready.tokenizer)
    means = traced[["clean_probability", "corrupted_probability", "corrupted_kl"]].mean()
    return Result(
        main="layers",
        tables={"layers": layers, "trace": trace_table(found, ready.tokenizer), "traced": traced},
        verdict=sentence,
        figures={"layer": layer, **means.to_dict(), "prompts": len(traced), "samples": found.samples},
        notes=tuple(_notes(found)),
    )


def _notes(found: Trace) -> Iterator[str]:
    """What the reader must know of this trace."""
    followed = "the target that was given" if found.prompts[0].prompt.target else "the model's own first choice"
    yield f"Effects are changes of the probability of {followed}; KL effects are of the whole prediction, in nats."
    harmless = sum(float(traced.corrupted.probability.mean()) >= traced.clean for traced in found.prompts)
    if harmless:
        yield f"Noise on the subject does not lower that probability in {harmless} of {len(found.prompts)} prompts."
    if found.window > 1:
        yield f"MLP and attention outputs of {found.window} layers around each were put back together."
    if not found.from_layer_on:
        yield "Passes from the restored layer on differ from whole ones here: every pass was whole."
