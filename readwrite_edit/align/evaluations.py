"""Evaluations during a run: what each held-out row and each text says of the policy, as it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from readwrite_edit.align.trainer import PreferenceTrainer
from readwrite_edit.durable import finite_or_none
from readwrite_edit.evaluate.records import Evaluation, TextScores, as_line
from readwrite_edit.evaluate.texts import TextProbe, base_predictor, evaluating, means, predictor
from readwrite_edit.progress import progress_bar
from readwrite_edit.runs.writer import RunWriter

_REPORTED = ("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "eval_logps/chosen", "eval_logps/rejected")


class EvaluationRecorder(TrainerCallback):
    """Measures the texts whenever the trainer evaluates, and records all of it row by row.

    Args:
        writer: Of the run folder.
        trainer: Whose policy is measured.
        texts: Name to token sequences.
        beta: Of the objective.
        price: The present price of the update on the protected text; None where there is none.
        shared: Of each text, and of the held-out ``rows``, the share that had a part in the training.
    """

    def __init__(
        self,
        writer: RunWriter,
        trainer: PreferenceTrainer,
        texts: Mapping[str, Sequence[Sequence[int]]],
        *,
        beta: float,
        price: Callable[[], float | None],
        shared: Mapping[str, float],
    ) -> None:
        self.writer, self.trainer, self.beta, self.price, self.shared = writer, trainer, beta, price, shared
        self.probes = {name: TextProbe(sequences) for name, sequences in texts.items()}
        self.step: int | None = None
        self.after: dict[str, float | None] = {}
        self.base: dict[str, float | None] = {}

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Record an evaluation; the untrained policy is its base, and nothing is to be learnt of it."""
        if state.global_step == 0:
            return
        scores = {name: self._measured(name, probe) for name, probe in self.probes.items()}
        price = self.price()
        evaluation = Evaluation(
            step=state.global_step,
            beta=self.beta,
            rows=self.trainer.row_scores,
            texts=scores,
            price={} if price is None else {"protected": price},
            shared=self.shared,
        )
        self.writer.log_evaluation(state.global_step, as_line(evaluation))
        figures = {name: means(text) for name, text in scores.items()}
        self.base = {f"kl_{name}": 0.0 for name in figures}
        self.base |= {f"perplexity_{name}": text["base_perplexity"] for name, text in figures.items()}
        on_texts = {
            f"{figure}_{name}": text[figure] for name, text in figures.items() for figure in ("kl", "perplexity")
        }
        self.writer.log_metrics(state.global_step, on_texts, kind="eval")
        self.step, self.after = state.global_step, finite_or_none({**reported(metrics or {}), **on_texts})

    def at_the_end(self) -> dict[str, float | None]:
        """The figures of the policy as it stands, measured unless the last evaluation was of it."""
        if self.step != self.trainer.state.global_step:
            self.trainer.evaluate()
        return self.after

    def _measured(self, name: str, probe: TextProbe) -> TextScores:
        policy = self.trainer.policy
        with evaluating(policy), progress_bar(f"KL and perplexity on '{name}'", "seq") as advance:
            return probe.measure(predictor(policy), base_predictor(policy), advance)


def before_training(trainer: PreferenceTrainer) -> dict[str, float | None]:
    """Held-out figures of the untrained adapter: all implicit rewards are zero, so its accuracy is None."""
    return {**finite_or_none(reported(trainer.evaluate())), "eval_rewards/accuracies": None}


def reported(metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures of TRL's evaluation that the end table has."""
    return {name: metrics[name] for name in _REPORTED if name in metrics}
