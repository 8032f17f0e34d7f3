"""Values: what the matrix should write more at the subject's last token, so that the target follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.edit.associate.continuations import Continuations, Reading, margins
from readwrite_edit.edit.associate.lengths import Lengths, shortest

_DOUBLINGS = 2  # up to four lengths of the present output, as far as ROME goes
_FROM_TRUST = 3  # the same from half a length
_LONGEST = 4.0  # lengths of the present output
_WIDEN, _NARROW = 0.75, 0.25  # shares of the predicted gain
_TINY = 1e-20


@dataclass(frozen=True, eq=False)
class Values:
    """Values of some facts.

    Attributes:
        step: δ, what is added to the matrix' output at the subject's last token, (facts, d_out), float32.
        margin_before: Lead of the target over the runner-up without it, nats, (facts,).
        margin: With it.
        usual: ‖W k + b‖, the length of what the matrix writes there now, (facts,).
        linearisations: Backward passes of each fact, (facts,).
        passes: Margins computed of each fact besides, (facts,).
    """

    step: Tensor
    margin_before: Tensor
    margin: Tensor
    usual: Tensor
    linearisations: Tensor
    passes: Tensor


def closed_values(
    prompts: Continuations, *, margin: float, linearisations: int, trust: float, refinements: int
) -> Values:
    """The least steps of linear models of the target's log-odds, then the shortest length along their sum.

    The log-odds s of the target (its logit against the log of the summed
    exponentials of all others; for several target tokens a soft minimum over
    them) are linear in the step to first order: s(δ) ≈ s + gᵀδ. One
    vector-Jacobian product carries g, at the head the target's unembedding row
    less the mean row under the model's own prediction, back to the matrix'
    output. The least ‖δ‖ that the linear model lets reach a margin lies along
    g, and since an update that answers a key k with δ is priced at
    ‖δ‖²/(kᵀC⁻¹k), it is the cheapest too.

    One linear model does not carry far: attention saturates. So its step is
    cut at a radius (``trust`` lengths of the matrix' present output, doubled
    where the model held, halved where it did not), and a new one is made from
    there, until the margin is reached or ``linearisations`` are used up. Then a
    search without gradients shortens the sum of the steps, which is never longer
    than four times the present output (ROME's bound too). ``linearisations=1``
    is the single linear model, its direction at any length up to that.

    Args:
        prompts: The facts' prompts.
        margin: Wanted lead over the runner-up, nats.
        linearisations: Most linear models.
        trust: First radius, in lengths of the matrix' present output.
        refinements: Most passes that shorten the step; 0 leaves that to the caller.
    """
    path = _Path(prompts, margin, trust)
    for _ in range(linearisations):
        if not path.advance():
            break
    before, step = path.before, path.step
    last = path.last_margins()
    found = shortest(
        lambda lengths, rows: prompts.margins(lengths.unsqueeze(1) * step[rows], rows),
        torch.ones_like(before),
        before,
        margin,
        doublings=_FROM_TRUST if linearisations == 1 else 0,
        refinements=refinements,
        known=last,
    )
    return _values(prompts, step, before, found, path.used, 1)


def direction_values(prompts: Continuations, directions: Tensor, *, margin: float, refinements: int) -> Values:
    """The shortest steps along given directions.

    Args:
        prompts: The facts' prompts.
        directions: Rows, shape (facts, d_out).
        margin: Wanted lead over the runner-up, nats.
        refinements: Most passes over a bracket of lengths.
    """
    unit = torch.nn.functional.normalize(directions.to(prompts.output), dim=1)
    before = prompts.margins()
    found = shortest(
        lambda lengths, rows: prompts.margins(lengths.unsqueeze(1) * unit[rows], rows),
        prompts.output.norm(dim=1).clamp_min(_TINY),
        before,
        margin,
        doublings=_DOUBLINGS,
        refinements=max(refinements, 3),
        known=None,
    )
    return _values(prompts, unit, before, found, torch.zeros_like(found.passes), 1)


def _values(prompts: Continuations, step: Tensor, before: Tensor, found: Lengths, used: Tensor, more: int) -> Values:
    final = found.length.unsqueeze(1) * step
    return Values(final, before, found.margin, prompts.output.norm(dim=1), used, found.passes + more)


def log_odds(reading: Reading, count: int) -> tuple[Tensor, Callable[[], Tensor]]:
    """Soft minimum over each row's target tokens of their log-odds, and its gradient at the logits on request.

    Args:
        reading: Logits behind the prompts.
        count: Number of rows n.

    Returns:
        s of shape (n,), and a function that gives ∂s/∂logits, (tokens, vocabulary).
    """
    place = reading.tokens.unsqueeze(1)
    own = reading.logits.gather(1, place)
    others = reading.logits.scatter(1, place, -torch.inf)
    rest = others.logsumexp(dim=1, keepdim=True)
    each = (own - rest).squeeze(1)
    least = torch.full((count,), torch.inf, device=each.device).scatter_reduce(0, reading.owners, each, "amin")
    weights = torch.exp(least[reading.owners] - each)
    sums = torch.zeros(count, device=each.device).index_add_(0, reading.owners, weights)
    value = least - sums.log()

    def gradient() -> Tensor:
        share = (weights / sums[reading.owners]).unsqueeze(1)
        return (-(others - rest).exp()).scatter(1, place, 1.0) * share

    return value, gradient


class _Path:
    """Steps of linear models, one after the other, of the facts that still need them."""

    def __init__(self, prompts: Continuations, margin: float, trust: float) -> None:
        self._prompts, self._margin = prompts, margin
        count, device = len(prompts), prompts.output.device
        self.step = torch.zeros_like(prompts.output)
        self.before = torch.zeros(count, device=device)
        self.used = torch.zeros(count, dtype=torch.int64, device=device)
        usual = prompts.output.norm(dim=1).clamp_min(_TINY)
        self._radius, self._longest = trust * usual, _LONGEST * usual
        self._odds, self._gain = torch.zeros(count, device=device), torch.zeros(count, device=device)
        self._margins = torch.full((count,), -torch.inf, device=device)
        self._best, self._best_margins = self.step.clone(), self._margins.clone()
        self._open = torch.arange(count, device=device)
        self._first = True

    def advance(self) -> bool:
        """Make a linear model where each open fact stands, and take its step; False where no fact is open."""
        if not len(self._open):
            return False
        rows = self._open
        reading = self._prompts.read(self.step[rows], rows)
        odds, gradient = log_odds(reading, len(rows))
        self._note(rows, margins(reading, len(rows)))
        if self._first:
            self.before = self._margins.clone()
        still = self._margins[rows] < self._margin
        g = reading.pull(gradient())[still]
        rows, odds = rows[still], odds[still]
        self._open = rows
        if not self._first:
            self._judge(rows, odds)
        self._first = False
        self._move(rows, odds, g)
        return bool(len(rows))

    def last_margins(self) -> Tensor:
        """Margins where the path ended, its best point where it reached nothing."""
        if len(self._open):
            self._note(self._open, self._prompts.margins(self.step[self._open], self._open))
            self.step = torch.where((self._margins >= self._margin).unsqueeze(1), self.step, self._best)
            self._margins = torch.where(self._margins >= self._margin, self._margins, self._best_margins)
        return self._margins

    def _note(self, rows: Tensor, found: Tensor) -> None:
        self._margins[rows] = found
        if self._first:
            return  # no step is no answer, even where every step makes it worse
        better = rows[found > self._best_margins[rows]]
        self._best[better], self._best_margins[better] = self.step[better], self._margins[better]

    def _judge(self, rows: Tensor, odds: Tensor) -> None:
        """Trust the next model further where the last one's step brought what it promised, else less far."""
        share = (odds - self._odds[rows]) / self._gain[rows].clamp_min(_TINY)
        factor = torch.where(share > _WIDEN, 2.0, torch.where(share < _NARROW, 0.5, 1.0))
        self._radius[rows] *= factor

    def _move(self, rows: Tensor, odds: Tensor, g: Tensor) -> None:
        slope = g.norm(dim=1).clamp_min(_TINY)
        needed = (self._margin - odds).clamp_min(0) / slope  # log-odds of m imply a lead of at least m
        length = torch.minimum(self._radius[rows], needed)
        step = self.step[rows] + (length / slope).unsqueeze(1) * g
        self.step[rows] = step * (self._longest[rows] / step.norm(dim=1).clamp_min(_TINY)).clamp_max(1).unsqueeze(1)
        self._odds[rows], self._gain[rows] = odds, length * slope
        self.used[rows] += 1
