"""What a recipe asks for that not every machine has: optional packages and devices, checked before anything starts."""

from __future__ import annotations

from importlib.util import find_spec

from readwrite_edit.errors import RecipeError
from readwrite_edit.models.loading import default_device
from readwrite_edit.recipe import Recipe

_LOGGERS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "mlflow": "mlflow",
    "comet_ml": "comet_ml",
    "neptune": "neptune",
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "dagshub": "dagshub",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "swanlab": "swanlab",
    "azure_ml": "azureml",
}
_OPTIMIZERS = (
    (("8bit", "32bit", "bnb", "ademamix"), "bitsandbytes"),
    (("schedule_free",), "schedulefree"),
    (("grokadamw",), "grokadamw"),
    (("stable_adamw",), "optimi"),
)


def check_installed(recipe: Recipe) -> None:
    """Refuse options whose package or device is not there.

    Raises:
        RecipeError: Names the option, and what to install or to choose instead.
    """
    for logger in recipe.train.report_to:
        _require(f"train.report_to: {logger}", _LOGGERS.get(logger))
    _require(f"train.optim: {recipe.train.optim}", _optimizer_package(recipe.train.optim))
    device = recipe.model.device or default_device()
    if device == "cpu" and recipe.train.activation_offloading:
        raise RecipeError("train.activation_offloading: there is nothing to offload from on a CPU; leave it out")


def _optimizer_package(name: str) -> str | None:
    if name.startswith("adamw_torch_"):
        return "torchao" if name.endswith("bit") else None
    return next((package for marks, package in _OPTIMIZERS if any(mark in name for mark in marks)), None)


def _require(option: str, package: str | None) -> None:
    if package is not None and find_spec(package) is None:
        raise RecipeError(f"{option} needs a package that is not installed: pip install {package}")
