"""Values into weights: one layer or several, hard or ridge, with or without a null space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.edit.associate.continuations import Continuations, batches
from readwrite_edit.edit.associate.keys import keys_of, states_of
from readwrite_edit.edit.associate.lengths import shortest
from readwrite_edit.edit.associate.questions import Asked
from readwrite_edit.edit.associate.values import Values
from readwrite_edit.edit.metric import Metric
from readwrite_edit.errors import EditError, ShapeError
from readwrite_edit.geometry import hard_update, key_gain, null_space_update, ridge_update
from readwrite_edit.geometry.fractions import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.interventions.forward import edited
from readwrite_edit.models.pathways import Projection

_DOUBLINGS, _REFINEMENTS = 1, 6
_LEAST_ANSWER = 0.2
_RIDGE_SHARE = 0.1
_FOLLOWED = 200  # facts of a large batch whose lead is computed with the whole edit


@dataclass(frozen=True, eq=False)
class Form:
    """How keys are answered with values in one matrix.

    Attributes:
        projection: The matrix.
        metric: C of what it reads.
        ridge: λ; 0 where the constraints hold exactly; None for a tenth of the keys' mean gain.
        null_space: Directions N that may be read, (d_in, n); None for all, weighed by C.
    """

    projection: Projection
    metric: Metric
    ridge: float | None
    null_space: Tensor | None = None

    def settled(self, keys: Tensor) -> Form:
        """The same with λ as a number; it scales with kᵀC⁻¹k, beside which it stands."""
        return self if self.ridge is not None else replace(self, ridge=_RIDGE_SHARE * float(self.gain(keys).mean()))

    def residuals(self, steps: Tensor, keys: Tensor, bare: Tensor) -> Tensor:
        """R with which a lone edit without a ridge answers a bare prompt's own key k₀ by δ: δ (kᵀC⁻¹k)/(kᵀC⁻¹k₀).

        A fact whose k₀ has less than a fifth of k in it (a subject at the first
        position, where models keep an attention sink) gets no residual: r would be
        many times δ, and a few such facts are enough to ruin a batch.

        Args:
            steps: δ, (facts, d_out).
            keys: K, means over contexts, (d_in, facts).
            bare: K₀ of the bare prompts, (d_in, facts).

        Returns:
            Shape (facts, d_out), float64.
        """
        answer = self.gain(keys, bare) / self.gain(keys)
        factor = torch.where(answer < _LEAST_ANSWER, 0.0, 1 / answer)
        return steps.to(keys) * factor.unsqueeze(1)

    def update(self, residuals: Tensor, keys: Tensor) -> LowRank:
        """ΔW with ΔW K = R or nearly, R of shape (d_out, facts) and K of shape (d_in, facts).

        Raises:
            EditError: The keys can not be told apart, or a key is zero.
        """
        ridge = self.settled(keys).ridge or 0.0
        try:
            if self.null_space is not None:
                return null_space_update(residuals, keys, self.null_space, ridge)
            solved = self.metric.solve(keys)
            if keys.shape[1] == 1 and ridge == 0:
                return hard_update(residuals[:, 0], keys[:, 0], solved[:, 0])
            return ridge_update(residuals, keys, solved, ridge)
        except ShapeError as error:
            place = f"layer {self.projection.layer} {self.projection.role}"
            raise EditError(f"{place}: {error}") from error

    def gain(self, keys: Tensor, others: Tensor | None = None) -> Tensor:
        """kᵀC⁻¹k of each key, or kᵀC⁻¹k′; within the null space kᵀN Nᵀk. Shape (facts,), float64."""
        if self.null_space is None:
            return key_gain(keys if others is None else others, self.metric.solve(keys))
        inside = self.null_space.T @ keys
        return (inside * (inside if others is None else self.null_space.T @ others)).sum(dim=0)


@dataclass(frozen=True, eq=False)
class Inserted:
    """The changes, and what each fact needed of them.

    Attributes:
        changes: One a layer.
        forms: The forms with λ as a number, one a layer.
        residuals: r of each fact in the last layer, (facts, d_out), as the closed form was given them.
        gain: kᵀC⁻¹k of each fact's key in the last layer, (facts,); within a null space kᵀN Nᵀk.
        margin: Lead of the target in the bare prompt with the whole edit, nats, (facts,); NaN where not computed.
        passes: Passes with the whole edit.
    """

    changes: tuple[Change, ...]
    forms: tuple[Form, ...]
    residuals: Tensor
    gain: Tensor
    margin: Tensor
    passes: int


class EditedPrompts:
    """Bare prompts under a whole edit, which acts on every token.

    Args:
        model: Bare model.
        lowest: The lowest of the edited matrices.
        asked: Facts.
        most: Follow no more facts than these, evenly taken; None follows all.
    """

    def __init__(
        self, model: PreTrainedModel, lowest: Projection, asked: Sequence[Asked], *, most: int | None = None
    ) -> None:
        self._model, self._count = model, len(asked)
        number = min(len(asked), most or len(asked))
        taken = [index * len(asked) // number for index in range(number)]
        bare = [asked[index].bare for index in taken]
        grouped = batches(bare, whole=True)
        self._parts = [Continuations(model, lowest, [bare[row] for row in rows], whole=True) for rows in grouped]
        self._facts = torch.tensor([taken[row] for rows in grouped for row in rows])
        self.passes = 0

    def margins(self, changes: Sequence[Change]) -> Tensor:
        """Lead of each target over its runner-up, nats, shape (facts,), on the CPU; NaN for facts not followed."""
        self.passes += 1
        with edited(self._model, [changes]):
            found = torch.cat([part.margins() for part in self._parts]).cpu()
        return torch.full((self._count,), torch.nan).index_copy(0, self._facts, found)


def insert(
    model: PreTrainedModel, forms: Sequence[Form], asked: Sequence[Asked], values: Values, *, margin: float
) -> Inserted:
    """Build ΔW of each layer so that every fact's key is answered with its value.

    The value δ was found for the bare prompt, and the key k is a mean over
    contexts: the residual is δ · (kᵀC⁻¹k)/(kᵀC⁻¹k₀), with which a lone edit adds
    δ to the output where it reads the bare prompt's key k₀. Without a ridge and in one
    layer, lengths are then searched once more under the whole edit, which acts
    on every token and, of other facts, on every key.

    Args:
        model: Bare model.
        forms: One a layer, in order.
        asked: Facts.
        values: δ of each fact in the last layer.
        margin: Wanted lead, nats.

    Raises:
        EditError: The keys can not be told apart.
    """
    searched = forms[0].ridge == 0
    prompts = EditedPrompts(model, forms[0].projection, asked, most=None if searched else _FOLLOWED)
    if len(forms) > 1:
        return _spread(model, forms, asked, values, prompts, margin)
    form, keys, bare = _read(model, forms[0], asked)
    residuals = form.residuals(values.step, keys, bare)
    _refuse_unlike_keys(form, residuals)

    def change(lengths: Tensor) -> Change:
        return Change(form.projection, form.update((residuals * lengths.unsqueeze(1).to(residuals)).T, keys))

    lengths = torch.ones(len(asked))
    found = prompts.margins([change(lengths)])
    if searched:
        lengths, found = _settled(lambda tried: prompts.margins([change(tried)]), values, found, margin)
    scaled = residuals * lengths.unsqueeze(1).to(residuals)
    return Inserted((change(lengths),), (form,), scaled, form.gain(keys), found, prompts.passes)


def _settled(
    margins: Callable[[Tensor], Tensor], values: Values, first: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """Lengths of all facts under the whole edit, and the margins there.

    Facts are searched each by itself while the others stand where their own
    search has them, so margins at the end are computed again.
    """
    lengths = torch.ones(len(first))

    def at(tried: Tensor, rows: Tensor) -> Tensor:
        lengths[rows] = tried
        return margins(lengths)[rows]

    found = shortest(
        at,
        torch.ones_like(lengths),
        values.margin_before.cpu(),
        margin,
        doublings=_DOUBLINGS,
        refinements=_REFINEMENTS,
        known=first,
    )
    return found.length, margins(found.length) if len(first) > 1 else found.margin


def _refuse_unlike_keys(form: Form, residuals: Tensor) -> None:
    if not bool((residuals != 0).any()):
        raise EditError(
            f"layer {form.projection.layer} {form.projection.role}: what is read at the subject in the bare prompt has "
            f"less than {_LEAST_ANSWER:g} of the mean key in it (a subject at the first position?); put words before "
            "the subject, or set prefixes to 0"
        )


def _read(
    model: PreTrainedModel, form: Form, asked: Sequence[Asked], changes: Sequence[Change] = ()
) -> tuple[Form, Tensor, Tensor]:
    """The form with its λ, keys, and keys of the bare prompts, with earlier layers' changes in force."""
    keys, bare = (part.to(form.metric.second_moment) for part in keys_of(model, form.projection, asked, changes))
    return form.settled(keys), keys, bare


