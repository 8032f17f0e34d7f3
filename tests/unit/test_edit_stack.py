"""Several edits as one adapter: ranks, recompression, interference and what the facts become."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from readwrite_edit.edit.assembly import assembled
from readwrite_edit.edit.files import attach, detach, save_edit
from readwrite_edit.edit.ledger import Entry, Ledger, open_ledger
from readwrite_edit.edit.ledger.entries import utc_now
from readwrite_edit.edit.overlaps import interference_table, overlap
from readwrite_edit.edit.stack import Loaded, measured_facts, recompressed, stack
from readwrite_edit.errors import EditError
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.pathways import find_pathways
from readwrite_edit.runs.folder import RunFolder
from tests.small_edits import a_base, contents, dense, random_change, random_changes, with_papers
from tests.small_runs import write_model
from tests.tiny_models import TINY, tiny_tokenizer

FACTS = {
    "first": {"prompt": "the {} sat on", "subject": "cat", "target": " mat"},
    "second": {"prompt": "the dog ran to", "subject": "dog", "target": "a house"},
}


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_recompression_is_the_best_of_its_rank_and_its_error_is_true(name: str) -> None:
    """Against the SVD of the dense update of each module."""
    model = TINY[name]()
    pathways = find_pathways(model)
    read = pathways.select(["q_proj", "k_proj"], [0])
    changes = [random_change(one, 3, seed=seed, bias=True) for one in read for seed in range(2)]
    result = recompressed(model, changes, 4)
    lost = total = 0.0
    for before, after in zip(assembled(model, changes), assembled(model, result.changes), strict=True):
        whole = before.B @ before.A
        singular = torch.linalg.svdvals(whole)
        lost, total = lost + float(singular[4:].square().sum()), total + float(singular.square().sum())
        error = float((after.B @ after.A - whole).norm() / whole.norm())
        assert len(after.A) == 4 and error == pytest.approx(float(singular[4:].norm() / singular.norm()), rel=1e-9)
        assert not after.B[before.B.any(dim=1).logical_not()].any(), "other rows stay exactly zero"
        assert torch.equal(after.bias, before.bias)
    assert result.error == pytest.approx((lost / total) ** 0.5, rel=1e-9)
    assert result.matrices["rank"].eq(4).all() and result.matrices["rank_before"].sum() == 12


def test_what_is_within_the_rank_is_not_touched() -> None:
    model = TINY["llama"]()
    changes = random_changes(find_pathways(model).select(["o_proj", "down_proj"]))
    for rank in (None, 3):
        result = recompressed(model, changes, rank)
        assert result.changes == changes and result.error == 0


def test_the_rank_that_an_update_really_has_costs_nothing() -> None:
    model = TINY["llama"]()
    (o_proj,) = find_pathways(model).select(["o_proj"], [0])
    one = random_change(o_proj, 2)
    result = recompressed(model, [one, one.scaled(-0.5), one.scaled(3.0)], 2)
    assert result.error < 1e-12 and result.matrices["rank_before"].item() == 6
    torch.testing.assert_close(dense(result.changes)[0, "o_proj"], 3.5 * dense([one])[0, "o_proj"])


def test_interference_is_what_the_other_writes_on_what_the_one_reads() -> None:
    """Against dense matrices: ‖ΔW_j P_i‖/‖ΔW_i‖ with P_i by torch's own pseudoinverse, over the matrices of i."""
    pathways = find_pathways(TINY["llama"]())
    o_proj, down = pathways.select(["o_proj", "down_proj"], [0])
    edits = {"i": [random_change(o_proj, 2), random_change(down, 1)], "j": [random_change(o_proj, 3, seed=1)]}
    table = interference_table(edits).set_index(["entry", "other"])
    delta = {name: dense(changes) for name, changes in edits.items()}
    A = edits["i"][0].update.A.double()
    disturbed = float((delta["j"][0, "o_proj"] @ torch.linalg.pinv(A) @ A).norm())
    written = sum(float(one.square().sum()) for one in delta["i"].values()) ** 0.5
    assert table.loc[("i", "j"), "interference"] == pytest.approx(disturbed / written, rel=1e-9)
    assert table.loc[("i", "j"), "shared_matrices"] == 1 and len(table) == 2


def test_interference_of_a_stack_is_that_of_the_price() -> None:
    """One definition: of two edits of one matrix, both ways, and however an edit is factored."""
    (o_proj,) = find_pathways(TINY["llama"]()).select(["o_proj"], [0])
    new, old = random_change(o_proj, 2), random_change(o_proj, 3, seed=1)
    mixed = torch.tensor([[2.0, 1.0], [0.5, -3.0]])
    again = Change(o_proj, LowRank(new.update.B @ torch.linalg.inv(mixed), mixed @ new.update.A))
    priced = overlap(new.update, old.update, None)
    for one in (new, again):
        found = interference_table({"new": [one], "old": [old]}).set_index("entry")["interference"]
        assert found["old"] == pytest.approx(priced["changes_earlier"], rel=1e-5)
        assert found["new"] == pytest.approx(priced["changed_by_earlier"], rel=1e-5)


