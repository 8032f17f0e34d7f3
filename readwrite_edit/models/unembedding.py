"""The unembedding of a model as the residual stream sees it, for the prediction subspace and single tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from readwrite_edit.geometry import prediction_basis
from readwrite_edit.models.pathways import Pathways, unwrap


def model_prediction_basis(model: nn.Module, pathways: Pathways, k: int, *, centred: bool = True) -> Tensor:
    """Prediction subspace V_k of a model, the final norm's gain folded in.

    Args:
        model: The model, wrapped by PEFT or not.
        pathways: Of the model.
        k: Number of columns.
        centred: Take the mean over the vocabulary out.

    Returns:
        Orthonormal columns, shape (d_model, k), float64.
    """
    bare = unwrap(model)
    weight = _weight(bare.get_submodule(pathways.unembedding))
    if pathways.output_projection is not None:
        weight = weight @ _weight(bare.get_submodule(pathways.output_projection))
    return prediction_basis(weight, k, final_gain(bare, pathways), centred=centred)


def token_direction(model: nn.Module, pathways: Pathways, token: int) -> Tensor:
    """Unit direction of the residual stream that raises one token's logit above the mean logit.

    Computes g ⊙ (w_t − w̄), g the final norm's gain, normalised.

    Args:
        model: Bare model.
        pathways: Of the model.
        token: Its id.

    Returns:
        Shape (d_model,), float64.
    """
    rows = _weight(model.get_submodule(pathways.unembedding))
    direction = rows[token].double() - rows.mean(dim=0, dtype=torch.float64)
    if pathways.output_projection is not None:
        direction = direction @ _weight(model.get_submodule(pathways.output_projection)).double()
    gain = final_gain(model, pathways)
    scaled = direction if gain is None else direction * gain.double()
    return torch.nn.functional.normalize(scaled, dim=0).cpu()


def _weight(module: nn.Module) -> Tensor:
    weight: Any = module.weight
    return weight.detach()


def final_gain(model: nn.Module, pathways: Pathways) -> Tensor | None:
    """Factor of the final norm on each residual dimension, shape (d_model,), or None without one."""
    norm = None if pathways.final_norm is None else unwrap(model).get_submodule(pathways.final_norm)
    weight = getattr(norm, "weight", None)
    return None if weight is None else weight.detach().float() + pathways.norm_gain_offset