def _spread(
    model: PreTrainedModel,
    forms: Sequence[Form],
    asked: Sequence[Asked],
    values: Values,
    prompts: EditedPrompts,
    margin: float,
) -> Inserted:
    """MEMIT's spreading: each layer takes an equal share of what the stream behind the last one still lacks.

    Source: Meng et al., arXiv 2210.07229, section 4.3.
    """
    last = forms[-1].projection.layer
    wanted = states_of(model, last, asked) + values.step.double()
    changes: list[Change] = []
    used: list[Form] = []
    for index, unread in enumerate(forms):
        form, keys, bare = _read(model, unread, asked, changes)
        used.append(form)
        lacking = (wanted - states_of(model, last, asked, changes)) / (len(forms) - index)
        residuals = form.residuals(lacking, keys, bare)
        _refuse_unlike_keys(form, residuals)
        changes.append(Change(form.projection, form.update(residuals.T, keys)))
    found, scale = prompts.margins(changes), torch.ones(1)
    if len(asked) == 1 and forms[0].ridge == 0:
        scale, found = _settled(
            lambda tried: prompts.margins([change.scaled(float(tried)) for change in changes]), values, found, margin
        )
        changes = [change.scaled(float(scale)) for change in changes]
    scaled = residuals * scale.to(residuals)
    return Inserted(tuple(changes), tuple(used), scaled, form.gain(keys), found, prompts.passes)
