"""What the second moment of the output gradient says of the weight's gradient, and of two objectives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from readwrite_edit.align.tokenised import tokenise_pairs
from readwrite_edit.geometry import energy_null, principal_basis, random_basis, read_fraction, write_fraction
from readwrite_edit.models.pathways import find_pathways
from readwrite_edit.probe.gradients.losses import pair_batches
from readwrite_edit.probe.gradients.outputs import OutputSums, collect_output_gradients
from readwrite_edit.recipe.objective import Objective
from tests.small_runs import preference_rows
from tests.tiny_models import TINY, tiny_tokenizer

D_OUT, D_IN, TOKENS, K = 24, 200, 3000, 6
BETA = 0.3


def spiked(dim: int, seed: int) -> Tensor:
    """A mixing matrix whose covariance falls off fast, in directions of its own."""
    basis = random_basis(dim, dim, seed=seed)
    return (basis * torch.logspace(1, -1, dim, dtype=torch.float64)) @ random_basis(dim, dim, seed=seed + 1).T


def summed(delta: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """D and G of n tokens, in two batches through the probe's own sums."""
    sums = OutputSums()
    for half in (slice(0, len(delta) // 2), slice(len(delta) // 2, None)):
        sums.add(delta[half].float(), inputs[half].float(), len(delta[half]))
    assert sums.weight_gradient is not None
    return sums.moments.finish("δ").second_moment(), sums.weight_gradient.double()


def test_independent_inputs_leave_the_weight_gradient_at_both_energy_nulls() -> None:
    """With δ independent of a, E‖VᵀG‖² : E‖G‖² = tr(VᵀDV) : tr(D), whatever V, and the same for reads with C."""
    writes, reads, write_null, read_null = [], [], [], []
    prediction = random_basis(D_OUT, K, seed=9)
    mix_out, mix_in = spiked(D_OUT, 1), spiked(D_IN, 3)
    read_basis = principal_basis(mix_in @ mix_in.T, K)
    for seed in range(30):
        draw = torch.Generator().manual_seed(seed)
        delta = torch.randn(TOKENS, D_OUT, generator=draw, dtype=torch.float64) @ mix_out.T
        inputs = torch.randn(TOKENS, D_IN, generator=draw, dtype=torch.float64) @ mix_in.T
        moment, gradient = summed(delta, inputs)
        writes.append(float(write_fraction(gradient, prediction)))
        reads.append(float(read_fraction(gradient, read_basis)))
        write_null.append(energy_null(moment, prediction))
        read_null.append(energy_null(inputs.T @ inputs, read_basis))
    assert sum(writes) / 30 == pytest.approx(sum(write_null) / 30, rel=0.06)
    assert sum(reads) / 30 == pytest.approx(sum(read_null) / 30, rel=0.06)
    assert abs(sum(write_null) / 30 / (K / D_OUT) - 1) > 0.2, "the null must not be the isotropic one by chance"


def test_inputs_that_go_with_the_gradient_leave_the_energy_null() -> None:
    """A component of δ in V that always comes with the same a adds up, where independent ones grow as √n only."""
    draw = torch.Generator().manual_seed(0)
    prediction = random_basis(D_OUT, K, seed=9)
    signal = torch.randn(TOKENS, 1, generator=draw, dtype=torch.float64)
    delta = torch.randn(TOKENS, D_OUT, generator=draw, dtype=torch.float64) + signal * prediction[:, 0]
    inputs = torch.randn(TOKENS, D_IN, generator=draw, dtype=torch.float64)
    inputs[:, :1] += signal
    moment, gradient = summed(delta, inputs)
    assert float(write_fraction(gradient, prediction)) > 1.5 * energy_null(moment, prediction)


def test_at_the_reference_dpo_spreads_as_cross_entropy_on_both_answers_does() -> None:
    """D_dpo = (β/2)² (D of −log p(chosen) + D of −log p(rejected)), exactly, in every matrix.

    At the reference the margin is 0 and its sigmoid 1/2, so that δ is −β/2 times that of cross-entropy on the
    chosen answer and β/2 times that on the rejected one; δ δᵀ forgets the sign.
    """
    rows = tokenise_pairs(preference_rows(5), tiny_tokenizer(), max_length=40).rows
    swapped = [{**row, "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]} for row in rows]
    model = TINY["llama"]()
    projections = find_pathways(model).select(["q_proj", "k_proj", "o_proj", "down_proj"])
    objectives = {"sft": Objective(loss_type=("sft",)), "dpo": Objective(beta=BETA)}

    def moments(pairs: list[dict[str, list[int]]], name: str) -> dict[str, Tensor]:
        batches = pair_batches(pairs, pad_token_id=0, batch_size=5, max_length=40)
        found, _ = collect_output_gradients(model, batches, projections, {name: objectives[name]})
        return {site: moments.total for site, moments in found[name].statistics.sites.items()}

    dpo, chosen, rejected = moments(rows, "dpo"), moments(rows, "sft"), moments(swapped, "sft")
    for site, total in dpo.items():
        expected = (BETA / 2) ** 2 * (chosen[site] + rejected[site])
        torch.testing.assert_close(total, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
