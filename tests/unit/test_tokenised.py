"""Token ids are TRL's own, nothing is dropped in silence, and a sample shows its loss mask."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedTokenizerFast

from readwrite_edit.align.preference_rows import preference_row
from readwrite_edit.align.preferences import load_preferences
from readwrite_edit.align.tokenised import Dropped, pair_sequences, render_sample, tokenise_pairs
from readwrite_edit.align.trl_names import DataCollatorForPreference, DPOConfig, DPOTrainer
from readwrite_edit.errors import DataError
from readwrite_edit.recipe.sections import Data
from tests.tiny_models import TINY, tiny_tokenizer

Row = dict[str, Any]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


def chats() -> list[Row]:
    return load_preferences(Data(path="builtin:concise")).train[:12]


def texts() -> list[Row]:
    rows = [{key: value[0]["content"] for key, value in row.items()} for row in chats()]
    return [*rows, {"prompt": "closed", "chosen": "yes<|im_end|>", "rejected": "no"}]


def trl_rows(rows: list[Row], tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int | None) -> list[Row]:
    arguments = DPOConfig(output_dir=str(folder), max_length=max_length, report_to="none", use_cpu=True)
    trainer = DPOTrainer(
        TINY["llama"](),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(target_modules=["q_proj"]),
    )
    keys = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [{key: row[key] for key in keys} for row in trainer.train_dataset]


@pytest.mark.parametrize("make", [chats, texts])
def test_ids_equal_those_of_a_real_trainer(make: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    whole = tokenise_pairs(make(), tokenizer, max_length=None)
    assert whole.rows == trl_rows(make(), tokenizer, tmp_path, None)
    assert (len(whole.rows), whole.dropped, whole.truncated) == (len(make()), (), 0)
    middle = sorted(len(row["prompt_ids"]) for row in whole.rows)[len(whole.rows) // 2]
    shorter = tokenise_pairs(make(), tokenizer, max_length=middle)
    assert shorter.rows == trl_rows(make(), tokenizer, tmp_path, middle)
    assert shorter.dropped and len(shorter.rows) + len(shorter.dropped) == len(whole.rows)


@pytest.mark.parametrize("make", [chats, texts])
def test_ids_of_implicit_prompts_equal_trl_s(make: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    implicit = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in make()]
    extracted = [preference_row(row) for row in implicit]
    assert tokenise_pairs(extracted, tokenizer, max_length=None).rows == trl_rows(implicit, tokenizer, tmp_path, None)


def test_the_rows_given_are_left_as_they_were(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = texts()
    before = copy.deepcopy(rows)
    tokenise_pairs(rows, tokenizer, max_length=None)
    assert rows == before


def test_a_prompt_that_fills_the_length_is_dropped_with_its_reason(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [{"prompt": "p" * length, "chosen": "yes", "rejected": "no"} for length in (3, 16, 19, 20, 21)]
    pairs = tokenise_pairs(rows, tokenizer, max_length=20)
    assert [len(row["prompt_ids"]) for row in pairs.rows] == [3, 16, 19]
    assert pairs.dropped == (
        Dropped(3, "prompt fills max_length (20 tokens, expected less than 20)"),
        Dropped(4, "prompt fills max_length (21 tokens, expected less than 20)"),
    )
    # "yes" and the end token: 16 + 4 fit, 19 + 4 do not; rows are counted, and cut by the collator only.
    assert pairs.truncated == 1
    assert len(pairs.rows[2]["chosen_ids"]) == 4


def test_keep_end_keeps_long_prompts(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [{"prompt": "p" * 30, "chosen": "yes", "rejected": "no"}]
    pairs = tokenise_pairs(rows, tokenizer, max_length=20, truncation_mode="keep_end")
    assert (len(pairs.rows), pairs.dropped, pairs.truncated) == (1, (), 1)


def test_an_answer_without_tokens_is_dropped(tokenizer: PreTrainedTokenizerFast) -> None:
    silent = copy.deepcopy(tokenizer)
    silent.chat_template = "{% for m in messages %}{% if m.content != 'hush' %}{{ m.content }}{% endif %}{% endfor %}"
    rows = [
        {
            "prompt": [{"role": "user", "content": "hi"}],
            "chosen": [{"role": "assistant", "content": "hello"}],
            "rejected": [{"role": "assistant", "content": answer}],
        }
        for answer in ("hush", "no")
    ]
    pairs = tokenise_pairs(rows, silent, max_length=None)
    assert pairs.dropped == (Dropped(0, "rejected answer has no tokens"),)
    assert len(pairs.rows) == 1


def test_no_row_left_says_why_and_what_to_do(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [{"prompt": "p" * 30, "chosen": "yes", "rejected": "no"}]
    with pytest.raises(DataError, match=r"no row is left of 1: .*30 tokens.*raise train\.max_length"):
        tokenise_pairs(rows, tokenizer, max_length=20)
    assert tokenise_pairs([], tokenizer, max_length=20).rows == []


def test_chats_need_a_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(DataError, match="no chat template; use an instruction-tuned model"):
        tokenise_pairs(chats(), bare, max_length=None)
    assert tokenise_pairs(texts(), bare, max_length=None).rows


def test_texts_need_an_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(DataError, match="no end-of-text token"):
        tokenise_pairs(texts(), endless, max_length=None)


def test_a_template_that_refuses_a_row_names_its_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('no\nsystem role') if messages[0].role == 'system' else 'ok' }}"
    rows = chats()
    rows[3]["prompt"] = [{"role": "system", "content": "x"}, {"role": "user", "content": "why\x1b[2J?"}]
    with pytest.raises(DataError) as raised:
        tokenise_pairs(rows, strict, max_length=None)
    assert str(raised.value) == r"the row with the prompt 'why\x1b[2J?': the chat template refuses it (no)"


def test_long_rows_give_no_false_alarm(tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    fresh = tiny_tokenizer()
    rows = [{"prompt": "p", "chosen": "y" * 400, "rejected": "no"}]
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        tokenise_pairs(rows, fresh, max_length=20)
    finally:
        logger.removeHandler(caplog.handler)
    assert "indexing errors" not in caplog.text


def test_pair_sequences_are_both_sides_cut() -> None:
    rows = [{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5, 6]}]
    assert pair_sequences(rows, 4) == [[1, 2, 3], [1, 2, 4, 5]]
    assert pair_sequences(rows, None) == [[1, 2, 3], [1, 2, 4, 5, 6]]


@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
@pytest.mark.parametrize("max_length", [None, 8, 12, 100])
def test_a_sample_shows_what_the_collator_gives_a_loss(
    mode: Any, max_length: int | None, tokenizer: PreTrainedTokenizerFast
) -> None:
    row = tokenise_pairs([{"prompt": "prompt", "chosen": "chosen", "rejected": "no"}], tokenizer, max_length=None).rows[
        0
    ]
    batch = DataCollatorForPreference(pad_token_id=0, max_length=max_length, truncation_mode=mode)([row])
    shown = render_sample(row, tokenizer, max_length, mode).split("\n")
    for side, lines in enumerate((shown[:2], shown[2:])):
        mask = batch["completion_mask"][side].bool()
        context = batch["input_ids"][side][batch["attention_mask"][side].bool() & ~mask]
        with_loss = [tokenizer.decode([token]) for token in batch["input_ids"][side][mask].tolist()]
        assert lines[1] == f"{tokenizer.decode(context)}⟦{'│'.join(with_loss)}⟧"
        assert f"{len(context)} prompt tokens, then {len(with_loss)} with a loss" in lines[0]
        assert ("cut off" in lines[0]) == (max_length is not None and max_length < (13 if side == 0 else 9))


def test_a_sample_is_safe_to_print(tokenizer: PreTrainedTokenizerFast) -> None:
    class Loud:
        def decode(self, ids: list[int], **_: Any) -> str:
            return "".join({1: "\x1b[31m", 2: "a\nb", 3: "\u202e"}[token] for token in ids)

    shown = render_sample({"prompt_ids": [1, 2], "chosen_ids": [1, 2], "rejected_ids": [3]}, Loud(), None)  # type: ignore[arg-type]
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "\\x1b[31ma\nb⟦\\x1b[31m│a↵b⟧" in shown
