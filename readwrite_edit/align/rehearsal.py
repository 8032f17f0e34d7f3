"""What a recipe would do, found out without loading the weights or writing anything."""

from __future__ import annotations

from readwrite_edit.align.prepare import Preparation, prepare
from readwrite_edit.align.tokenised import render_sample, row_length
from readwrite_edit.models.loading import build_meta_model, default_device, load_config
from readwrite_edit.recipe import Recipe

_GIB = 1024**3
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "nf4": 0.55, "int8": 1.1}
_KEPT_PER_LAYER = 16  # tensors of width d_model that a layer keeps for its backward pass, roughly


def rehearse(recipe: Recipe) -> str:
    """Describe a run in words: matrices, ranks, memory, rows, loss mask, reference.

    Args:
        recipe: What would be done.

    Returns:
        Several lines, safe to print.

    Raises:
        ReadWriteEditError: The recipe can not be carried out.
    """
    prepared = prepare(recipe)
    sections = (
        ("model", [f"{prepared.source}, {prepared.pathways.model_type}, {prepared.pathways.n_layers} layers"]),
        ("adapter", _adapter(prepared)),
        ("memory", _memory(prepared)),
        ("data", _data(prepared)),
        ("calibration", _calibration(prepared)),
        ("objective", _objective(recipe)),
        ("steps", _steps(prepared)),
    )
    lines = [f"{'' if index else title:<12}{line}" for title, body in sections for index, line in enumerate(body)]
    sample = render_sample(prepared.train.rows[0], prepared.tokenizer, recipe.train.max_length)
    return "\n".join([*lines, "", "first training row; tokens with a loss stand between ⟦ and ⟧:", sample])


def _adapter(prepared: Preparation) -> list[str]:
    options = prepared.recipe.adapter
    width = f"rank {options.rank}" if options.rank else f"ranks by {options.energy:.0%} of the energy"
    basis = f"{options.basis}, whitened" if options.whiten else options.basis
    kinds: dict[tuple[str, int, int], list[int]] = {}
    for projection in prepared.projections:
        kinds.setdefault((projection.role, projection.d_out, projection.d_in), []).append(projection.layer)
    lines = [f"basis {basis}, {width}; {trainable_parameters(prepared)}"]
    return lines + [
        f"{role} in {len(layers)} layers, {d_out} × {d_in}" for (role, d_out, d_in), layers in kinds.items()
    ]


def trainable_parameters(prepared: Preparation) -> str:
    """How many numbers are trained, in words."""
    options = prepared.recipe.adapter
    if options.rank is None:
        return "trainable parameters follow from the statistics"
    modules = {projection.module: projection for projection in prepared.projections}
    count = sum(projection.d_out for projection in prepared.projections) * options.rank
    if options.basis == "lora":
        count += sum(projection.d_in for projection in modules.values()) * options.rank
    return f"{count:,} trainable parameters"


def _memory(prepared: Preparation) -> list[str]:
    """Weights, statistics and activations of one batch; an estimate within a factor of two."""
    recipe = prepared.recipe
    on_cpu = (recipe.model.device or default_device()) == "cpu"
    config = load_config(prepared.source).get_text_config()
    model = build_meta_model(prepared.source)
    weights = sum(parameter.numel() for parameter in model.parameters())
    kept = recipe.model.dtype if recipe.model.dtype != "auto" else "float32" if on_cpu else "bfloat16"
    weight_bytes = weights * _BYTES[recipe.model.quantization or kept]
    sites = {projection.site: projection.d_in for projection in prepared.projections}
    # two halves in float64; once collected they leave an accelerator
    statistics = sum(8 * 2 * d_in**2 for d_in in sites.values())
    length = min(recipe.train.max_length or 1024, max(map(row_length, prepared.train.rows)))
    tokens = 2 * recipe.train.per_device_train_batch_size * length
    layers = 1 if recipe.train.gradient_checkpointing else prepared.pathways.n_layers
    activations = tokens * config.hidden_size * _KEPT_PER_LAYER * layers * _BYTES[kept]
    total = weight_bytes + max(statistics, activations)
    parts = (
        f"weights {weight_bytes / _GIB:.1f}, statistics {statistics / _GIB:.1f}, activations {activations / _GIB:.1f}"
    )
    return [f"about {total / _GIB:.1f} GiB on the {'CPU' if on_cpu else 'GPU'} ({parts}; a rough estimate)"]


def _data(prepared: Preparation) -> list[str]:
    counts = f"{len(prepared.train.rows)} training rows, {len(prepared.held_out.rows)} held out"
    return [f"{prepared.recipe.data.path}: {counts}", *(prepared.notes or ["no row is cut or dropped"])]


def _calibration(prepared: Preparation) -> list[str]:
    own = prepared.recipe.calibration.path or "the training data"
    lines = [f"{sum(map(len, prepared.calibration))} tokens of {own}"]
    return lines + [
        f"protected '{name}': {sum(map(len, sequences))} tokens, weight {weight:g}"
        for name, (weight, sequences) in prepared.protect.items()
    ]


def _objective(recipe: Recipe) -> list[str]:
    losses = " + ".join(recipe.objective.loss_type)
    reference = "the base model with the adapter off, its log-probabilities computed once and cached"
    return [f"{recipe.objective.name} ({losses}), β = {recipe.objective.beta:g}", f"reference policy: {reference}"]


def _steps(prepared: Preparation) -> list[str]:
    train = prepared.recipe.train
    pairs = train.per_device_train_batch_size * train.gradient_accumulation_steps
    if train.max_steps > 0:
        passes = train.max_steps * pairs / len(prepared.train.rows)
        length = f"{train.max_steps} steps of {pairs} pairs ({passes:.1f} passes)"
    else:
        length = f"{train.num_train_epochs:g} passes in steps of {pairs} pairs"
    return [f"{length}, learning rate {train.learning_rate:g}, checkpoint every {train.save_steps}"]
