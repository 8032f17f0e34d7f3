"""Recipes made to hurt: every problem in one error, one line each, nothing else raised."""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe import load_recipe, parse_recipe, recipe_text
from readwrite_edit.recipe.yaml_nodes import write_document
from readwrite_edit.terminal import printable

MINIMAL = "model: {path: bundled:m}\ndata: {path: builtin:concise}\n"


def problems(text, overrides=()):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, source="file.yaml", overrides=overrides)
    return str(caught.value).splitlines()


def test_every_problem_at_once_by_line():
    lines = problems(
        "model: {path: m, dtyp: auto}\n"
        "data:\n"
        "  path: d\n"
        "  path: e\n"
        "  eval_rows: 0\n"
        "adapter:\n"
        "  rnak: 16\n"
        "  basis: principle\n"
        "  rank: 4\n"
        "  energy: 0.5\n"
        "train: {output_dir: x, beta: 0.2, bf16: yes, fp16: yes, max_steps: abc}\n"
        "calibration: {protect: [builtin:prose, {path: 3}, {nmae: x}]}\n"
    )
    expected = [
        "file.yaml:1: model.dtyp: unknown key; did you mean 'dtype'?",
        "file.yaml:4: data.path: given twice (first in line 3); expected once",
        "file.yaml:5: data.eval_rows: got 0; expected at least 1",
        "file.yaml:7: adapter.rnak: unknown key; did you mean 'rank'?",
        "file.yaml:8: adapter.basis: got 'principle'; expected one of principal, contrastive, ",
        "file.yaml:10: adapter.energy: got 0.5; rank 4 is given too; set one of the two to null",
        "file.yaml:11: train.output_dir: can not be set in a recipe: the run folder is chosen by",
        "file.yaml:11: train.beta: unknown key; did you mean objective.beta?",
        "file.yaml:11: train.max_steps: got 'abc'; expected a whole number",
        "file.yaml:11: train.fp16: got true; bf16 is on too; expected at most one of the two",
        "file.yaml:12: calibration.protect[1].path: got 3; expected text",
        "file.yaml:12: calibration.protect[2].path: missing; expected text",
        "file.yaml:12: calibration.protect[2].nmae: unknown key; did you mean 'name'?",
    ]
    assert sorted(line[:60] for line in lines) == sorted(line[:60] for line in expected)
    numbers = [int(re.match(r"file\.yaml:(\d+):", line)[1]) for line in lines]
    assert numbers == sorted(numbers)


