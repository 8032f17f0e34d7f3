"""Prompts from the subject's last token on: what a value at that token does to what follows.

A value is added to a matrix' output at one token, so nothing before that token
changes, and no layer below the matrix. Both are computed once: earlier tokens
are kept as keys and values of attention, earlier layers as the state that enters
the edited one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from readwrite_edit.edit.associate.questions import Question
from readwrite_edit.edit.passes import padded
from readwrite_edit.interventions.forward import layers_of, starting_at
from readwrite_edit.models.early_end import EnoughError, until_enough
from readwrite_edit.models.language_head import LanguageModelHead, language_model_head
from readwrite_edit.models.pathways import Projection

_TOKENS, _ROWS = 1024, 192


@dataclass(frozen=True, eq=False)
class Reading:
    """Logits behind prompts with a value added, and the way back to the value.

    Attributes:
        logits: At each target token, shape (tokens, vocabulary), float32.
        owners: Row that each of them belongs to, shape (tokens,).
        tokens: The target tokens, shape (tokens,).
    """

    logits: Tensor
    owners: Tensor
    tokens: Tensor
    _hidden: Tensor
    _value: Tensor
    _head: LanguageModelHead

    def pull(self, gradient: Tensor) -> Tensor:
        """Carry a gradient at the logits back to the value: a vector-Jacobian product, (tokens, vocabulary) → (n, d).

        The step at the head is written out: its logits need not be kept for it.
        """
        at_head = self._head.before_scaling(gradient, self.logits) @ self._head.weight.detach()
        (found,) = torch.autograd.grad(self._hidden, self._value, at_head.to(self._hidden.dtype))
        return found


class Continuations:
    """Prompts whose subjects end at the same position, each with its target behind it.

    Args:
        model: Bare model; its weights want no gradient.
        projection: The matrix that is to write the value.
        questions: Prompts with targets.
        whole: Compute every token instead of those from the subject's last on (for edits that act on all of them).

    Attributes:
        output: What the matrix writes at the subject's last token, shape (rows, d_out); empty with ``whole``.
    """

    def __init__(
        self, model: PreTrainedModel, projection: Projection, questions: Sequence[Question], *, whole: bool = False
    ) -> None:
        self._model, self._module = model, model.get_submodule(projection.module)
        self._layer, self._head = projection.layer, language_model_head(model)
        self._start = 0 if whole else questions[0].subject[1]
        ids = padded([(*one.ids, *one.target[:-1]) for one in questions]).to(model.device)
        lengths = torch.tensor([len(one.target) for one in questions])
        self._owners = torch.arange(len(questions)).repeat_interleave(lengths).to(model.device)
        firsts = [len(one.ids) - 1 - self._start for one in questions]
        places = [first + i for first, one in zip(firsts, questions, strict=True) for i in range(len(one.target))]
        self._places = torch.tensor(places, device=model.device)
        self._tokens = torch.tensor([token for one in questions for token in one.target], device=model.device)
        self._ids, self._cache = ids[:, self._start :], DynamicCache(config=model.config)
        with torch.no_grad():
            if self._start:
                model.base_model(input_ids=ids[:, : self._start], past_key_values=self._cache, use_cache=True)
            self._observe()

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, value: Tensor | None, rows: Tensor | None = None) -> Reading:
        """Run some rows with a value added, keeping the way back.

        Args:
            value: What the matrix writes more at the subject's last token, shape (n, d_out).
            rows: Which rows, shape (n,); None for all.
        """
        chosen = torch.arange(len(self), device=self._ids.device) if rows is None else rows
        given = None if value is None else value.detach().float().requires_grad_(True)
        hidden = self._hidden(given, chosen, keep=True)
        owners, places, tokens = self._targets(chosen)
        picked = hidden[owners, places]
        with torch.no_grad():
            logits = self._head.logits(picked)
        return Reading(logits, owners, tokens, picked, given if given is not None else picked, self._head)

    def margins(self, value: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Least lead of the target's logit over the runner-up, over the target's tokens; nats, shape (n,)."""
        with torch.no_grad():
            return margins(self.read(value, rows), len(self) if rows is None else len(rows))

    def _observe(self) -> None:
        """Keep the state that enters the layer and what the matrix writes, and end the pass there."""
        seen: dict[str, Any] = {}

        def entering(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen["state"] = given[0] if given else named["hidden_states"]

        def below(_module: nn.Module, _given: Any, returned: Any) -> None:
            seen["tuple"] = isinstance(returned, tuple)

        def writing(_module: nn.Module, _given: Any, output: Tensor) -> None:
            seen["output"] = output.reshape(len(self), -1, output.shape[-1])[:, 0].float()
            raise EnoughError

        with ExitStack() as hooks:
            layers = layers_of(self._model)
            hooks.callback(layers[self._layer].register_forward_pre_hook(entering, with_kwargs=True).remove)
            if self._layer:
                hooks.callback(layers[self._layer - 1].register_forward_hook(below).remove)
            hooks.callback(self._module.register_forward_hook(writing).remove)
            hooks.enter_context(until_enough())
            self._pass(self._ids, self._cached(None))
        self._state, self.output = seen["state"], seen["output"]
        self._as_tuple = seen.get("tuple", False)  # of no meaning where no layer lies below

    def _hidden(self, value: Tensor | None, rows: Tensor, *, keep: bool) -> Tensor:
        """Final hidden states, (n, time, d_model)."""
        everything = len(rows) == len(self)
        ids, state = (self._ids, self._state) if everything else (self._ids[rows], self._state[rows])
        with (
            torch.set_grad_enabled(keep and value is not None and torch.is_grad_enabled()),
            self._adding(value),
            starting_at(self._model, self._layer, state, as_tuple=self._as_tuple),
        ):
            return self._pass(ids, self._cached(None if everything else rows))

    def _pass(self, ids: Tensor, cache: DynamicCache) -> Tensor:
        output: Tensor = self._model.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        return output

    @contextmanager
    def _adding(self, value: Tensor | None) -> Iterator[None]:
        """Let the matrix write a value more at the first token of each row."""
        if value is None:
            yield
            return

        def hook(_module: nn.Module, _given: Any, output: Tensor) -> Tensor:
            rows = output.reshape(len(value), -1, output.shape[-1])
            first = rows[:, :1] + value.to(output.dtype).unsqueeze(1)
            return torch.cat([first, rows[:, 1:]], dim=1).reshape(output.shape)

        handle = self._module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _cached(self, rows: Tensor | None) -> DynamicCache:
        """A cache of its own for each pass: passes add to what they are given, and never write into it."""
        cache = copy.copy(self._cache)
        cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        if rows is not None and self._start:
            layers: list[Any] = cache.layers
            for layer in layers:
                layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        return cache

    def _targets(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Row (counted within ``rows``), place and token of every target token of the rows."""
        if len(rows) == len(self):
            return self._owners, self._places, self._tokens
        slots = torch.full((len(self),), -1, device=rows.device)
        slots[rows] = torch.arange(len(rows), device=rows.device)
        owners = slots[self._owners]
        kept = owners >= 0
        return owners[kept], self._places[kept], self._tokens[kept]


def margins(reading: Reading, count: int) -> Tensor:
    """Least lead of the target's logit over the runner-up of each row, shape (count,)."""
    own = reading.logits.gather(1, reading.tokens.unsqueeze(1)).squeeze(1)
    top = reading.logits.topk(2, dim=1)
    rival = torch.where(top.indices[:, 0] == reading.tokens, top.values[:, 1], top.values[:, 0])
    found = torch.full((count,), float("inf"), device=own.device)
    return found.scatter_reduce(0, reading.owners, own - rival, "amin")


def batches(questions: Sequence[Question], *, whole: bool = False) -> list[list[int]]:
    """Indices of questions to compute together: their subjects end at one position (but for ``whole``)."""
    lengths = [len(one.ids) + len(one.target) - 1 - (0 if whole else one.subject[1]) for one in questions]
    starts = [0 if whole else one.subject[1] for one in questions]
    groups: list[list[int]] = []
    for index in sorted(range(len(questions)), key=lambda i: (starts[i], lengths[i])):
        group = groups[-1] if groups else []
        if group and starts[group[0]] == starts[index] and len(group) < _ROWS:
            if (len(group) + 1) * lengths[index] <= _TOKENS:
                group.append(index)
                continue
        groups.append([index])
    return groups
