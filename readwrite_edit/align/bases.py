"""The bases of a run: chosen by its recipe, kept in its folder, told to its user."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from readwrite_edit.adapter import BasisChoice, Target
from readwrite_edit.durable import whole_file
from readwrite_edit.errors import RunError
from readwrite_edit.recipe import Recipe


def basis_choice(recipe: Recipe, arm: str | None = None) -> BasisChoice:
    """What a recipe says of the basis, or of another arm under otherwise the same options."""
    options = recipe.adapter
    return BasisChoice(
        arm=arm or options.basis,
        rank=options.rank,
        energy=options.energy,
        max_rank=options.max_rank,
        form=options.contrastive.form,
        epsilon=options.contrastive.epsilon,
        beta=options.contrastive.beta,
        seed=options.seed,
        whiten=options.whiten,
    )


def save_bases(targets: tuple[Target, ...], path: Path) -> None:
    """Write the bases by module, whole or not at all."""
    tensors = {target.module: target.basis.clone() for target in targets if target.basis is not None}
    captured = {target.module: repr(target.captured_energy) for target in targets}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=captured)


def with_saved_bases(ranks: tuple[Target, ...], path: Path) -> tuple[Target, ...]:
    """Targets with the bases that a run chose when it began.

    Raises:
        RunError: The file is damaged.
    """
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            captured = {module: float(energy) for module, energy in file.metadata().items()}
        return tuple(
            Target(target.projections, target.rank, tensors.get(target.module), captured[target.module])
            for target in ranks
        )
    except (SafetensorError, AttributeError, KeyError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): delete it, and resuming chooses the same bases again") from error


def captured_energy(targets: tuple[Target, ...]) -> list[str]:
    """How much of its input's energy each layer's basis captures, in words; nothing for plain LoRA."""
    with_basis = [target for target in targets if target.basis is not None]
    if not with_basis:
        return []
    ranks = sorted({target.rank for target in with_basis})
    width = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    layers = {target.projections[0].layer: f"{target.captured_energy:.0%}" for target in with_basis}
    shares = "  ".join(f"{layer}: {share}" for layer, share in layers.items())
    return [f"bases of {len(with_basis)} matrices, {width}; share of the input's energy by layer:", f"  {shares}"]
