"""KL between the predictions of a model and of its edited self, without cancellation."""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST_SHIFT = 30.0


def kl_and_change(logits: Tensor, p: Tensor, log_p: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p ‖ q) and log q(target) − log p(target) of edited logits.

    With y = z_q − log p − E_p[z_q − log p], z_q the edited logits: KL = log E_p[e^y]
    = log(1 + E_p[e^y − 1 − y]). Every term of the last mean is at least 0, so a
    small KL is no difference of large numbers and never comes out negative; and
    the change is y(target) − KL.

    Args:
        logits: Of the edited model, shape (n, vocabulary), float32; overwritten.
        p: Base probabilities, shape (n, vocabulary).
        log_p: Their logarithms.
        targets: Token ids, shape (n,).

    Returns:
        Two of shape (n,), float32.
    """
    y = logits.sub_(log_p)
    y.sub_(torch.linalg.vecdot(p, y).unsqueeze(1))
    at_target = y.gather(1, targets.unsqueeze(1)).squeeze(1)
    if y.max() < _LARGEST_SHIFT:
        kl = torch.linalg.vecdot(p, torch.expm1(y).sub_(y).clamp_min_(0)).log1p()
    else:  # e^y would overflow; so large a KL needs no care for cancellation
        kl = y.add_(log_p).logsumexp(dim=1).clamp_min(0)
    return kl, at_target - kl