ONE_PROBLEM = {
    "empty": ("", "empty; expected sections"),
    "comment": ("# only this\n", "empty; expected sections"),
    "list": ("[1, 2]", "got [1, 2]; expected sections"),
    "text": ("hello", "got 'hello'; expected sections"),
    "two documents": ("a: 1\n---\nb: 2\n", "file.yaml:2: not a recipe in YAML"),
    "tab": ("model:\n\tpath: x\n", "file.yaml:2: not a recipe in YAML"),
    "unclosed": ("model: {path: x\n", "not a recipe in YAML"),
    "code": ("model: !!python/object/apply:os.system [ls]\n", "file.yaml:1: not a recipe in YAML: tag"),
    "alias": ("model: &m {path: x}\ndata: *m\n", "file.yaml:2: not a recipe in YAML: alias *m"),
    "recursion": ("model: &m [*m]\n", "alias *m"),
    "deep": ("model: " + "[" * 100_000, "nested more than"),
    "deep keys": ("? " * 100_000, "nested more than"),
    "control": ("model: {path: 'a\x1b[31m'}\n", "file.yaml:1: character \\x1b may not stand in YAML"),
    "number of 5000 digits": (
        MINIMAL + f"adapter: {{rank: {'9' * 5000}}}\n",
        "file.yaml:3: adapter.rank: expected a n",
    ),
    "number of 400 digits": (MINIMAL + f"objective: {{beta: {'9' * 400}}}\n", "file.yaml:3: objective.beta: got 999"),
    "rank beyond memory": (MINIMAL + "adapter: {rank: 99999999999}\n", "expected at most 2147483647"),
    "layers beyond memory": (MINIMAL + "adapter: {layers: 0-999999}\n", "adapter.layers: got '0-999999'; expected all"),
    "layers backwards": (MINIMAL + "adapter: {layers: 5-2}\n", "adapter.layers: got '5-2'; expected all"),
    "no layers": (MINIMAL + "adapter: {layers: []}\n", "adapter.layers: got []; expected all"),
    "layer true": (MINIMAL + "adapter: {layers: [true]}\n", "adapter.layers: got [true]; expected all"),
    "infinity": (MINIMAL + "objective: {beta: .inf}\n", "objective.beta: got Infinity; expected a finite number"),
    "text that escapes": ('"\\e[31m"', "got '\\x1b[31m'; expected sections"),
    "nan": (MINIMAL + "objective: {beta: .nan}\n", "objective.beta: got NaN; expected a"),
    "true for a number": (MINIMAL + "train: {seed: true}\n", "train.seed: got true; expected a whole number"),
    "number for a text": ("model: {path: 3}\ndata: {path: d}\n", "model.path: got 3; expected text"),
    "surrogate": ('model: {path: "\\ud800"}\ndata: {path: d}\n', "model.path: half of a surrogate pair"),
    "key is a number": (MINIMAL + "1: 2\n", "file.yaml:3: key 1: expected text"),
    "key is a list": (MINIMAL + "? [1]\n: 2\n", "file.yaml:3: key a list or mapping"),
    "key that escapes": (MINIMAL + '"\\e[31m\\u202e": 1\n', "file.yaml:3: \\x1b[31m\\u202e: unknown key"),
    "merge key": (MINIMAL + "adapter: {<<: {rank: 3}}\n", "adapter.<<: unknown key"),
    "missing": ("model: {path: m}\n", "data.path: missing; expected text"),
    "section is a number": (MINIMAL + "adapter: 3\n", "adapter: got 3; expected a mapping"),
    "exo": (MINIMAL + "objective: {loss_type: exo_pair}\n", "file.yaml:3: objective.label_smoothing: loss exo_pair"),
    "robust": (MINIMAL + "objective: {loss_type: robust, label_smoothing: 0.5}\n", "expects a value below 0.5"),
    "weights": (
        MINIMAL + "objective: {loss_type: [ipo, sft], loss_weights: [1]}\n",
        "objective.loss_weights: expected 2",
    ),
    "divergence": (MINIMAL + "objective: {loss_type: aot, f_divergence_type: forward_kl}\n", "loss aot has no f-div"),
    "weighting": (MINIMAL + "objective: {loss_type: aot, use_weighting: true}\n", "loss aot sorts its samples"),
    "no loss": (MINIMAL + "objective: {loss_type: []}\n", "objective.loss_type: got []; expected a list of at least 1"),
    "nothing protected": (
        MINIMAL + "adapter: {basis: contrastive}\ncalibration: {protect: []}\n",
        "calibration.protect: ",
    ),
    "one name twice": (MINIMAL + "calibration: {protect: [a.txt, b/a.txt]}\n", "two texts are named 'a'"),
    "lora, whitened": (MINIMAL + "adapter: {basis: lora, whiten: true}\n", "adapter.whiten: got true; plain LoRA"),
    "lora with energy": (MINIMAL + "adapter: {basis: lora, energy: 0.5}\n", "adapter.energy: got 0.5; plain LoRA"),
    "neither width": (MINIMAL + "adapter: {rank: null}\n", "adapter.rank: got null; neither rank nor energy"),
    "no steps": (MINIMAL + "train: {max_steps: 0}\n", "train.max_steps: got 0; expected at least 1 step"),
    "steps and epochs": (
        MINIMAL + "train: {max_steps: 3, num_train_epochs: 1}\n",
        "train.num_train_epochs: got 1; max_st",
    ),
    "plateau": (MINIMAL + "train: {lr_scheduler_type: reduce_lr_on_plateau}\n", "needs evaluations"),
    "device": (
        "model: {path: m, device: gpu}\ndata: {path: d}\n",
        "model.device: got 'gpu'; expected text: 'cpu' or 'cuda'",
    ),
    "peft's name": (MINIMAL + "adapter: {r: 8}\n", "adapter.r: unknown key; did you mean adapter.rank?"),
    "alpha": (MINIMAL + "adapter: {lora_alpha: 8}\n", "adapter.lora_alpha: can not be set in a recipe: it is always"),
    "scheduler argument": (
        MINIMAL + "train: {lr_scheduler_kwargs: {a: [1]}}\n",
        "train.lr_scheduler_kwargs.a: got [1]",
    ),
}


@pytest.mark.parametrize("case", ONE_PROBLEM)
def test_one_problem_is_one_line(case):
    text, expected = ONE_PROBLEM[case]
    lines = problems(text)
    assert len(lines) == 1, lines
    assert expected in lines[0]
    assert lines[0].startswith("file.yaml")
    assert lines[0].isprintable()
    assert len(lines[0]) < 400


