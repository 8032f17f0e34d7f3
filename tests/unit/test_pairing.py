"""Which stored tensors belong together, and what is said of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from readwrite_edit.errors import ModelError
from readwrite_edit.models.source import ModelSource
from readwrite_edit.models.tensor_files import StoredTensor
from readwrite_edit.probe.delta.anatomy import Anatomy, anatomy_of
from readwrite_edit.probe.delta.pairing import Misfit, Pair, pair_tensors
from tests.tiny_models import tiny_config

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Q, K = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"
Stored = dict[str, StoredTensor]


@pytest.fixture(scope="module")
def anatomies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Anatomy]:
    """Of a few architectures, from configurations alone."""
    found = {}
    for name in ("llama", "gpt2", "gpt_neox", "phi3"):
        folder = tmp_path_factory.mktemp(name)
        tiny_config(name).save_pretrained(folder)
        found[name] = anatomy_of(ModelSource("folder", str(folder)))
    return found


@pytest.fixture
def llama(anatomies: dict[str, Anatomy]) -> Anatomy:
    return anatomies["llama"]


def stored(anatomy: Anatomy, file: str = "model.safetensors", **changes: tuple[int, ...] | str | None) -> Stored:
    """Every tensor of a model in one file; changes give another shape, another type, or leave one out."""
    found, place = {}, 0
    for name, shape in anatomy.shapes.items():
        change = changes.get(name, shape)
        if change is None:
            continue
        shape, dtype = (shape, change) if isinstance(change, str) else (change, "F32")
        found[name] = StoredTensor(name, Path(file), dtype, shape, place, place + 4)
        place += 4
    return found


def renamed(tensors: Stored, *pairs: tuple[str, str]) -> Stored:
    """The same tensors under names with a beginning replaced."""
    found = {}
    for name, tensor in tensors.items():
        for old, new in pairs:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        found[name] = StoredTensor(name, *[getattr(tensor, key) for key in ("file", "dtype", "shape", "start", "stop")])
    return found


def paired(ours: Stored, theirs: Stored, anatomy: Anatomy) -> tuple[dict[str, Pair], dict[str, Misfit]]:
    pairs, misfits = pair_tensors(ours, theirs, anatomy, anatomy.pathways.projections)
    return {pair.name: pair for pair in pairs}, {misfit.name: misfit for misfit in misfits}


def test_all_pairs_of_two_alike_in_the_order_of_the_file(llama: Anatomy) -> None:
    ours = dict(reversed(stored(llama).items()))
    pairs, misfits = pair_tensors(ours, stored(llama), llama, llama.pathways.projections)
    assert misfits == [] and [pair.name for pair in pairs] == list(llama.shapes)
    held = [projection for pair in pairs for projection in pair.projections]
    assert sorted(held, key=str) == sorted(llama.pathways.projections, key=str)


def test_fused_and_transposed_tensors_hold_their_projections(anatomies: dict[str, Anatomy]) -> None:
    phi, gpt = anatomies["phi3"], anatomies["gpt2"]
    pairs, _ = paired(stored(phi), stored(phi), phi)
    roles = [projection.role for projection in pairs["model.layers.0.self_attn.qkv_proj.weight"].projections]
    assert roles == ["q_proj", "k_proj", "v_proj"] and not any(pair.transposed for pair in pairs.values())
    pairs, _ = paired(stored(gpt), stored(gpt), gpt)
    assert pairs["transformer.h.0.attn.c_attn.weight"].transposed and not pairs["transformer.wte.weight"].transposed


def test_only_selected_projections_are_held(llama: Anatomy) -> None:
    selected = llama.pathways.select(["q_proj"], [1])
    pairs, _ = pair_tensors(stored(llama), stored(llama), llama, selected)
    assert [pair.name for pair in pairs if pair.projections] == ["model.layers.1.self_attn.q_proj.weight"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model."])
def test_wrappers_and_a_left_out_backbone_are_seen_through(llama: Anatomy, prefix: str) -> None:
    theirs = renamed(stored(llama), ("model.", prefix), ("lm_head", f"{prefix}lm_head"))
    pairs, misfits = paired(stored(llama), theirs, llama)
    assert pairs.keys() == llama.shapes.keys()
    assert list(misfits) == ["(TUNED)"] and misfits["(TUNED)"].status == "renamed"
    assert f"TUNED stores {len(theirs)} tensors under other names, such as {prefix}" in misfits["(TUNED)"].detail


def test_older_names_of_an_architecture_are_those_that_transformers_gives_them(anatomies: dict[str, Anatomy]) -> None:
    """GPT-NeoX files call the head ``embed_out``; without that name the write side would be the embedding's."""
    neox = anatomies["gpt_neox"]
    older = renamed(stored(neox), ("lm_head.", "embed_out."))
    assert neox.canonical("embed_out.weight") == neox.unembedding == "lm_head.weight"
    assert paired(older, older, neox)[1] == {} and "lm_head.weight" in paired(older, older, neox)[0]
    assert list(paired(older, stored(neox), neox)[1]) == ["(BASE)"]


