"""Changes beyond what an adapter's numbers hold, and edits that leave a model without outputs: none is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from readwrite_edit.cli import main
from readwrite_edit.edit.assembly import assembled
from readwrite_edit.edit.attend import plan_attend
from readwrite_edit.edit.controls import compare
from readwrite_edit.edit.files import attach, detach
from readwrite_edit.edit.measure import measure
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.trial import try_on
from readwrite_edit.errors import EditError, RunError
from readwrite_edit.interventions.changes import Change
from tests.ready_context import ReadyContext, ready_context
from tests.small_edits import random_change
from tests.small_runs import write_model

TEXT = "The cat sat on the mat and looked at the rain.\n\nThen it slept until the sun came back, and nobody knew why. "
PROMPT = "the cat sat"
STEER = ["edit", "steer", "base", "--prompts", PROMPT, "--key", "cat", "--layer", "1", "--direction-token", "a"]
SMALL = {"statistics.tokens": 200, "statistics.max_length": 32, "measure.tokens": 40, "measure.max_new_tokens": 0}
UNCERTIFIED = ["--set", "measure.certify=false"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("numbers")
    write_model(place / "base")
    return place


@pytest.fixture
def refused(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Runs an edit that must end with exit code 2 before it begins; what it printed, and its message."""
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(base / "cache"))
    monkeypatch.chdir(base)

    def run(*options: str) -> tuple[str, str]:
        small = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
        assert main([*STEER, "--controls", "0", *small, *options]) == 2
        assert not Path("runs").exists() and not Path("edits").exists()
        printed = capsys.readouterr()
        return printed.out, printed.err.splitlines()[-1]

    return run


def with_texts(tmp_path: Path, **sections: Any) -> ReadyContext:
    """A context whose neutral text is short."""
    path = tmp_path / "neutral.txt"
    path.write_text(TEXT * 3, encoding="utf-8")
    texts = [{"path": str(path), "name": "neutral"}]
    return ready_context("llama", measure={"texts": texts, "tokens": 80, "max_new_tokens": 0}, **sections)


def attention(change: float) -> dict[str, Any]:
    return {"prompts": PROMPT, "query": "last", "key": "cat", "layer": 1, "change": change}


@pytest.fixture
def broken(tmp_path: Path) -> tuple[ReadyContext, Plan]:
    """An edit whose numbers are finite, and whose model's are not."""
    context = with_texts(tmp_path, attend=attention(1e30), controls={"count": 1, "others": 1})
    plan = plan_attend(context)
    return context, replace(plan, changes=tuple(change.scaled(1e8) for change in plan.changes))


def change_with(part: str, value: float) -> Change:
    one = random_change(ready_context("llama", attend=attention(1.0)).pathways.select(["o_proj"], [1])[0], bias=True)
    parts: dict[str, Tensor] = {"B": one.update.B.double(), "A": one.update.A.double()}
    if part == "its constant":
        assert one.bias is not None
        bias = one.bias.double()
        bias[0] = value
        return replace(one, bias=bias)
    parts[part][0, 0] = value
    return replace(one, update=type(one.update)(**parts))


@pytest.mark.parametrize("part", ["A", "B", "its constant"])
@pytest.mark.parametrize(
    ("value", "said"),
    [(-1e39, "reaches 1e+39, and an adapter's float32 holds 3.4e+38"), (math.inf, "inf"), (math.nan, "holds NaN")],
)
def test_what_an_adapter_can_not_hold_is_named(part: str, value: float, said: str) -> None:
    with pytest.raises(EditError) as caught:
        assembled(ready_context("llama", attend=attention(1.0)).model, [change_with(part, value)])
    assert str(caught.value).startswith(f"the edit of layer 1 o_proj: {part} ") and said in str(caught.value)
    assert "ask for less (a smaller strength" in str(caught.value) and caught.value.exit_code == 2


def test_constants_that_only_together_are_too_large() -> None:
    model, one = ready_context("llama", attend=attention(1.0)).model, change_with("its constant", 3e38)
    assert len(assembled(model, [one])) == 1
    with pytest.raises(EditError, match=r"its constant reaches 6e\+38"):
        assembled(model, [one, one])


@pytest.mark.parametrize("more", [[], UNCERTIFIED])
def test_a_strength_beyond_float32_is_refused_before_the_price(
    refused: Callable[..., tuple[str, str]], more: list[str]
) -> None:
    printed, message = refused("--strength", "1e39", *more)
    assert printed == "" and "layer 1 down_proj: B reaches " in message


def test_outputs_that_are_not_finite_are_found_before_a_run(broken: tuple[ReadyContext, Plan]) -> None:
    context, plan = broken
    before = [name for name, _ in context.model.named_modules()]
    with pytest.raises(EditError, match=r"outputs are NaN or infinite \(largest change: layer 1 q_proj, ‖ΔW‖ .*e\+37"):
        try_on(context, plan)
    assert [name for name, _ in context.model.named_modules()] == before, "the adapter is off again"
    try_on(context, Plan((random_change(plan.changes[0].projection),), "a test", prompts=plan.prompts))


def test_outputs_that_are_not_finite_fail_the_run(broken: tuple[ReadyContext, Plan]) -> None:
    """Where only the run finds it: behind the prompts, on the neutral texts, or beside the controls."""
    context, plan = broken
    model = attach(context.model, plan.changes)
    try:
        for prompts, where in ((plan.prompts, "behind the edit's prompts"), ((), "on the text 'neutral'")):
            with pytest.raises(RunError, match=f"NaN or infinite {where}: it is not certified") as caught:
                measure(context, replace(plan, prompts=prompts), model)
            assert caught.value.exit_code == 3
    finally:
        detach(model)

    class Nothing:
        name, version, observations = "nothing", 1, ("one",)

        def measure(self, variants: Any) -> Tensor:
            return torch.full((len(variants), 1), math.nan)

    with pytest.raises(RunError, match="behind the prompts that controls are compared on"):
        compare(context, replace(plan, effect=Nothing()))


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_a_score_beyond_the_model_s_numbers_is_said_to_overflow(name: str) -> None:
    with pytest.raises(EditError, match=r"by \+1e\+300 overflows the numbers") as caught:
        plan_attend(ready_context(name, attend=attention(1e300)))
    assert "norms" not in str(caught.value)


def test_an_uncertified_edit_is_refused_a_name_and_bad_texts(refused: Callable[..., tuple[str, str]]) -> None:
    _, message = refused(*UNCERTIFIED, "--name", "mine")
    assert "got 'mine'; with measure.certify false the edit is not entered in the ledger" in message
    for more in ([], UNCERTIFIED):
        printed, message = refused("--set", "measure.texts=no_such.txt", *more)
        assert printed == "" and message.startswith("readwrite-edit: no_such.txt: no such file")
