"""Which layer to write into, as a causal trace names it, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from readwrite_edit.edit.locate.prompts import TracePrompt
from readwrite_edit.edit.locate.runs import ROLE_OF
from readwrite_edit.edit.locate.tables import layers_table
from readwrite_edit.edit.locate.trace import Trace, Traceable, trace

_MOST_PROMPTS, _RUNS = 8, 4
_STANDS_OUT = 2.0
_WINDOWS = 6
_WORDS = {"mlp": "MLP output", "attention": "attention output", "hidden": "hidden state"}


def choose_layer(context: Traceable, prompts: Sequence[TracePrompt], role: str) -> tuple[int, str]:
    """The layer whose output, put back at the subject's last token, restores most of the model's own prediction.

    Layers are ranked by how much of the whole prediction comes back, in nats of
    KL. The probability of its first choice alone will not do: where the model
    is unsure, noise often raises it, and there is nothing to restore.

    Outputs are put back in windows of a sixth of the layers, as ROME's are in
    windows of 10 of 48: what a single layer restores is hardly above its error,
    and of the first layer it is mostly the token itself, whose noise it undoes.

    At most 8 prompts are traced, evenly taken; with few prompts the noise is
    drawn more often.

    Args:
        context: The model and its pathways.
        prompts: About the subjects to edit; each without a target, so that what the model says now is followed.
        role: ``down_proj`` traces MLP outputs, ``o_proj`` attention outputs.

    Returns:
        The layer, and why in a sentence.

    Raises:
        DataError: No prompts.
        ModelError: The model has no such matrix, with the reason.
    """
    kind = next(kind for kind, its in ROLE_OF.items() if its == role)
    count = min(len(prompts), _MOST_PROMPTS)
    chosen = [prompts[index * len(prompts) // count] for index in range(count)]
    samples = -(-_RUNS // max(1, count))
    window = _odd(context.pathways.n_layers // _WINDOWS)
    found = trace(context, chosen, samples=samples, kinds=(kind,), window=window, last_subject_only=True)
    return verdict(found, layers_table(found), kind)


def verdict(trace: Trace, layers: pd.DataFrame, kind: str) -> tuple[int, str]:
    """The layer that restores most at the subject's last token, and a sentence with the numbers.

    Args:
        trace: The trace.
        layers: Its table ``layers``.
        kind: Whose output.
    """
    rows = layers[(layers["kind"] == kind) & (layers["place"] == "last_subject")]
    ranked = rows.sort_values("kl_effect", ascending=False)
    best, kl = ranked.iloc[0], sum(traced.kl for traced in trace.prompts) / len(trace.prompts)
    doubt = "" if _stands_out(best) else "no layer stands out (under twice the standard error); the largest effect: "
    second = f" (next: layer {ranked.iloc[1]['layer']}, {ranked.iloc[1]['kl_effect']:.2g})" if len(ranked) > 1 else ""
    basis = f"mean of {_counted(len(trace.prompts), 'prompt')}, {_counted(trace.samples, 'draw')} of noise each"
    put_back = f"{_WORDS[kind]}{_around(trace.window)} layer {best['layer']}, put back at the subject's last token,"
    return int(best["layer"]), (
        f"causal trace: {doubt}{put_back} {'restores' if trace.window == 1 else 'restore'} {best['kl_effect']:.2g}"
        f"{_error(best)} of the {kl:.2g} nats of KL by which noise on the subject moves the prediction, the most of "
        f"{_counted(len(rows), 'layer')}{second}; {basis}"
    )


def _odd(number: int) -> int:
    return max(1, number - (number + 1) % 2)


def _around(window: int) -> str:
    return " of" if window == 1 else f"s of the {window} layers around"


def _error(row: pd.Series) -> str:
    error = float(row["kl_standard_error"])
    return f" ± {error:.1g}" if math.isfinite(error) else ""


def _stands_out(row: pd.Series) -> bool:
    effect, error = float(row["kl_effect"]), float(row["kl_standard_error"])
    return effect > 0 and not effect < _STANDS_OUT * error


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