def test_edits_that_read_apart_do_not_interfere_and_the_opposite_of_one_undoes_it() -> None:
    (o_proj,) = find_pathways(TINY["llama"]()).select(["o_proj"], [0])
    basis = torch.linalg.qr(torch.randn(o_proj.d_in, 2, generator=torch.Generator().manual_seed(0)))[0].T
    B = random_change(o_proj, 1).update.B
    one, apart = (Change(o_proj, LowRank(B, basis[index : index + 1])) for index in range(2))
    elsewhere = random_change(find_pathways(TINY["llama"]()).select(["o_proj"], [1])[0])
    table = interference_table({"one": [one], "apart": [apart], "minus": [one.scaled(-1)], "elsewhere": [elsewhere]})
    found = table.set_index(["entry", "other"])["interference"]
    assert found["one", "apart"] < 1e-6 and found["one", "minus"] == pytest.approx(1)
    assert found["one", "elsewhere"] == 0


def test_facts_are_measured_alone_and_together_as_stock_peft_computes_them() -> None:
    model = TINY["llama"]()
    loaded = Loaded(model, tiny_tokenizer(), find_pathways(model))
    edits = {name: random_changes(loaded.pathways.select(["o_proj"]), seed=i) for i, name in enumerate(FACTS)}
    together = [change for changes in edits.values() for change in changes]
    table = measured_facts(loaded, [_entry(name) for name in FACTS], edits, together).set_index("entry")
    assert table.loc["first", "prompt"] == "the cat sat on"
    for name, joined in (("first", "the cat sat on mat"), ("second", "the dog ran to a house")):
        prompt = table.loc[name, "prompt"]
        row = table.loc[name]
        for column, changes in (("base_logprob", None), ("alone_logprob", edits[name]), ("stacked_logprob", together)):
            assert row[column] == pytest.approx(_slow_logprob(model, prompt, joined, changes), abs=1e-5)
        assert row["change"] == pytest.approx(row["stacked_logprob"] - row["alone_logprob"])
    assert abs(table["change"]).max() > 0.01


def _slow_logprob(model: PreTrainedModel, prompt: str, joined: str, changes) -> float:
    """Token by token, through PEFT's own layers."""
    tokenizer = tiny_tokenizer()
    before, whole = tokenizer(prompt)["input_ids"], tokenizer(joined)["input_ids"]
    wrapped = model if changes is None else attach(model, changes)
    with torch.no_grad():
        logprobs = wrapped(input_ids=torch.tensor([whole]), use_cache=False).logits[0].log_softmax(-1)
    if changes is not None:
        detach(wrapped)
    scored = [float(logprobs[place - 1, whole[place]]) for place in range(len(before), len(whole))]
    return sum(scored) / len(scored)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Loaded]:
    """Three edits of one tiny model that overlap in places; two make facts."""
    place = tmp_path_factory.mktemp("stack")
    source = write_model(place / "model")
    model = TINY["llama"]()
    loaded = Loaded(model, tiny_tokenizer(), find_pathways(model))
    found = open_ledger(place / "edits", a_base(weights_hash(model), str(source)))
    for seed, (name, roles) in enumerate(
        [("first", ["o_proj"]), ("second", ["o_proj", "down_proj"]), ("third", ["q_proj"])]
    ):
        changes = random_changes(loaded.pathways.select(roles, [0]), seed=seed)
        run = _run_of(place / f"run-{name}", changes, found, loaded)
        facts = [FACTS[name]] if name in FACTS else []
        found.add(kind="associate", title=name, run=run, name=name, facts=facts)
    return found, loaded


def test_the_order_of_names_does_not_matter_and_the_sum_is_that_of_the_edits(
    ledger: tuple[Ledger, Loaded], tmp_path: Path
) -> None:
    found, loaded = ledger
    orders = [["first", "second", "third"], ["third", "first", "second"], []]
    stacks = [stack(found, names, tmp_path / str(i), loaded=loaded, certify=False) for i, names in enumerate(orders)]
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")
    assert stacks[1].entries == ("first", "second", "third") and stacks[0].error == 0
    changes = [change for entry in found.entries for change in found.changes_of(entry, loaded.pathways)]
    back = dense(_read(tmp_path / "0", loaded))
    for key, delta in dense(changes).items():
        torch.testing.assert_close(back[key], delta, rtol=1e-6, atol=1e-7)
    assert stacks[0].matrices.set_index("matrix")["rank"].to_dict() == {"o_proj": 2, "down_proj": 2, "q_proj": 1}
    assert set(stacks[0].facts["entry"]) == {"first", "second"} and len(stacks[0].conflicts) == 6


