"""What is tokenised before a run, and that no text is both chosen by and measured on."""

import json

from readwrite_edit.align.prepare import prepare
from tests.small_runs import WORDS, as_recipe, preference_rows, small_recipe


def test_a_part_of_a_protected_text_is_kept_back_for_measuring(tmp_path):
    documents = [" ".join(WORDS[(index + shift) % len(WORDS)] for shift in range(40)) for index in range(19)]
    (tmp_path / "own.txt").write_text("\n\n".join(documents))
    protect = [{"path": str(tmp_path / "own.txt"), "tokens": 400}, "builtin:prose"]
    recipe = as_recipe(small_recipe(tmp_path, calibration={"protect": protect, "max_length": 40}))
    prepared = prepare(recipe)
    assert set(prepared.protect) == {"own", "prose"} and set(prepared.texts) == {"own", "prose", "chat"}
    used = {tuple(sequence) for sequence in prepared.protect["own"][1]}
    measured = {tuple(sequence) for sequence in prepared.texts["own"]}
    assert used and measured and not used & measured
    assert sum(map(len, used)) >= 2 * sum(map(len, measured))


def test_held_out_rows_are_not_calibrated_on(tmp_path):
    prepared = prepare(as_recipe(small_recipe(tmp_path)))
    held_out = {tuple(row["prompt_ids"] + row["chosen_ids"]) for row in prepared.held_out.rows}
    assert held_out and not held_out & {tuple(sequence) for sequence in prepared.calibration}


def test_dropped_rows_are_counted_by_reason_once(tmp_path):
    sections = small_recipe(tmp_path, train={"max_length": 48}, data={"eval_rows": 2})
    rows = preference_rows(20)
    for index, row in enumerate(rows[:6]):
        row["prompt"][0]["content"] += " cat" * (30 + index)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(as_recipe(sections))
    dropped = len(prepared.train.dropped) + len(prepared.held_out.dropped)
    notes = [note for note in prepared.notes if "dropped" in note]
    assert dropped == 6 and 1 <= len(notes) <= 2 and all("the first:" in note for note in notes)
    assert sum(int(note.split()[0]) for note in notes) == 6


def test_texts_are_measured_in_sequences_of_their_own_length(tmp_path):
    """Shorter than those that choose the basis: more sequences, and narrower intervals, from as many tokens."""
    sections = small_recipe(tmp_path, evaluation={"tokens": 100, "max_length": 20}, calibration={"max_length": 50})
    prepared = prepare(as_recipe(sections))
    assert prepared.texts and max(map(len, prepared.calibration)) > 20
    for sequences in prepared.texts.values():
        assert max(map(len, sequences)) == 20 and len(sequences) >= 5
