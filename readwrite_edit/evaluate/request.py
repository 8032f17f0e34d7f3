"""What a user asks of an evaluation, checked as far as it can be by itself."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from readwrite_edit.errors import DataError, RecipeError
from readwrite_edit.evaluate.metrics import NGRAM
from readwrite_edit.terminal import printable

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,40})=(?P<path>.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate, on what; None leaves a choice to the run's recipe, else to the defaults of this command.

    Attributes:
        subject: Model, adapter or run.
        root: Folder of runs.
        base: Model to compare with, or another place of an adapter's base.
        data: Preference rows.
        max_length: Tokens kept of a row.
        beta: β of the margins.
        protect: Texts, ``PATH`` or ``NAME=PATH``.
        tokens: Most tokens read of each text.
        prompts: File of prompts, one a line.
        max_new_tokens: Longest answer; 0 writes none.
        ngram: n of the repeated n-grams.
        batch_size: Sequences in a forward pass.
        seed: Of the bootstrap.
        device: Where to compute.
        dtype: Of the weights in memory.
        lm_eval: Tasks of lm-evaluation-harness.
        lm_eval_limit: Most examples of each task.
        lm_eval_include: Folder with further tasks.
    """

    subject: str
    root: Path = Path("runs")
    base: str | None = None
    data: str | None = None
    max_length: int | None = None
    beta: float | None = None
    protect: tuple[str, ...] = ()
    tokens: int | None = None
    prompts: Path | None = None
    max_new_tokens: int | None = None
    ngram: int = NGRAM
    batch_size: int = 8
    seed: int = 0
    device: str | None = None
    dtype: str | None = None
    lm_eval: tuple[str, ...] = ()
    lm_eval_limit: int | None = None
    lm_eval_include: Path | None = None

    def check(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            RecipeError: One line for each.
        """
        least = {
            "max_length": 2,
            "tokens": 2,
            "max_new_tokens": 0,
            "ngram": 1,
            "batch_size": 1,
            "seed": 0,
            "lm_eval_limit": 1,
        }
        problems = [
            f"--{name.replace('_', '-')} is {value}; expected at least {smallest}"
            for name, smallest in least.items()
            if (value := getattr(self, name)) is not None and value < smallest
        ]
        if self.beta is not None and not (math.isfinite(self.beta) and self.beta > 0):
            problems.append(f"--beta is {self.beta}; expected a number above 0")
        for name in ("lm_eval_limit", "lm_eval_include"):
            if getattr(self, name) is not None and not self.lm_eval:
                problems.append(f"--{name.replace('_', '-')} belongs to --lm-eval TASKS; name the tasks")
        if problems:
            raise RecipeError("\n".join(problems))


def name_and_path(text: str) -> tuple[str | None, str]:
    """The two parts of ``NAME=PATH``; of a path alone, and of a file that has such a name, None and the path."""
    named = _NAMED.fullmatch(text)
    if named is None or Path(text).is_file():
        return None, text
    return named["name"], named["path"]


def read_prompts(path: Path) -> tuple[str, ...]:
    """Prompts of a text file, one a line; empty lines are left out.

    Raises:
        DataError: It can not be read, or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(printable(f"{path}: can not be read ({error.strerror or error})")) from error
    except UnicodeDecodeError as error:
        raise DataError(printable(f"{path}: not valid UTF-8; save it as UTF-8")) from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not prompts:
        raise DataError(printable(f"{path}: empty; expected prompts, one a line"))
    return prompts
