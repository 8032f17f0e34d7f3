"""A context of an edit whose model, tokenizer and statistics are at hand: nothing is read from the disk."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.interventions.forward import unedited
from readwrite_edit.job.session import Session
from readwrite_edit.models.pathways import Projection, find_pathways
from readwrite_edit.statistics import Moments, Statistics
from tests.tiny_models import TINY, tiny_tokenizer


class ReadyContext(Context):
    """Statistics are those of random tokens, collected when a site is first asked for."""

    def statistics(self, projections: Any) -> Statistics:
        for projection in projections:
            if projection.site not in self._sites:
                self._sites[projection.site] = Statistics({projection.site: self._moments(projection)}, 320)
        sites = {projection.site: self._sites[projection.site].sites[projection.site] for projection in projections}
        return Statistics(sites, 320)

    def _moments(self, projection: Projection) -> Moments:
        ids = torch.randint(5, 101, (8, 40), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            x = unedited(self.model, ids, [projection]).inputs[projection.module].double()
        return Moments(x.T @ x, x.mean(0), len(x), 0.0)


def ready_context(model: PreTrainedModel | str, **sections: Any) -> ReadyContext:
    """A context of one tiny model.

    Args:
        model: A model that the tiny tokenizer fits, or the name of a tiny one.
        **sections: Of the recipe, beside ``model``.
    """
    given = TINY[model]() if isinstance(model, str) else model
    context = ReadyContext(EditRecipe.model_validate({"model": {"path": "tiny"}, **sections}), Session())
    ready = {"model": given.requires_grad_(False), "tokenizer": tiny_tokenizer(), "pathways": find_pathways(given)}
    vars(context).update(ready)
    return context
