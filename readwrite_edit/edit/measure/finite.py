"""What can not be measured because the edited model puts out no numbers."""

from __future__ import annotations

import math

from readwrite_edit.edit.assembly import ASK_LESS
from readwrite_edit.errors import RunError


def require_finite(value: float, where: str) -> None:
    """Refuse to go on with an edit that has broken the model.

    Args:
        value: KL to the base, or the edit's effect: finite wherever both models' outputs are.
        where: On which text or prompt.

    Raises:
        RunError: It is not finite.
    """
    if not math.isfinite(value):
        raise RunError(
            f"with this edit the model's outputs are NaN or infinite {where}: it is not certified and not entered; "
            f"{ASK_LESS}"
        )
