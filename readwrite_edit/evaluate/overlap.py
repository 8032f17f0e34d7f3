"""How much of what is evaluated had a part in choosing or training what is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

NGRAM = 13


def shared_fraction(evaluated: Sequence[Sequence[int]], seen: Iterable[Sequence[int]], *, n: int = NGRAM) -> float:
    """Share of a text's tokens that lie in an n-gram which the seen text has too.

    What all evaluated sequences begin with (a chat template's system prompt) is
    no content and does not count.

    Args:
        evaluated: Token ids.
        seen: Token ids of everything that a basis was chosen by or that was trained on.
        n: Tokens of an n-gram.

    Returns:
        In [0, 1]; 0 for sequences shorter than n.

    Source: the n-gram test for contamination of arXiv 2005.14165, appendix C.
    """
    known = {tuple(sequence[i : i + n]) for sequence in seen for i in range(len(sequence) - n + 1)}
    opening = _common_opening(evaluated) if len(evaluated) > 1 else 0
    shared = total = 0
    for sequence in (list(one)[opening:] for one in evaluated):
        marked: set[int] = set()
        for start in range(len(sequence) - n + 1):
            if tuple(sequence[start : start + n]) in known:
                marked.update(range(start, start + n))
        shared += len(marked)
        total += len(sequence)
    return shared / total if total else 0.0


def _common_opening(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with."""
    together = zip(*sequences, strict=False)  # as far as the shortest goes
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, together))