OVERRIDES = {
    "adapter.rank=abc": "--set adapter.rank=abc: got 'abc'; expected a whole number",
    "adapter.rnak=3": "--set adapter.rnak=3: unknown key; did you mean 'rank'?",
    "adapter.rank": "--set adapter.rank: expected key=value, such as adapter.rank=32",
    "=3": "--set =3: expected key=value",
    "adapter..rank=3": "--set adapter..rank=3: expected key=value",
    "data.path.x=3": "--set data.path.x=3: data.path is 'builtin:concise' and has no keys; expected data.path=…",
    "adapter.layers=[1": "--set adapter.layers=[1: got '[1'; expected a YAML value",
    "adapter.energy=0.5": "--set adapter.energy=0.5: got 0.5; rank 16 is given too",
    "model={dtype: auto}": "--set model={dtype: auto}: model.path: missing",
    "calibration.protect=[{path: 3}]": "--set calibration.protect=[{path: 3}]: calibration.protect[0].path: got 3",
    "adapter.rank=\x1b[2J": "--set adapter.rank=\\x1b[2J: got '\\x1b[2J'",
    "adapter.rank=\udcff": "--set adapter.rank=\\udcff: got '\\udcff'",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_wrong_override_is_named_instead_of_a_line(override):
    lines = problems(MINIMAL + "adapter: {rank: 16}\n", [override])
    assert len(lines) == 1, lines
    assert lines[0].startswith(OVERRIDES[override])
    assert lines[0].isprintable()


def test_overrides_come_after_the_lines_and_the_last_one_wins():
    lines = problems(MINIMAL + "adapter: {rank: x}\n", ["geometry.k=0", "data.limit=0"])
    assert [line.split(":")[0] for line in lines] == ["file.yaml", "--set geometry.k=0", "--set data.limit=0"]
    good = parse_recipe(MINIMAL + "adapter: {rank: x}\n", overrides=["adapter.rank=y", "adapter.rank=4"])
    assert good.adapter.rank == 4
    assert parse_recipe(MINIMAL, overrides=["adapter.layers=0-2"]).adapter.layers == (0, 1, 2)
    found = parse_recipe(MINIMAL, overrides=["calibration.protect=[builtin:prose]"])
    assert [text.name for text in found.calibration.protect] == ["prose"]


def test_a_contradiction_with_a_wrong_value_is_not_reported():
    lines = problems(MINIMAL + "objective: {loss_type: exo_pair, label_smoothing: abc}\n")
    assert lines == ["file.yaml:3: objective.label_smoothing: got 'abc'; expected a number"]


def test_a_wrong_item_of_a_list_does_not_hide_a_contradiction():
    lines = problems(MINIMAL + "adapter: {modules: [q_prj, k_prj], rank: 1, energy: 0.5}\n")
    assert [line.split(": ")[1] for line in lines] == ["adapter.modules[0]", "adapter.modules[1]", "adapter.energy"]
    lines = problems(MINIMAL + "adapter: {modules: [q_proj, k_prj], rank: 1, energy: 0.5}\n")
    assert [line.split(": ")[1] for line in lines] == ["adapter.modules[1]", "adapter.energy"]


def test_a_contradiction_is_put_to_the_override_that_made_it():
    lines = problems(MINIMAL + "adapter: {energy: 0.5}\n", ["adapter.rank=3"])
    assert lines == ["--set adapter.rank=3: adapter.energy: got 0.5; rank 3 is given too; set one of the two to null"]


def test_very_many_problems_are_cut_short():
    lines = problems(MINIMAL + "adapter:\n" + "".join(f"  key{number}: 1\n" for number in range(2_000)))
    assert len(lines) == 51
    assert lines[-1] == "and 1950 problems more"
    assert lines[0].startswith("file.yaml:4: adapter.key0: unknown key")


def test_a_long_value_is_shortened():
    lines = problems(MINIMAL + f"adapter: {{basis: {'x' * 100_000}, {'y' * 50_000}: 1}}\n")
    assert all(len(line) < 400 for line in lines)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"model: {path: \xff}\n", ":1: byte 0xff is not UTF-8"),
        (b"# a\nmodel: {path: \xe9}\n", ":2: byte 0xe9 is not UTF-8"),
        ("model: {path: x}\n".encode("utf-16"), ":1: byte 0xff is not UTF-8"),
        (b"model: {path: x}\0\n", ":1: character \\x00 may not stand in YAML"),
        (b"#" * (2**18 + 1), "larger than 262144 bytes"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, content, expected):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_recipe(path).model.path == "bundled:m"
    assert recipe_text(path) == MINIMAL


def test_paths_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    expected = {
        tmp_path: "not a file",
        tmp_path / "pipe": "not a file",
        tmp_path / "loop": "no recipe",
        tmp_path / "absent.yaml": "no recipe",
        "x" * 5000: "no recipe",
        "a\0b": "no recipe 'a\\x00b'",
        "dpo_readnly": "expected a path or dpo_readonly",
    }
    for path, message in expected.items():
        with pytest.raises(RecipeError, match=re.escape(message)):
            load_recipe(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(MINIMAL)
    path.chmod(0)
    with pytest.raises(RecipeError, match="can not be read"):
        load_recipe(path)


KEYS = st.sampled_from(
    "model data calibration adapter objective train geometry evaluation provenance path name rank energy protect "
    "loss_type label_smoothing layers modules texts max_steps report_to contrastive epsilon format junk".split()
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["all", "exo_pair", "lora", "chat", "builtin:prose", "0-3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(value=st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_yaml_is_a_recipe_or_a_recipe_error(value):
    try:
        parse_recipe(write_document(value), source="file.yaml")
    except RecipeError as error:
        lines = str(error).splitlines()
        assert lines and all(line.startswith("file.yaml:") and printable(line) == line for line in lines)