def test_a_rank_is_kept_and_its_error_told(ledger: tuple[Ledger, Loaded], tmp_path: Path) -> None:
    found, loaded = ledger
    stacked = stack(found, [], tmp_path / "cut", rank=1, loaded=loaded, certify=False)
    assert stacked.matrices["rank"].eq(1).all() and 0 < stacked.error < 1
    whole = dense([change for entry in found.entries for change in found.changes_of(entry, loaded.pathways)])
    back = dense(_read(tmp_path / "cut", loaded))
    lost = sum(float((back[key] - delta).square().sum()) for key, delta in whole.items())
    total = sum(float(delta.square().sum()) for delta in whole.values())
    assert stacked.error == pytest.approx((lost / total) ** 0.5, rel=1e-5)


def test_taking_an_edit_back_gives_the_stack_from_before_it(ledger: tuple[Ledger, Loaded], tmp_path: Path) -> None:
    found, loaded = ledger
    stack(found, ["first", "third"], tmp_path / "before", loaded=loaded, certify=False)
    found.undo("second")
    try:
        assert stack(found, [], tmp_path / "after", loaded=loaded, certify=False).entries == ("first", "third")
    finally:
        found.redo("second")
    assert contents(tmp_path / "before") == contents(tmp_path / "after")


def test_what_can_not_be_stacked_is_refused_before_the_base_is_loaded(
    ledger: tuple[Ledger, Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = ledger
    monkeypatch.setattr("readwrite_edit.edit.stack.stacking.load_base", lambda _base: pytest.fail("was loaded"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for names, to, rank, said in [
        (["frist"], "new", None, "did you mean 'first'"),
        ([], "full", None, "not an empty folder"),
        ([], "full/mine.txt", None, "not an empty folder"),
        ([], "new", 0, "rank 0"),
        (["first", "third", "first"], "new", None, "'first' is named 2 times"),
        ([], "full/mine.txt/new", None, r"can not be written \(Not a directory\).*another folder \(--to\)"),
    ]:
        with pytest.raises(EditError, match=said):
            stack(found, names, tmp_path / to, rank=rank)
    with pytest.raises(EditError, match="name 'a b': expected up to 60 letters"):
        stack(found, [], tmp_path / "new", name="a b")
    empty = open_ledger(tmp_path / "none", found.base)
    with pytest.raises(EditError, match="no edit of the ledger"):
        stack(empty, [], tmp_path / "new")
    assert not (tmp_path / "new").exists() and (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_disk_that_fills_while_a_stack_is_written_leaves_nothing(
    ledger: tuple[Ledger, Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors reports it by a kind of its own."""
    found, loaded = ledger

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("readwrite_edit.adapter.save.save_file", full)
    with pytest.raises(EditError, match=r"out can not be written \(No space left on device\): free space"):
        stack(found, [], tmp_path / "out", loaded=loaded, certify=False)
    assert not list(tmp_path.iterdir())


def test_the_same_change_is_in_force_once_however_it_is_factored(ledger: tuple[Ledger, Loaded], tmp_path: Path) -> None:
    found, loaded = ledger
    (first,) = random_changes(loaded.pathways.select(["o_proj"], [0]), seed=0)
    refactored = Change(first.projection, LowRank(first.update.B * 3, first.update.A / 3))
    halves = [first.scaled(0.5), first.scaled(0.5)]
    for number, changes in enumerate([[refactored], halves]):
        with pytest.raises(EditError, match=r"the same change as 'first' .*would count twice.*edit undo first"):
            found.add(kind="steer", title="again", run=_run_of(tmp_path / f"{number}", changes, found, loaded))
    for number, changes in enumerate([[first.scaled(1.01)], random_changes([first.projection], seed=9)]):
        found.add(
            kind="steer", title="", name=f"x{number}", run=_run_of(tmp_path / f"x{number}", changes, found, loaded)
        )
        found.undo(f"x{number}")
    found.undo("first")
    found.add(kind="steer", title="again", name="again", run=_run_of(tmp_path / "again", [refactored], found, loaded))
    with pytest.raises(EditError, match="the same change as 'again'"):
        found.redo("first")
    found.undo("again")
    found.redo("first")


def _run_of(place: Path, changes, found: Ledger, loaded: Loaded) -> RunFolder:
    run = RunFolder(place)
    wrapped = attach(loaded.model, changes)
    about = {"edit": {"kind": "steer", "name": place.name}}
    save_edit(wrapped, changes, run.adapter, base=found.base, tokenizer=loaded.tokenizer, about=about)
    detach(wrapped)
    return with_papers(run)


def _read(folder: Path, loaded: Loaded):
    from readwrite_edit.edit.files import read_changes

    return read_changes(folder, loaded.pathways)


def _entry(name: str) -> Entry:
    return Entry.model_validate(
        {"name": name, "kind": "associate", "title": name, "created": utc_now(), "active": True}
        | {"adapter_sha256": "", "facts": (FACTS[name],)}
    )
