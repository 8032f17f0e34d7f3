"""What rank-1 edits do to predictions: KL per position, and the change of a token's log-probability."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.interventions.changes import Edit
from readwrite_edit.interventions.forward import Unedited, copies, edited, final_hidden, starting_at, unedited
from readwrite_edit.interventions.kl import kl_and_change
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import Projection

_ROWS = 128  # positions in a product with the unembedding, which is then read once for all of them
_CACHED_ROWS = 4  # positions whose logits stay in a core's cache through the passes over them: three times as fast
_TOLERANCE = 1e-4


class Effects(NamedTuple):
    """Means over the positions of each sequence, shape (edits, sequences), float64 on the CPU.

    Attributes:
        kl: KL(base ‖ edited) over the whole vocabulary, nats per token.
        target_change: log q(target) − log p(target), nats per token.
    """

    kl: Tensor
    target_change: Tensor


@dataclass(frozen=True)
class SuffixGain:
    """Whether layers below an edit may be left out, and what that saves.

    Attributes:
        exact: The final hidden states are those of a whole pass.
        whole_s: Seconds of a whole pass over a batch of edits.
        suffix_s: Seconds of the same from the edited layer on.
    """

    exact: bool
    whole_s: float
    suffix_s: float


class EffectMeter:
    """Measures edits against the unedited model on fixed sequences.

    Keeps the base's log-probabilities of every position: two float32 matrices of
    (sequences · (length − 1), vocabulary).

    Args:
        model: Bare model in evaluation mode.
        sequences: Token ids, all of one length.
        projections: Every matrix that will be edited.
        target: Token whose log-probability to follow; None follows the actual next tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sequences: Sequence[Sequence[int]],
        projections: Sequence[Projection],
        *,
        target: int | None = None,
    ) -> None:
        self._model, self._ids = model, torch.tensor(sequences, device=model.device)
        self._head = language_model_head(model)
        self._cached_rows = _CACHED_ROWS if model.device.type == "cpu" else _ROWS
        self.skips_layers = True
        following = self._ids[:, 1:].flatten()
        self._targets = following if target is None else torch.full_like(following, target)
        with torch.no_grad():
            self._base: Unedited = unedited(model, self._ids, projections)
            rows = self._base.hidden[:, :-1].flatten(0, 1).split(_ROWS)
            self._log_p = torch.cat([self._head.logits(part).log_softmax(dim=1) for part in rows])
        self._p = self._log_p.exp()

    def measure(self, edits: Sequence[Edit]) -> Effects:
        """Effects of edits of one matrix, in one pass."""
        with torch.no_grad():
            hidden = self._edited_hidden(edits, from_layer=self.skips_layers)
            hidden = hidden.unflatten(0, (len(edits), -1))[:, :, :-1]  # (edits, sequences, time − 1, d_model)
            found = [self._compare(one.flatten(0, 1)) for one in hidden]
        shape = (len(edits), len(self._ids), -1)
        kl, change = (torch.stack(part).view(shape).double().mean(dim=2).cpu() for part in zip(*found, strict=True))
        return Effects(kl, change)

    def input_energy(self, projection: Projection, directions: Tensor) -> Tensor:
        """Mean of (vᵀx)² over the evaluation text for each direction, (n, d_in) → (n,), float64."""
        x = self._base.inputs[projection.module].double().cpu()
        return (x @ directions.double().T).square().mean(dim=0)

    def check_suffix(self, edits: Sequence[Edit]) -> SuffixGain:
        """Compare a pass from the edited layer on with a whole one; where they differ, passes are whole from now on."""
        hidden, seconds = [], []
        with torch.no_grad():
            for from_layer in (False, True):
                start = time.perf_counter()
                hidden.append(self._edited_hidden(edits, from_layer=from_layer))
                seconds.append(time.perf_counter() - start)
        scale = hidden[0].float().abs().max()
        exact = bool((hidden[0] - hidden[1]).float().abs().max() <= _TOLERANCE * scale)
        self.skips_layers = self.skips_layers and exact
        return SuffixGain(exact, *seconds)

    def _edited_hidden(self, edits: Sequence[Edit], *, from_layer: bool) -> Tensor:
        ids, layer = copies(self._ids, len(edits)), edits[0].projection.layer
        with edited(self._model, [(edit.change,) for edit in edits]):
            if not from_layer:
                return final_hidden(self._model, ids)
            state = copies(self._base.states[layer], len(edits))
            with starting_at(self._model, layer, state, as_tuple=self._base.as_tuple):
                return final_hidden(self._model, ids)

    def _compare(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """KL and change at each position, (positions, d_model) → two of (positions,)."""
        places = torch.arange(len(hidden), device=hidden.device)
        pieces = []
        for rows in places.split(_ROWS):
            logits = self._head.logits(hidden[rows])
            for own, part in zip(rows.split(self._cached_rows), logits.split(self._cached_rows), strict=True):
                pieces.append(kl_and_change(part, self._p[own], self._log_p[own], self._targets[own]))
        kl, change = (torch.cat(part) for part in zip(*pieces, strict=True))
        return kl, change


def speedup(gains: Sequence[SuffixGain]) -> float:
    """How much faster the passes were for leaving out layers below the edits; NaN where none was tried."""
    whole, suffix = sum(gain.whole_s for gain in gains), sum(gain.suffix_s for gain in gains)
    return whole / suffix if suffix else math.nan
