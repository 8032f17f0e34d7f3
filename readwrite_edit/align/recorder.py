"""The trainer callback that writes a run's files, watches for trouble and heeds requests to stop."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from readwrite_edit.adapter import Target, freeze_basis
from readwrite_edit.align.checkpoints import seal_checkpoint
from readwrite_edit.align.geometry_log import GeometryLog
from readwrite_edit.align.trainer import NonFiniteError
from readwrite_edit.runs.writer import RunWriter

_WINDOW = 5
_FALL_NATS = 1.0
_MOST_DETAILED_ROWS = 30_000  # about 30 MB of curves and spectra in geometry.jsonl
TIMINGS = {
    "eval_runtime",
    "eval_samples_per_second",
    "eval_steps_per_second",
    "eval_model_preparation_time",
}
_SHOWN = (
    ("loss", "loss {:.4f}"),
    ("rewards/margins", "margin {:+.3f}"),
    ("rewards/accuracies", "accuracy {:.0%}"),
    ("tokens_per_s", "{:.0f} tok/s"),
)


class RunRecorder(TrainerCallback):
    """Writes metrics, geometry and heartbeat; stops the trainer when asked to.

    Args:
        writer: Of the run folder.
        geometry: Measures the adapter.
        targets: Frozen again when training begins: a load undoes PEFT's register.
        every: Steps between two snapshots of the geometry.
        beta: Of the objective, to read rewards as log-probabilities.
        interrupted: Whether a signal asked for an end.
    """

    def __init__(
        self,
        writer: RunWriter,
        geometry: GeometryLog,
        targets: tuple[Target, ...],
        *,
        every: int,
        beta: float,
        interrupted: Callable[[], bool],
    ) -> None:
        self.writer, self.geometry, self.targets = writer, geometry, targets
        self.every, self.interrupted = every, interrupted
        self.alarm = FallAlarm(beta)
        self.stopped = False
        self.display: Display | None = None
        self.last_tokens = 0.0
        self.last_time = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Freeze the basis (again, after a resume), start the clock, record the geometry of the start."""
        freeze_basis(given["model"], self.targets)
        self.display = Display(state.global_step, state.max_steps)
        self.last_time = time.monotonic()
        self.writer.heartbeat(state.global_step, state.max_steps)
        if state.global_step == 0:
            self._log_geometry(state)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Refuse gradients that are not finite before they reach the weights; fp16's scaler looks after its own."""
        if args.fp16:
            return
        for name, parameter in given["model"].named_parameters():
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                raise NonFiniteError(f"the gradient of {name} is not finite at step {state.global_step + 1}")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Heartbeat, geometry, and a clean end where one was asked for."""
        self.writer.heartbeat(state.global_step)
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._log_geometry(state)
        if state.global_step < state.max_steps and (self.writer.stop_requested() or self.interrupted()):
            self.stopped = control.should_training_stop = control.should_save = True
            self.writer.mark("stopping")
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """One line of metrics; evaluations are recorded by whoever asks for them."""
        values = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" not in values:
            if "eval_loss" in values:
                evaluated = _evaluated(values, trained=state.global_step > 0)
                self.writer.log_metrics(state.global_step, evaluated, kind="eval")
            return
        values["tokens_per_s"] = self._rate(values.get("num_tokens", 0.0))
        self.writer.log_metrics(state.global_step, values)
        if self.display:
            self.display.show(state.global_step, values)
        self._watch(state.global_step, values)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Seal the checkpoint that was just written."""
        seal_checkpoint(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leave the terminal tidy."""
        self.close()

    def close(self) -> None:
        """Take the progress bar off the terminal; harmless to repeat."""
        if self.display:
            self.display.close()
            self.display = None

    def _log_geometry(self, state: TrainerState) -> None:
        """A snapshot; the details of every matrix in the last one, and in as many others as the file has room for."""
        snapshots = state.max_steps // self.every + 2
        stride = math.ceil(snapshots * self.geometry.matrices / _MOST_DETAILED_ROWS)
        detailed = state.global_step == state.max_steps or state.global_step // self.every % stride == 0
        self.writer.log_geometry(state.global_step, self.geometry.rows(detailed=detailed))

    def _watch(self, step: int, values: Mapping[str, float]) -> None:
        fall = self.alarm.heed(values)
        if fall is None:
            return
        chosen, rejected = fall
        message = (
            f"the chosen answers grow less likely along with the rejected ones: {chosen:+.1f} and {rejected:+.1f} nats "
            f"against the reference, mean of {_WINDOW} lines"
        )
        self.writer.log_metrics(
            step, {"chosen_change": chosen, "rejected_change": rejected}, kind="alarm", message=message
        )
        if self.display:
            self.display.say(f"ALARM step {step}: {message}")

    def _rate(self, tokens: float) -> float:
        """Tokens a second since the last line; the trainer's count starts anew in each process."""
        now = time.monotonic()
        rate = max(0.0, tokens - self.last_tokens) / max(now - self.last_time, 1e-9)
        self.last_tokens, self.last_time = tokens, now
        return rate


class FallAlarm:
    """Notices when the chosen log-probability falls with the rejected one.

    Preference losses only see the difference of the two: a policy can win it by
    making both less likely, and then it forgets how to answer at all.

    Args:
        beta: Factor between rewards and log-probabilities.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.recent: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self.raised = False

    def heed(self, values: Mapping[str, float]) -> tuple[float, float] | None:
        """Take in one line of metrics.

        Args:
            values: With TRL's ``rewards/chosen`` and ``rewards/rejected``.

        Returns:
            Mean change of the chosen and rejected log-probability in nats when the alarm goes off; None
            else, also while it is on already.
        """
        if "rewards/chosen" not in values or "rewards/rejected" not in values:
            return None
        self.recent.append((values["rewards/chosen"] / self.beta, values["rewards/rejected"] / self.beta))
        if len(self.recent) < _WINDOW:
            return None
        chosen, rejected = (sum(column) / _WINDOW for column in zip(*self.recent, strict=True))
        falling = chosen < -_FALL_NATS and rejected < 0
        news, self.raised = falling and not self.raised, falling
        return (chosen, rejected) if news else None


class Display:
    """A progress bar with the time left on a terminal, and a plain line a log entry everywhere."""

    def __init__(self, step: int, max_steps: int) -> None:
        self.max_steps = max_steps
        self.bar = tqdm(
            total=max_steps, initial=step, unit="step", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False,
            desc="training", dynamic_ncols=True,
        )  # fmt: skip

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """One line of figures, and the bar moved on."""
        figures = "  ".join(form.format(values[name]) for name, form in _SHOWN if name in values)
        self.say(f"step {step:>{len(str(self.max_steps))}}/{self.max_steps}  {figures}")
        self.bar.update(step - self.bar.n)

    def say(self, line: str) -> None:
        """A line above the bar."""
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


def _evaluated(values: Mapping[str, float], *, trained: bool) -> dict[str, float]:
    """The quantities of an evaluation, without its timings; before training all rewards are zero and none is right."""
    left_out = TIMINGS if trained else {*TIMINGS, "eval_rewards/accuracies"}
    return {name: value for name, value in values.items() if name.startswith("eval_") and name not in left_out}
