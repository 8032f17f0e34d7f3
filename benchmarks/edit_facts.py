"""CounterFact edits of the bundled model, one at a time and as one batch, beside a plain ROME in the same run.

Run: python benchmarks/edit_facts.py FACTS.json --text NEUTRAL.txt [--facts 200] [--out build/edit_facts.jsonl]

FACTS is a list of prompt, subject, target_new, ground_truth, rephrase_prompt and locality_prompt. Every edit is
measured by the same code, as a low-rank change in the forward pass. The layer is named by a causal trace over the first
facts, and is the same for every method. What is measured is appended to --out; a second run goes on with it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from plain_rome import Request, padded, rome
from torch import Tensor

from readwrite_edit.align.texts import load_text
from readwrite_edit.cli.align import prepare_environment
from readwrite_edit.edit.associate import plan_associate
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.interventions.forward import edited, final_hidden
from readwrite_edit.interventions.kl import kl_and_change
from readwrite_edit.job.session import Session
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.recipe.sections import ProtectedText
from readwrite_edit.statistics import token_batches

PREFIXES = ("", "However, ", "In the news today: ", "As everyone knows, ", "She wrote that ")
ORDER = ("no edit", "closed", "optimised", "unembedding", "plain ROME")


class Meter:
    """Measures a change on a fact's prompts and on neutral text; the base's side is computed once."""

    def __init__(self, context: Context, neutral: Sequence[Sequence[int]]) -> None:
        self.model, self.tokenizer = context.model, context.tokenizer
        self.head = language_model_head(self.model)
        self.batches = list(token_batches(neutral, 4))
        with torch.no_grad():
            self.base = [self._log_probs(ids, mask) for ids, mask in self.batches]
        self.unedited = self._neutral([])

    def neutral(self, changes: Sequence[Change]) -> dict[str, float]:
        """KL(base ‖ edited) per token and perplexity of the edited model on the neutral text."""
        return self._neutral(changes) if changes else self.unedited

    def _neutral(self, changes: Sequence[Change]) -> dict[str, float]:
        kl = nll = 0.0
        count = 0
        with torch.no_grad(), edited(self.model, [changes]):
            for (ids, mask), log_p in zip(self.batches, self.base, strict=True):
                hidden, targets = self._scored(ids, mask)
                logits = self.head.logits(hidden)
                found, change = kl_and_change(logits, log_p.exp(), log_p, targets)
                at_base = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
                kl, nll, count = kl + float(found.sum()), nll - float((at_base + change).sum()), count + len(targets)
        return {"kl": kl / count, "perplexity": float(torch.tensor(nll / count).exp())}

    def fact(self, fact: dict[str, Any], changes: Sequence[Change]) -> dict[str, float]:
        """Efficacy, paraphrase and locality of one fact."""
        with torch.no_grad(), edited(self.model, [changes]):
            new, true, top = self._targets(fact["prompt"], fact)
            other_new, other_true, other_top = self._targets(fact["rephrase_prompt"], fact)
            far = self._first(fact["locality_prompt"])
        return {
            "efficacy_success": float(new > true),
            "efficacy_top1": top,
            "paraphrase_success": float(other_new > other_true),
            "paraphrase_top1": other_top,
            "target_probability": float(torch.tensor(new).exp()),
            "locality_token": float(far),
        }

    def _targets(self, prompt: str, fact: dict[str, Any]) -> tuple[float, float, float]:
        """Mean log-probability per token of the new and of the true answer, and whether the new one is the argmax."""
        start = self.tokenizer(prompt)["input_ids"]
        ends = [self.tokenizer(" " + fact[key])["input_ids"] for key in ("target_new", "ground_truth")]
        hidden = self.model.base_model(**padded([start + end[:-1] for end in ends]), use_cache=False).last_hidden_state
        found, best = [], 0.0
        for row, end in enumerate(ends):
            logits = self.head.logits(hidden[row, len(start) - 1 : len(start) - 1 + len(end)])
            wanted = torch.tensor(end)
            if row == 0:
                best = float((logits.argmax(dim=1) == wanted).all())
            found.append(float(logits.log_softmax(dim=1)[torch.arange(len(end)), wanted].mean()))
        return found[0], found[1], best

    def _first(self, prompt: str) -> int:
        ids = torch.tensor([self.tokenizer(prompt)["input_ids"]])
        return int(self.head.logits(final_hidden(self.model, ids)[:, -1]).argmax())

    def _scored(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        kept = mask[:, 1:].bool()
        return hidden[:, :-1][kept], ids[:, 1:][kept]

    def _log_probs(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head.logits(self._scored(ids, mask)[0]).log_softmax(dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="bundled:smollm2-135m-instruct")
    parser.add_argument("--facts", type=int, default=200)
    parser.add_argument("--text", default="builtin:prose_eval", help="neutral text to measure on")
    parser.add_argument("--tokens", type=int, default=384, help="of the neutral text")
    parser.add_argument("--statistics", default="builtin:prose", help="text of C")
    parser.add_argument("--statistics-tokens", type=int, default=8192)
    parser.add_argument("--layer", type=int, help="instead of the one that the trace names")
    parser.add_argument("--values", default="closed", help="values to try beside ROME: closed,unembedding,optimised")
    parser.add_argument("--singles", type=int, help="edits made one at a time (default: all facts)")
    parser.add_argument("--no-rome", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/edit_facts.jsonl"))
    args = parser.parse_args()
    prepare_environment()
    facts = json.loads(args.file.read_text(encoding="utf-8"))[: args.facts]
    bench = Bench(args, facts)
    bench.one_at_a_time()
    bench.as_one_batch()
    print_table(read_rows(args.out), facts=len(facts), layer=bench.layer)


class Bench:
    """One model, one layer, all methods."""

    def __init__(self, args: argparse.Namespace, facts: list[dict[str, Any]]) -> None:
        self.args, self.facts = args, facts
        self.layer = args.layer if args.layer is not None else self._traced_layer()
        self.context = Context(self.recipe(facts[:1], "closed"), Session(aloud=True))
        self.projection = self.context.pathways.select(["down_proj"], [self.layer])[0]
        metric = self.context.metric(self.projection)
        self.inverse = torch.linalg.inv(metric.second_moment)
        print(f"layer {self.layer}; C of {metric.tokens} tokens, shrunk by {metric.shrinkage:.4f}", flush=True)
        text = ProtectedText.model_validate({"path": args.text})
        neutral = load_text(text, self.context.tokenizer, tokens=args.tokens, max_length=96)
        self.meter = Meter(self.context, neutral)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        self.done = {(row["mode"], row["method"], row["fact"]) for row in read_rows(args.out)}

    def recipe(self, facts: Iterable[dict[str, Any]], value: str, layer: int | str | None = None) -> EditRecipe:
        """The recipe of an edit of these facts."""
        chosen = self.layer if layer is None else layer
        given = [
            {"prompt": fact["prompt"], "subject": fact["subject"], "target": " " + fact["target_new"]} for fact in facts
        ]
        return EditRecipe.model_validate(
            {
                "model": {"path": self.args.model},
                "associate": {
                    "facts": given,
                    "value": value,
                    "layers": chosen if isinstance(chosen, str) else [chosen],
                    "prefixes": len(PREFIXES) - 1,
                },
                "statistics": {"texts": self.args.statistics, "tokens": self.args.statistics_tokens},
                "controls": {"count": 0},
                "ledger": {"enter": False},
            }
        )

    def one_at_a_time(self) -> None:
        """Every fact by every method, each edit alone."""
        for index, fact in enumerate(self.facts):
            self._keep("single", "no edit", index, lambda: [])
            if self.args.singles is not None and index >= self.args.singles:
                continue
            for value in self.args.values.split(","):
                self._keep("single", value, index, lambda value=value, fact=fact: self._ours([fact], value))
            if not self.args.no_rome:
                self._keep("single", "plain ROME", index, lambda fact=fact: self._rome(fact))
            if sys.stderr.isatty() or index % 20 == 19:
                print(f"{index + 1} of {len(self.facts)} facts", flush=True)

    def as_one_batch(self) -> None:
        """All facts in one edit."""
        value = self.args.values.split(",")[0]
        if ("batch", value, len(self.facts) - 1) in self.done:
            return
        start = time.perf_counter()
        changes = self._ours(self.facts, value)
        seconds = time.perf_counter() - start
        neutral = self.meter.neutral(changes)
        for index, fact in enumerate(self.facts):
            self._append("batch", value, index, {**self.meter.fact(fact, changes), **neutral, "edit_s": seconds})

    def _keep(self, mode: str, method: str, index: int, make: Any) -> None:
        if (mode, method, index) in self.done:
            return
        start = time.perf_counter()
        changes = make()
        seconds = time.perf_counter() - start
        measured = {**self.meter.fact(self.facts[index], changes), **self.meter.neutral(changes)}
        self._append(mode, method, index, {**measured, "edit_s": seconds})

    def _append(self, mode: str, method: str, index: int, values: dict[str, float]) -> None:
        with self.args.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"mode": mode, "method": method, "fact": index, **values}) + "\n")

    def _ours(self, facts: Sequence[dict[str, Any]], value: str) -> Sequence[Change]:
        return plan_associate(self.context.again(self.recipe(facts, value))).changes

    def _rome(self, fact: dict[str, Any]) -> Sequence[Change]:
        module = self.context.model.get_submodule(self.projection.module)
        request = Request(fact["prompt"], fact["subject"], " " + fact["target_new"])
        left, right = rome(self.context.model, self.context.tokenizer, module, request, PREFIXES, self.inverse)
        return [Change(self.projection, LowRank(left.unsqueeze(1), right.unsqueeze(0)))]

    def _traced_layer(self) -> int:
        """The layer that most of the first facts' own traces name together."""
        context = Context(self.recipe(self.facts[:16], "closed", "auto"), Session(aloud=True))
        return plan_associate(context).changes[0].projection.layer


