"""Texts as sequences, mixtures of statistics, and the cache that keeps them by content."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from readwrite_edit.errors import DataError
from readwrite_edit.models.pathways import Projection, find_pathways
from readwrite_edit.statistics import (
    Moments,
    Statistics,
    StatisticsStore,
    cached,
    chat_sequences,
    collect_token_statistics,
    mix,
    prose_sequences,
    statistics_key,
    take_tokens,
)
from tests.tiny_models import TINY, tiny_tokenizer


def sequences() -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(3, 100) for _ in range(length)] for length in (9, 23, 14, 2, 17, 23, 5, 30, 11)]


class OpeningTokenizer:
    """Puts a token of its own before every text, as Llama's and Gemma's do."""

    bos_token_id = 1

    def __call__(self, text: str, add_special_tokens: bool = True, **_options: object) -> dict[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [ord(char) for char in text]}


def test_every_piece_of_a_text_begins_as_the_tokenizer_begins_texts() -> None:
    assert prose_sequences(["abcde", "f"], OpeningTokenizer(), max_length=3) == [
        [1, 97, 98],
        [1, 99, 100],
        [1, 101],
        [1, 102],
    ]  # type: ignore[arg-type]


def test_a_text_longer_than_the_model_reads_is_cut_and_no_news() -> None:
    tokenizer, text = tiny_tokenizer(), "the cat sat " * 200
    assert len(text) > tokenizer.model_max_length
    chats = chat_sequences([[{"role": "user", "content": text}]], tokenizer, max_length=20)
    assert [len(piece) for piece in (*chats, *prose_sequences([text], tokenizer, max_length=20)[:1])] == [20, 20]
    assert not tokenizer.deprecation_warnings, "transformers warns of a length here"


def test_a_sequence_without_room_for_text_is_refused() -> None:
    with pytest.raises(DataError):
        prose_sequences(["abcde"], OpeningTokenizer(), max_length=1)  # type: ignore[arg-type]


def test_taken_tokens_are_a_seeded_sample_of_whole_sequences() -> None:
    drawn = sequences()
    taken = take_tokens(drawn, 60, seed=3)
    assert sum(map(len, taken)) == 60 and taken == take_tokens(drawn, 60, seed=3) != take_tokens(drawn, 60)
    assert all(piece in drawn for piece in taken[:-1])
    assert any(sequence[: len(taken[-1])] == taken[-1] for sequence in drawn)
    assert sorted(take_tokens(drawn, 10**6)) == sorted(drawn)


def made(total: Tensor, count: int) -> Statistics:
    moments = Moments(total, torch.arange(2).double(), count, 0.25, {4: 0.5})
    return Statistics({"site": moments}, count)


def test_a_mix_weighs_second_moments_per_token() -> None:
    """(3·C₁ + 1·C₂)/4, however many tokens each text has."""
    first, second = made(torch.eye(2).double() * 10, 5), made(torch.ones(2, 2).double() * 800, 100)
    mixed = mix([(first, 3.0), (second, 1.0)])
    expected = (3 * torch.eye(2).double() * 2 + torch.ones(2, 2).double() * 8) / 4
    torch.testing.assert_close(mixed.second_moment("site"), expected)
    assert mixed.tokens == 105 and mixed.sites["site"].overlap == {}
    torch.testing.assert_close(mixed.sites["site"].mean, torch.arange(2).double())
    torch.testing.assert_close(mix([(first, 0.0), (second, 2.0)]).second_moment("site"), second.second_moment("site"))


def test_a_mix_that_means_nothing_is_refused() -> None:
    first = made(torch.eye(2), 5)
    other = Statistics({"another": first.sites["site"]}, 5)
    for parts in ([], [(first, 0.0)], [(first, 2.0), (first, -1.0)], [(first, math.nan)], [(first, 1.0), (other, 1.0)]):
        with pytest.raises(DataError):
            mix(parts)


def test_a_site_that_was_not_collected_is_named() -> None:
    with pytest.raises(DataError, match=r"'elsewhere'.*site"):
        made(torch.eye(2), 5).second_moment("elsewhere")


def assert_same(found: Statistics | None, expected: Statistics) -> None:
    assert found is not None and sorted(found.sites) == sorted(expected.sites)
    assert (found.tokens, found.centred) == (expected.tokens, expected.centred)
    for site, moments in expected.sites.items():
        again = found.sites[site]
        assert torch.equal(again.total, moments.total) and torch.equal(again.mean, moments.mean)
        assert again.total.dtype == moments.total.dtype and again.count == moments.count
        assert again.overlap == moments.overlap
        assert repr(again.first_position_share) == repr(moments.first_position_share)


@pytest.mark.parametrize("options", [{}, {"first_position": False}, {"centred": True}])
def test_stored_statistics_come_back_bit_for_bit(tmp_path: Path, options: dict) -> None:
    model, store = TINY["llama"](), StatisticsStore(tmp_path / "cache")
    projections = find_pathways(model).select(["q_proj", "o_proj"])
    found = collect_token_statistics(model, sequences(), projections, batch_size=4, **options)
    store.save("key", found)
    assert_same(store.load("key", centred=found.centred), found)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key.safetensors"]


def test_a_set_of_sites_collects_only_what_an_earlier_one_lacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, said, asked = TINY["llama"](), [], []
    monkeypatch.setattr(cached, "collect_token_statistics", lambda *given, **how: (
        asked.append([one.site for one in given[2]]), collect_token_statistics(*given, **how)
    )[1])  # fmt: skip
    down = find_pathways(model).select(["down_proj"])

    def found(projections: list[Projection], **how: bool) -> Statistics:
        kept = {"store": StatisticsStore(tmp_path), "weights_hash": "w", "title": "text", "rank": 4, "batch_size": 4}
        return cached.cached_statistics(model, sequences(), projections, **kept, **how, say=said.append)

    first, both = found([down[1]]), found([*down, down[0]])
    assert_same(both, collect_token_statistics(model, sequences(), down, batch_size=4))
    assert_same(found([down[1]], centred=True), Statistics(first.sites, first.tokens, True))
    assert list(both.sites) == [one.site for one in down] and both.tokens == first.tokens
    assert asked == [[down[1].site], [down[0].site, down[0].site]]
    origins = ["1 sites, collected", "2 sites, 1 of them from the cache", "1 sites, from the cache"]
    assert all(origin in line for origin, line in zip(origins, said, strict=True))


def test_a_stored_file_that_was_damaged_counts_as_absent(tmp_path: Path) -> None:
    store = StatisticsStore(tmp_path)
    assert store.load("key") is None
    store.save("key", made(torch.eye(2).double(), 5))
    whole = store.path("key").read_bytes()
    for damaged in (b"", whole[:7], whole[: len(whole) // 2], whole[:-1], whole.replace(b"total", b"totel"), b"x" * 99):
        store.path("key").write_bytes(damaged)
        assert store.load("key") is None
    store.path("key").write_bytes(whole)
    assert store.load("key") is not None


@pytest.mark.parametrize(
    "meta", [None, "{", '{"sites": {}}', '{"tokens": 5, "sites": []}', '{"tokens": 5, "sites": {"site": {}}}', "[]"]
)
def test_a_stored_file_with_another_header_counts_as_absent(tmp_path: Path, meta: str | None) -> None:
    store = StatisticsStore(tmp_path)
    tensors = {"site.total": torch.eye(2), "site.mean": torch.zeros(2)}
    save_file(tensors, store.path("key"), metadata=None if meta is None else {"statistics": meta})
    assert store.load("key") is None


def test_the_key_changes_with_everything_that_the_numbers_depend_on() -> None:
    def key(weights="w", sequences=((1, 2), (3,)), sites=("a", "b"), first_position=True, dtype="float32") -> str:
        return statistics_key(weights, sequences, sites, first_position=first_position, dtype=dtype)

    variants = [
        key(),
        key(weights="v"),
        key(sequences=((1,), (2, 3))),
        key(sequences=((1, 2, 3),)),
        key(sequences=((1, 2), (4,))),
        key(sites=("a",)),
        key(first_position=False),
        key(dtype="bfloat16"),
    ]
    assert len(set(variants)) == len(variants)
    assert key(sites=("b", "a", "b")) == key() and len(key()) == 64
