"""From a recipe's words to an edit of attention, with what it does to every score it is about."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from readwrite_edit.edit.attend.effect import AttentionEffect, moved_attention
from readwrite_edit.edit.attend.pairs import Pairs, find_pairs
from readwrite_edit.edit.attend.sequences import Sequences
from readwrite_edit.edit.attend.solve import Solved, solve_output
from readwrite_edit.edit.attend.tables import scores_table, without_table
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.gate import Gate, gate_at
from readwrite_edit.edit.patterns import check_lengths, prompts_of, tokenised
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.settings.attend import Attend
from readwrite_edit.errors import EditError
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import Pathways, Projection


def plan_attend(context: Context) -> Plan:
    """Raise or lower the score of a query pattern for a key pattern, by rank 1 on W_Q or W_K.

    ΔW = r aᵀ with a the gate of the edited side's pattern (:func:`gate_at`), so
    that ΔW x is r at the pattern, and r in the blocks of the edited heads, as
    short as can be with the mean score over the prompts changed as wanted. The
    scores' derivative by the matrix' output comes from the model's own code, so
    that rotary embeddings, scaling, shared key heads and norms are what they are.

    Args:
        context: Of a recipe with the section ``attend``.

    Returns:
        The edit; tables ``scores`` and, where there are such prompts, ``without``.

    Raises:
        EditError: A pattern is missing, the key does not come before the query, a head does not exist, the pair is
            masked in this layer, or the change is out of reach.
        ModelError: The layer does not exist or has no such matrix.
    """
    options = cast(Attend, context.recipe.intervention)
    heads = _heads(options, context.pathways)
    if options.change == 0:
        raise EditError("change 0: nothing would change; expected a positive or a negative number")
    pairs = find_pairs(context, options)
    gate = gate_at(pairs.inputs, context.metric(pairs.projection))
    solved = _solve(pairs, gate, heads, context.pathways, options.change)
    change = _change(pairs.projection, gate, solved.writes)
    return _plan(context, options, pairs, gate, solved, change, heads)


def _heads(options: Attend, pathways: Pathways) -> list[int]:
    if options.head is None:
        return list(range(pathways.n_heads))
    if options.head >= pathways.n_heads:
        raise EditError(f"head {options.head}: {pathways.model_type} here has query heads 0 to {pathways.n_heads - 1}")
    return [options.head]


def _solve(pairs: Pairs, gate: Gate, heads: list[int], pathways: Pathways, change: float) -> Solved:
    open_by = gate.at(pairs.inputs)  # (prompts,), mean 1

    def read(writes: Tensor) -> tuple[Tensor, Tensor]:
        variant = (_change(pairs.projection, gate, writes),)
        scores, slopes = pairs.sequences.slopes(variant, pairs.rows, pairs.keys, heads, at=pairs.edited)
        return scores.mean(dim=0), (open_by[:, None, None] * slopes).mean(dim=0)

    size = pairs.projection.d_out
    blocks = _blocks(pairs.projection, pathways, heads)
    return solve_output(read, size, blocks, change, rounding=pairs.rounding)


def _blocks(projection: Projection, pathways: Pathways, heads: list[int]) -> dict[range, list[int]]:
    """Rows of each block that is written, to the places in ``heads`` of the heads that read it."""
    shared = 1 if projection.role == "q_proj" else pathways.n_heads // pathways.n_kv_heads
    blocks: dict[range, list[int]] = {}
    for place, head in enumerate(heads):
        start = head // shared * pathways.d_head
        blocks.setdefault(range(start, start + pathways.d_head), []).append(place)
    return blocks


def _change(projection: Projection, gate: Gate, writes: Tensor) -> Change:
    return Change(projection, LowRank(writes.unsqueeze(1), gate.reads.unsqueeze(0)))


def _plan(
    context: Context, options: Attend, pairs: Pairs, gate: Gate, solved: Solved, change: Change, heads: list[int]
) -> Plan:
    scores, weights = pairs.scores(change)
    shared = context.pathways.n_heads // context.pathways.n_kv_heads
    table = scores_table(pairs, scores, weights, gate, heads=heads, shared=shared, wanted=options.change)
    without = tokenised(options.without, context.tokenizer, format=options.format)
    check_lengths(without, context.model)
    tables, figures = {"scores": table}, _figures(scores, weights, heads, solved, gate)
    if without:
        elsewhere = Sequences(context.model, [one.ids for one in without], pairs.projection)
        moved = moved_attention(elsewhere, (change,), heads)
        tables["without"] = without_table(without, elsewhere, moved, gate)
        figures["without_moved"] = float(moved[0].mean())
    effect = AttentionEffect(
        pairs.sequences,
        rows=pairs.rows,
        keys=pairs.keys,
        heads=heads,
        change=options.change,
        observations=[one.shown for one in pairs.tokens],
        per_pass=context.recipe.controls.per_pass,
    )
    return Plan(
        changes=(change,),
        why=f"layer {options.layer}, {options.module}, {_named(heads, options)}: as asked",
        title=f"attention from {options.query!r} to {options.key!r} {options.change:+g}",
        prompts=prompts_of(pairs.tokens, "prompt") + prompts_of(without, "locality"),
        effect=effect,
        tables=tables,
        figures=figures,
        notes=_notes(options, solved, scores, heads, shared),
    )


def _named(heads: list[int], options: Attend) -> str:
    return f"all {len(heads)} heads" if options.head is None else f"head {options.head}"


def _figures(scores: Tensor, weights: Tensor, heads: list[int], solved: Solved, gate: Gate) -> dict[str, float]:
    own, shares = scores[:, :, heads], weights[:, :, heads].mean(dim=(1, 2))
    return {
        "score_change": float((own[1] - own[0]).mean()),
        "weight_before": float(shares[0]),
        "weight_after": float(shares[1]),
        "usual_gate": gate.usual,
        "output_length": float(solved.writes.norm()),
        "newton_steps": float(solved.steps),
    }


def _notes(options: Attend, solved: Solved, scores: Tensor, heads: list[int], shared: int) -> tuple[str, ...]:
    notes = []
    moved = (scores[1] - scores[0]).mean(dim=0)  # (heads,)
    others = [
        head
        for head in range(len(moved))
        if head not in heads and float(moved[head].abs()) > 1e-3 * abs(options.change)
    ]
    if others:
        why = (
            f"a key head here serves {shared} query heads, and k_proj changes it for all of them"
            if options.module == "k_proj" and shared > 1
            else "the norm of this architecture runs over all heads at once"
        )
        listed = ", ".join(f"{head} by {float(moved[head]):+.2g}" for head in others)
        notes.append(f"the scores of other query heads change too ({listed}): {why}")
    if solved.steps > 1:
        notes.append(
            f"scores are not linear in this matrix' output (norms of queries and keys, or a softcap): solved in "
            f"{solved.steps} steps at these prompts, and half the edit is not half the change"
        )
    if len(scores[0]) > 1:
        notes.append("the mean over the prompts changes as wanted; the table 'scores' has each prompt's own change")
    return tuple(notes)