def test_a_name_of_nothing_stays_as_it_is(llama: Anatomy) -> None:
    assert llama.canonical("value_head.weight") == "value_head.weight"
    assert llama.canonical("layers.0.self_attn.q_proj.weight") == Q and llama.canonical(Q) == Q
    assert llama.canonical("model.lm_head.weight") == HEAD


def test_two_names_of_one_tensor_are_refused(llama: Anatomy) -> None:
    ours = stored(llama)
    theirs = ours | renamed({Q: ours[Q]}, ("model.", ""))
    with pytest.raises(ModelError, match=rf"layers.0.self_attn.q_proj.weight and {Q} are both {Q}; keep one"):
        pair_tensors(ours, theirs, llama, llama.pathways.projections)


def test_every_way_not_to_fit(llama: Anatomy) -> None:
    ours = stored(llama, **{K: None})
    theirs = stored(llama, **{Q: None, K: None, EMBEDDING: (130, 48), "model.norm.weight": "F8_E4M3"})
    theirs |= {"value_head.weight": StoredTensor("value_head.weight", Path("f"), "F32", (1,), 0, 4)}
    _, misfits = paired(ours, theirs, llama)
    assert {name: misfit.status for name, misfit in misfits.items()} == {
        Q: "missing",
        K: "missing",
        EMBEDDING: "reshaped",
        "model.norm.weight": "unreadable",
        "value_head.weight": "extra",
    }
    assert misfits[Q].detail == "not in TUNED (its matrices are not measured)"
    assert misfits[K].detail == "in neither checkpoint (its matrices are not measured)"
    assert misfits[EMBEDDING].detail == "[128, 48] in BASE, [130, 48] in TUNED; other vocabulary, not compared"
    assert misfits["value_head.weight"].detail == "not in BASE"
    assert "stored as F8_E4M3" in misfits["model.norm.weight"].detail


@pytest.mark.parametrize("which", ["BASE", "TUNED"])
def test_a_tied_head_is_the_embedding(llama: Anatomy, which: str) -> None:
    whole, tied = stored(llama), stored(llama, **{HEAD: None})
    ours, theirs = (tied, whole) if which == "BASE" else (whole, tied)
    pairs, misfits = paired(ours, theirs, llama)
    assert misfits[HEAD].status == "tied" and misfits[HEAD].detail.startswith(f"{which} ties it to {EMBEDDING}")
    side = pairs[HEAD].base if which == "BASE" else pairs[HEAD].tuned
    assert side.name == EMBEDDING
    assert paired(tied, tied, llama)[1] == {}


def test_where_nothing_fits_the_message_shows_what_is_there(llama: Anatomy, anatomies: dict[str, Anatomy]) -> None:
    with pytest.raises(ModelError, match=r"none of 14 matrices fits: .* is \[48, 48\] in BASE and absent in TUNED"):
        paired(stored(llama), stored(anatomies["gpt2"]), llama)
    packed = {f"{p.module}.weight": "I8" for p in llama.pathways.projections}
    with pytest.raises(ModelError, match=r"can be measured: .*q_proj.weight is stored as I8 in .*not as plain"):
        paired(stored(llama), stored(llama, **packed), llama)


def test_a_misfit_is_a_row_without_numbers() -> None:
    row = Misfit("x", "extra", "not in BASE").row()
    assert row == {"name": "x", "status": "extra", "detail": "not in BASE", "norm": None, "relative_norm": None}
