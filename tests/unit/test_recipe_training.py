"""Every option of the installed ``trl.DPOConfig`` is the recipe's or has a reason why it is not."""

import dataclasses
import types
import typing
from enum import Enum

import pytest

from readwrite_edit.recipe import dpo_arguments, parse_recipe
from readwrite_edit.recipe.objective import F_DIVERGENCE_LOSSES, LossType, Objective
from readwrite_edit.recipe.owned import OWNED
from readwrite_edit.recipe.training import Interval, Logger, Optimizer, Scheduler, Train

MINIMAL = "model: {path: bundled:m}\ndata: {path: builtin:concise}\n"
ALWAYS_LEFT_OUT_AS_NONE = {"num_train_epochs"}


@pytest.fixture(scope="module")
def dpo_fields():
    from trl import DPOConfig

    return {field.name: field for field in dataclasses.fields(DPOConfig)}


def test_every_option_of_trl_is_accounted_for_once(dpo_fields):
    ours = [*Train.model_fields, *(set(Objective.model_fields) - {"name"}), *OWNED]
    assert sorted(ours) == sorted(dpo_fields)


def kinds(annotation):
    """The plain types that an annotation admits."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kinds(inner[0])
    if origin is typing.Literal:
        return {type(value) for value in inner}
    if origin in (typing.Union, types.UnionType):
        return {kind for part in inner for kind in kinds(part)}
    if origin in (tuple, list, dict):
        return {list if origin is tuple else origin}
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {str}
    return {annotation}


def test_the_types_are_those_of_trl(dpo_fields):
    """What a recipe accepts, DPOConfig must accept: fewer kinds are right, others are not."""
    fields = {**Train.model_fields, **Objective.model_fields}
    for name in fields.keys() - {"name"}:
        theirs = kinds(dpo_fields[name].type)
        theirs |= {int} if float in theirs else set()
        allowed = theirs | ({types.NoneType} if name in ALWAYS_LEFT_OUT_AS_NONE else set())
        assert kinds(fields[name].annotation) <= allowed, name


def test_names_of_choices_are_those_of_transformers():
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
    from transformers.trainer_utils import IntervalStrategy, SchedulerType
    from transformers.training_args import OptimizerNames

    values = {"scheduler": SchedulerType, "optimizer": OptimizerNames, "interval": IntervalStrategy}
    theirs = {name: {item.value for item in kind} for name, kind in values.items()}
    assert set(typing.get_args(Scheduler)) == theirs["scheduler"]
    assert set(typing.get_args(Optimizer)) <= theirs["optimizer"]
    assert set(typing.get_args(typing.get_args(Interval)[0])) == theirs["interval"]
    assert set(typing.get_args(Logger)) - {"none", "all"} == set(INTEGRATION_TO_CALLBACK)


def test_loss_names_are_those_of_trl(dpo_fields):
    help_text = dpo_fields["loss_type"].metadata["help"]
    assert all(f"'{name}'" in help_text for name in typing.get_args(LossType))
    assert help_text.count("`'") == len(typing.get_args(LossType)) == 15
    assert set(typing.get_args(LossType)) >= F_DIVERGENCE_LOSSES


def test_a_recipe_makes_a_dpo_config(tmp_path):
    from trl import DPOConfig

    recipe = parse_recipe(MINIMAL + "objective: {loss_type: [sigmoid, sft], loss_weights: [1, 0.5]}\n")
    config = DPOConfig(output_dir=str(tmp_path), use_cpu=True, **dpo_arguments(recipe))
    assert (config.max_steps, config.learning_rate, config.seed) == (24, 1e-3, 0)
    assert (config.loss_type, config.loss_weights, config.beta) == (["sigmoid", "sft"], [1.0, 0.5], 0.1)
    assert (config.bf16, config.gradient_checkpointing, config.report_to) == (False, False, [])
    assert config.save_steps == 8


def test_epochs_reach_dpo_config(tmp_path):
    assert "num_train_epochs" not in dpo_arguments(parse_recipe(MINIMAL))
    arguments = dpo_arguments(parse_recipe(MINIMAL + "train: {num_train_epochs: 2}\n"))
    assert (arguments["num_train_epochs"], arguments["max_steps"]) == (2.0, -1)
