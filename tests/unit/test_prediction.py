"""The prediction subspace from blocks of rows, and with tokens weighted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import prediction_basis, unembedding_gram

TOKENS, D = 40, 6


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def unembedding() -> Tensor:
    return gaussian(TOKENS, D, seed=1) + 2.0


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("gain", [None, gaussian(D, seed=2)])
@pytest.mark.parametrize("weighted", [True, False])
def test_blocks_of_rows_give_the_gram_matrix_of_the_whole(
    unembedding: Tensor, centred: bool, gain: Tensor | None, weighted: bool
) -> None:
    weights = torch.arange(TOKENS) % 3 if weighted else None
    blocks = (block for block in unembedding.split([1, 0, 25, 14]))
    share = torch.full((TOKENS,), 1 / TOKENS).double() if weights is None else weights.double() / weights.sum()
    seen = unembedding if gain is None else unembedding * gain
    if centred:
        seen = seen - share @ seen
    expected = seen.T @ (seen * share[:, None])
    torch.testing.assert_close(unembedding_gram(blocks, gain, centred=centred, token_weights=weights), expected)


def test_a_token_that_counts_twice_is_there_twice(unembedding: Tensor) -> None:
    weights = torch.ones(TOKENS)
    weights[:5] = 2
    twice = torch.cat([unembedding, unembedding[:5]])
    torch.testing.assert_close(unembedding_gram(unembedding, token_weights=weights), unembedding_gram(twice))
    torch.testing.assert_close(
        prediction_basis([unembedding], 2, token_weights=weights), prediction_basis(twice, 2), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rows: unembedding_gram([]), "no rows"),
        (lambda rows: unembedding_gram([rows, rows[:, :3]]), "3 columns, the first had 6"),
        (lambda rows: unembedding_gram(rows, token_weights=torch.ones(39)), "39 token weights"),
        (lambda rows: unembedding_gram(rows, token_weights=torch.ones(41)), "41 token weights"),
        (lambda rows: unembedding_gram(rows, token_weights=torch.zeros(40)), "not all of them 0"),
        (lambda rows: unembedding_gram(rows, token_weights=-torch.ones(40)), "at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[Tensor], object], words: str, unembedding: Tensor) -> None:
    with pytest.raises(ShapeError, match=words):
        call(unembedding)