def read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def print_table(rows: list[dict[str, Any]], *, facts: int, layer: int) -> None:
    """Means over the facts, as Markdown."""
    base = {row["fact"]: row for row in rows if row["method"] == "no edit"}
    print(f"\nlayer {layer}\n")
    print("| | facts | efficacy | top-1 | paraphrase | top-1 | locality | KL | perplexity | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for mode, method in sorted({(row["mode"], row["method"]) for row in rows}, key=_place):
        own = [row for row in rows if (row["mode"], row["method"]) == (mode, method) and row["fact"] < facts]
        kept = [float(row["locality_token"] == base[row["fact"]]["locality_token"]) for row in own]
        names = ("efficacy_success", "efficacy_top1", "paraphrase_success", "paraphrase_top1")
        shares = [f"{statistics.mean(row[name] for row in own):.1%}" for name in names]
        texts = [f"{statistics.mean(kept):.1%}", f"{statistics.mean(row['kl'] for row in own):.4f}"]
        texts.append(f"{statistics.mean(row['perplexity'] for row in own):.2f}")
        texts.append(f"{statistics.median(row['edit_s'] for row in own):.2f}")
        name = method if mode == "single" else f"{method}, all at once"
        print(f"| {name} | {len(own)} | {' | '.join([*shares, *texts])} |")


def _place(key: tuple[str, str]) -> tuple[bool, int]:
    return key[0] == "batch", ORDER.index(key[1])


if __name__ == "__main__":
    main()
