"""The result of an evaluation as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from readwrite_edit.cli.table import print_table
from readwrite_edit.terminal import printable

_NONE = "–"
_COMPARED = ("kl", "price", "perplexity", "base_perplexity", "perplexity_ratio")
_HEADINGS = {
    "kl": "KL to the base",
    "price": "price",
    "perplexity": "perplexity",
    "base_perplexity": "of the base",
    "perplexity_ratio": "ratio",
}
_LEGEND = {
    "kl": "KL in nats per token",
    "price": "price: the predicted squared change of a matrix's output",
}


def print_result(result: Mapping[str, Any]) -> None:
    """Print figures with their intervals; the notes were told already.

    Args:
        result: As it is filed.
    """
    subject, figures = result["subject"], result["figures"]
    what = "adapter" if subject["adapter"] else "model"
    against = f", base {subject['base']}" if subject["base"] else ", nothing to compare with"
    print(printable(f"{what} {subject['name']}{against} ({subject['dtype']}, {subject['device']})"))
    if "rows" in figures:
        _print_rows(result)
    _print_texts(result)
    if "answers" in figures:
        _print_answers(result)
    if result["lm_eval"]:
        _print_harness(result["lm_eval"])


def _print_rows(result: Mapping[str, Any]) -> None:
    about, figures = result["rows"], result["figures"]["rows"]
    print()
    print(printable(f"preferences: {about['path']}, {about['count']} rows, β {about['beta']:g}"))
    rows = [["metric", "value", "95 %", "unit"]]
    rows += [[name, _value(one), _interval(one), result["metrics"][name]["unit"]] for name, one in figures.items()]
    print_table(rows)


def _print_texts(result: Mapping[str, Any]) -> None:
    """One line a text; the price, which was predicted, beside the KL, which was measured."""
    parts = {name: result["figures"][f"text {name}"] for name in result["texts"]}
    shown = [metric for metric in _COMPARED if any(metric in part for part in parts.values())]
    legend = "; ".join(_LEGEND[metric] for metric in shown if metric in _LEGEND)
    print(f"\ntexts: {legend}" if legend else "\ntexts")
    headings = [heading for metric in shown for heading in _columns(metric)]
    rows = [["text", "format", "tokens", *headings]]
    for name, about in result["texts"].items():
        cells = [cell for metric in shown for cell in _cells(metric, parts[name].get(metric))]
        rows.append([name, about["format"], str(about["tokens"]), *cells])
    print_table(rows)


def _columns(metric: str) -> list[str]:
    return [_HEADINGS[metric]] if metric == "price" else [_HEADINGS[metric], "95 %"]


def _cells(metric: str, figure: Mapping[str, Any] | None) -> list[str]:
    if figure is None:
        return [_NONE] * len(_columns(metric))
    return [_value(figure)] if metric == "price" else [_value(figure), _interval(figure)]


def _print_answers(result: Mapping[str, Any]) -> None:
    figures, settings = result["figures"], result["settings"]
    count, most = len(result["generations"]), settings["max_new_tokens"]
    print(f"\nanswers to {count} prompts, greedy, at most {most} tokens; repetition of {settings['ngram']}-grams")
    sides = {"model": figures["answers"]}
    if "base_answers" in figures:
        sides["base"] = figures["base_answers"]
    rows = [["metric", *(heading for side in sides for heading in (side, "95 %")), "unit"]]
    for name in figures["answers"]:
        cells = [cell for side in sides.values() for cell in (_value(side[name]), _interval(side[name]))]
        rows.append([name, *cells, result["metrics"][name]["unit"]])
    print_table(rows)


def _print_harness(filed: Mapping[str, Any]) -> None:
    limit = f", at most {filed['limit']} examples a task" if filed["limit"] else ""
    print()
    print(printable(f"lm-evaluation-harness {filed['version']}{limit}"))
    rows: list[Sequence[str]] = [["task", "metric", "value", "± standard error"]]
    for task, values in filed.get("results", {}).items():
        for name, value in values.items():
            metric, comma, rest = name.partition(",")
            if comma and isinstance(value, int | float) and not metric.endswith("_stderr"):
                error = values.get(f"{metric}_stderr,{rest}")
                rows.append([task, name, f"{value:.4g}", f"{error:.2g}" if isinstance(error, int | float) else _NONE])
    print_table(rows)


def _value(figure: Mapping[str, Any]) -> str:
    if figure["not_numbers"]:
        return f"NaN ({figure['not_numbers']} of {figure['n']})"
    return "inf" if figure["value"] is None and figure["n"] else _number(figure["value"])


def _interval(figure: Mapping[str, Any]) -> str:
    low, high = figure["low"], figure["high"]
    return _NONE if low is None and high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4g}"
