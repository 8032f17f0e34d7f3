"""Clean, noised and partly restored runs of one prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.edit.locate.prompts import TracePrompt
from readwrite_edit.errors import ModelError
from readwrite_edit.interventions.forward import final_hidden, layers_of, starting_at, unedited
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import Pathways

KINDS = ("hidden", "mlp", "attention")
ROLE_OF: Mapping[str, str] = {"mlp": "down_proj", "attention": "o_proj"}
Sites = Mapping[str, Mapping[int, nn.Module]]
_TOKENS = 2048  # in a pass: enough to keep every core busy, few enough for its memory
_ROWS = 32  # whose logits are held at once
LAYERS_APART = 4  # that runs of one pass may start apart
_TOLERANCE = 1e-3


def sites_of(model: PreTrainedModel, pathways: Pathways, kinds: Sequence[str]) -> Sites:
    """Kind and layer to the module whose output is put back.

    Args:
        model: Bare model.
        pathways: Of the model.
        kinds: ``hidden`` (a whole layer), ``mlp`` (``down_proj``), ``attention`` (``o_proj``).

    Raises:
        ModelError: The model has no such matrix, with the reason.
    """
    found: dict[str, Mapping[int, nn.Module]] = {}
    for kind in kinds:
        if kind == "hidden":
            found[kind] = dict(enumerate(layers_of(model)))
            continue
        try:
            chosen = pathways.select([ROLE_OF[kind]])
        except ModelError as error:
            raise ModelError(f"kind {kind!r} can not be traced: {error}; leave it out of the kinds") from error
        found[kind] = {projection.layer: model.get_submodule(projection.module) for projection in chosen}
    return found


class Restoration(NamedTuple):
    """What one run puts back: the outputs of some layers, lowest first, at some positions."""

    layers: Sequence[int]
    positions: Sequence[int]


class Answers(NamedTuple):
    """What runs predict, float64 on the CPU.

    Attributes:
        probability: Of the whole target.
        kl: KL(clean ‖ run) of the prediction after the prompt, nats.
    """

    probability: Tensor
    kl: Tensor


class PromptRuns:
    """The runs of one prompt: clean, noised, and noised with parts of the clean one put back.

    Args:
        model: Bare model in evaluation mode.
        pathways: Of the model.
        sites: Modules whose outputs may be put back.
        prompt: The prompt.
        noise: What is added to the subject's embeddings, shape (samples, subject tokens, d_model).

    Attributes:
        target: Tokens whose probability is followed.
        clean: Their probability in the clean run.
        corrupted: What is predicted under each draw of the noise, each of shape (samples,).
        whole: Compute every layer in each run; False leaves out those below the restored one.
    """

    def __init__(
        self, model: PreTrainedModel, pathways: Pathways, sites: Sites, prompt: TracePrompt, noise: Tensor
    ) -> None:
        self._model, self._sites, self._noise = model, sites, noise
        self._head, self._prompt = language_model_head(model), prompt
        self._ids = torch.tensor([prompt.ids + prompt.target[:-1]], device=model.device)
        self.whole = False
        with torch.no_grad():
            with recorded(sites) as self._outputs:
                hidden = final_hidden(model, self._ids)
            self._log_p = self._head.logits(hidden[:, len(prompt.ids) - 1]).log_softmax(dim=1)  # (1, vocabulary)
            self.target = prompt.target or (int(self._log_p.argmax()),)
            self.clean = float(self._answers(hidden).probability)
            with self._noised(1):
                noised = unedited(model, self._rows(1), pathways.select(["q_proj"]))
            self._states, self._as_tuple = noised.states, noised.as_tuple
            self.corrupted = self._answers(noised.hidden)

    @property
    def length(self) -> int:
        """Tokens of a run: the prompt's, and the target's but its last."""
        return self._ids.shape[1]

    def restored(self, kind: str, restorations: Sequence[Restoration]) -> Answers:
        """What noised runs predict with clean outputs put back.

        Runs that start at nearby layers share a pass: a batch of a few tokens
        costs the reading of every weight, one of some hundreds hardly more.

        Args:
            kind: Whose output.
            restorations: What each run puts back, in ascending order of their lowest layers.

        Returns:
            Each of shape (runs, samples).
        """
        with torch.no_grad():
            parts = [self._restored(kind, part) for part in self._passes(restorations)]
        return Answers(*map(torch.cat, zip(*parts, strict=True)))

    def check_from_layer_on(self, kind: str) -> bool:
        """Try one pass from the middle of the model on with nothing put back; where it differs, all become whole."""
        layers = sorted(self._sites[kind])
        found = self.restored(kind, [Restoration((layers[len(layers) // 2],), ())]).probability[0]
        self.whole = not torch.allclose(found, self.corrupted.probability, rtol=_TOLERANCE, atol=0)
        return not self.whole

    def _passes(self, restorations: Sequence[Restoration]) -> Iterator[list[Restoration]]:
        """Runs to compute together: few enough tokens, and few layers that some of them need not compute."""
        most = max(1, _TOKENS // (len(self._noise) * self.length))
        together: list[Restoration] = []
        for one in restorations:
            if together and (len(together) == most or one.layers[0] - together[0].layers[0] >= LAYERS_APART):
                yield together
                together = []
            together.append(one)
        yield together

    def _restored(self, kind: str, together: Sequence[Restoration]) -> Answers:
        samples, runs = len(self._noise), len(together)
        first = together[0].layers[0]
        with ExitStack() as during:
            for layer in sorted({layer for one in together for layer in one.layers}):
                where = torch.zeros(runs, self.length, dtype=torch.bool)
                for run, one in enumerate(together):
                    where[run, list(one.positions)] = layer in one.layers
                rows = where.repeat_interleave(samples, dim=0).to(self._ids.device)  # (runs · samples, length)
                hook = _putting_back(self._outputs[kind, layer], rows)
                during.callback(self._sites[kind][layer].register_forward_hook(hook).remove)
            # In front of the first layer there is no layer to hand on a state: the embeddings get their noise again.
            during.enter_context(self._noised(runs) if self.whole or first == 0 else self._from(first, runs))
            hidden = final_hidden(self._model, self._rows(runs))
        return Answers(*(found.view(runs, samples) for found in self._answers(hidden)))

    def _rows(self, runs: int) -> Tensor:
        return self._ids.expand(runs * len(self._noise), -1)

    def _from(self, layer: int, runs: int) -> AbstractContextManager[None]:
        state = self._states[layer].repeat(runs, 1, 1)
        return starting_at(self._model, layer, state, as_tuple=self._as_tuple)

    @contextmanager
    def _noised(self, runs: int) -> Iterator[None]:
        """Add the noise to the subject's embeddings of each run."""
        span = slice(*self._prompt.subject_positions)

        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, span] += self._noise.repeat(runs, 1, 1).to(output)
            return output

        handle = self._model.get_input_embeddings().register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _answers(self, hidden: Tensor) -> Answers:
        """What each row predicts after the prompt, (rows, length, d_model) → each (rows,)."""
        scored = hidden[:, len(self._prompt.ids) - 1 :]  # one position for each token of the target
        wanted = torch.tensor(self.target, device=hidden.device)
        found = []
        for rows in scored.split(_ROWS):
            log_q = self._head.logits(rows.flatten(0, 1)).log_softmax(dim=1).unflatten(0, rows.shape[:2])
            followed = log_q.gather(2, wanted.expand(len(rows), -1).unsqueeze(2)).sum(dim=(1, 2))
            kl = (self._log_p.exp() * (self._log_p - log_q[:, 0])).sum(dim=1)
            found.append((followed.double().exp().cpu(), kl.double().cpu()))
        return Answers(*map(torch.cat, zip(*found, strict=True)))


@contextmanager
def recorded(sites: Sites) -> Iterator[dict[tuple[str, int], Tensor]]:
    """Keep what the modules put out for one sequence: kind and layer to (length, width)."""
    outputs: dict[tuple[str, int], Tensor] = {}

    def keeping(key: tuple[str, int]) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            outputs[key] = tensor.reshape(-1, tensor.shape[-1]).clone()  # Falcon adds to it in place

        return hook

    with ExitStack() as hooks:
        for kind, modules in sites.items():
            for layer, module in modules.items():
                hooks.callback(module.register_forward_hook(keeping((kind, layer))).remove)
        yield outputs


def _putting_back(clean: Tensor, where: Tensor) -> Callable[..., Any]:
    """Hook that replaces the output by the clean one where ``where``, (rows, length), says so."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        rows = tensor.reshape(*where.shape, -1)
        rows = torch.where(where.unsqueeze(2), clean, rows).reshape(tensor.shape)
        return (rows, *output[1:]) if isinstance(output, tuple) else rows

    return hook
