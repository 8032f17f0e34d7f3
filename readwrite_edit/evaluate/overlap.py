"""How much of what is evaluated had a part in choosing or training what is evaluated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

NGRAM = 13
MOST_SHARED = 0.01  # of a text that counts as kept apart
_LEAST_DISTINCT = 8

Tokens = Sequence[int]


def shared_fraction(
    evaluated: Iterable[Tokens],
    seen: Iterable[Tokens],
    *,
    special: Collection[int] = (),
    template: Tokens = (),
    n: int = NGRAM,
) -> float:
    """Share of a text's tokens that lie in an n-gram which the seen text has too.

    An n-gram lies within one message, and has eight distinct tokens or more:
    signs of a format that repeats itself are no content.

    Args:
        evaluated: Token ids.
        seen: Token ids of everything that a basis was chosen by or that was trained on.
        special: Ids that part messages.
        template: An empty chat; what stands in it, such as a system prompt, is no content.
        n: Tokens of an n-gram.

    Returns:
        In [0, 1]; 0 for messages shorter than n.

    Source: the n-gram test for contamination of arXiv 2005.14165, appendix C.
    """
    empty = {tuple(message) for message in _messages(template, special)}
    known = {gram for sequence in seen for message in _messages(sequence, special) for _, gram in _grams(message, n)}
    shared = total = 0
    for sequence in evaluated:
        total += len(sequence)
        for message in _messages(sequence, special):
            if tuple(message) not in empty:
                marked = {
                    place for start, gram in _grams(message, n) if gram in known for place in range(start, start + n)
                }
                shared += len(marked)
    return shared / total if total else 0.0


def _messages(sequence: Tokens, special: Collection[int]) -> Iterator[list[int]]:
    """What stands between special tokens."""
    message: list[int] = []
    for token in sequence:
        if token in special:
            yield message
            message = []
        else:
            message.append(token)
    yield message


def _grams(message: Sequence[int], n: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The n-grams that say something, with where they begin."""
    for start in range(len(message) - n + 1):
        gram = tuple(message[start : start + n])
        if len(set(gram)) >= min(_LEAST_DISTINCT, n):
            yield start, gram
