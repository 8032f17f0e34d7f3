"""What every intervention works with: the model, its pathways, and the metric of each matrix' input."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.align.texts import load_text, supports_chat
from readwrite_edit.cache import cache_folder
from readwrite_edit.edit.metric import Metric, metric_of
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.errors import DataError, EditError
from readwrite_edit.interventions.controls import nearest_first
from readwrite_edit.job.session import Session
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.identity import Base
from readwrite_edit.models.loading import build_meta_model, load_as_asked, load_tokenizer
from readwrite_edit.models.pathways import Pathways, Projection, find_pathways
from readwrite_edit.models.source import ModelSource, parse_source
from readwrite_edit.recipe.sections import ProtectedText
from readwrite_edit.statistics import Statistics, StatisticsStore, mix, open_statistics
from readwrite_edit.statistics.cached import cached_statistics
from readwrite_edit.statistics.moments import named
from readwrite_edit.statistics.store import digest_of

_OF_FILES = ("extract", "project_adapter")  # they aim at nothing that controls could be compared in
_RANK = 16  # where the agreement of two halves of a text is reported


@dataclass
class Context:
    """A model to edit, loaded when it is first needed.

    Attributes:
        recipe: The recipe of the edit.
        session: Words for the user, progress, and whether to stop.
    """

    recipe: EditRecipe
    session: Session
    _sites: dict[str, Statistics] = field(default_factory=dict)
    _metrics: dict[str, Metric] = field(default_factory=dict)

    @cached_property
    def source(self) -> ModelSource:
        """Where the model comes from."""
        return parse_source(self.recipe.model.path, self.recipe.model.revision)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the model."""
        return load_tokenizer(self.source)

    @cached_property
    def pathways(self) -> Pathways:
        """Of the model, found without its weights."""
        return find_pathways(build_meta_model(self.source))

    @cached_property
    def model(self) -> PreTrainedModel:
        """The bare model, in evaluation mode; nothing ever writes into its weights."""
        return load_as_asked(self.source, self.recipe.model).requires_grad_(False)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's weights."""
        return weights_hash(self.model)

    @property
    def without_weights(self) -> bool:
        """Whether the edit is made without loading the model: files are compared, and nothing is certified."""
        return self.recipe.kind in _OF_FILES and not self.recipe.measure.certify

    def base(self, *, loaded: bool = True) -> Base:
        """What adapters and ledgers record of the model.

        Args:
            loaded: Whether its weights may be loaded; if not, their hash is left out.
        """
        return Base.of(
            self.source,
            weights_hash=self.fingerprint if loaded else None,
            dtype=self.model.dtype if loaded else self.recipe.model.dtype,
            quantization=self.recipe.model.quantization,
        )

    def again(self, recipe: EditRecipe) -> Context:
        """A context for another edit of the same model over the same statistics; nothing is loaded twice.

        Raises:
            EditError: The recipes differ in their model or statistics.
        """
        if (recipe.model, recipe.statistics) != (self.recipe.model, self.recipe.statistics):
            raise EditError("another model or other statistics need a context of their own")
        other = Context(recipe, self.session, self._sites, self._metrics)
        loaded = ("source", "tokenizer", "pathways", "model", "fingerprint")
        other.__dict__.update({name: self.__dict__[name] for name in loaded if name in self.__dict__})
        return other

    def statistics(self, projections: Iterable[Projection]) -> Statistics:
        """Second moments of what the projections read, over the recipe's texts; from the cache where it has them.

        Raises:
            DataError: A text or the statistics file is missing, empty or damaged, or lacks a site.
        """
        wanted = {projection.site: projection for projection in projections}
        if self.recipe.statistics.file is not None:
            found = self._from_file(self.recipe.statistics.file, wanted)
            self._sites |= dict.fromkeys(wanted, found)
            return found
        lacking = [projection for site, projection in wanted.items() if site not in self._sites]
        if lacking:
            readers = [*lacking, *self._companions(lacking)]
            found = self.statistics_of(self.recipe.statistics.texts, readers, title="statistics' text")
            self._sites |= dict.fromkeys(found.sites, found)
        sites = {site: self._sites[site].sites[site] for site in wanted}
        return Statistics(sites, min(moments.count for moments in sites.values()))

    def _from_file(self, path: str, wanted: Collection[str]) -> Statistics:
        """A statistics file that holds the sites, and is of this model as far as that is known."""
        found = open_statistics(path)
        self._require_sites(path, found, wanted)
        recorded = found.origin.get("weights_sha256")
        if recorded is not None and "model" in self.__dict__ and recorded != self.fingerprint:
            raise DataError(
                f"{path}: statistics of another model (weights hash {recorded[:12]}, this model's is "
                f"{self.fingerprint[:12]}): collect them on this one, or leave statistics.file out"
            )
        return found

    def _require_sites(self, path: str, found: Statistics, wanted: Collection[str]) -> None:
        """Refuse a file that lacks a site, with the command that collects all that is asked for."""
        lacking = [site for site in wanted if site not in found.sites]
        if not lacking:
            return
        held = [site for site in self.pathways.sites() if site in found.sites]
        kinds = ",".join(dict.fromkeys(site.rpartition(".")[2] for site in (*held, *wanted)))
        others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DataError(
            f"{path}: no statistics of site {lacking[0]!r}{others}; it holds {named(found.sites)}"
            f"{'' if held else ' (of another model?)'}; collect them with readwrite-edit probe activations "
            f"{self.recipe.model.path} --sites {kinds} --save FILE"
        )

    def _companions(self, projections: Iterable[Projection]) -> list[Projection]:
        """The nearest matrices of the same roles, which controls will ask for: one pass over the texts serves both."""
        controls = self.recipe.controls
        if not controls.count or self.recipe.kind in _OF_FILES:
            return []
        known = {(p.layer, p.role): p for p in self.pathways.projections}
        found: dict[str, Projection] = {}
        for projection in projections:
            near = [known.get((projection.layer + step, projection.role)) for step in nearest_first(controls.others)]
            found |= {one.site: one for one in [p for p in near if p is not None][: controls.others]}
        return [one for site, one in found.items() if site not in self._sites]

    def statistics_of(
        self, texts: Iterable[ProtectedText], projections: Iterable[Projection], *, title: str
    ) -> Statistics:
        """Second moments over texts, mixed by their weights; a text in chat format is left out where none can be read.

        Args:
            texts: Which.
            projections: What reads them.
            title: What the texts are, for the user.
        """
        options, readers = self.recipe.statistics, tuple(projections)
        parts = []
        for text in texts:
            if text.format == "chat" and not supports_chat(self.tokenizer):
                self.session.say(f"{text.path}: left out, the model's tokenizer has no chat template")
                continue
            sequences = load_text(text, self.tokenizer, tokens=options.tokens, max_length=options.max_length)
            part = cached_statistics(
                self.model,
                sequences,
                readers,
                StatisticsStore(cache_folder() / "statistics"),
                weights_hash=self.fingerprint,
                title=f"{title} '{text.name}'",
                rank=_RANK,
                batch_size=options.batch_size,
                first_position=options.first_position,
                say=self.session.say,
            )
            parts.append((part, text.weight))
        return mix(parts) if len(parts) != 1 else parts[0][0]

    def has_statistics(self, projection: Projection) -> bool:
        """Whether second moments of what a projection reads are at hand without reading a text."""
        return self.recipe.statistics.file is not None or projection.site in self._sites

    def known_metric(self, projection: Projection) -> Metric | None:
        """The metric of a projection's input where the edit has asked for it; nothing is computed."""
        return self._metrics.get(projection.site)

    def statistics_hash(self, projections: Iterable[Projection]) -> str | None:
        """SHA-256 over the sums of what the projections read, as far as they were used; None where none were."""
        sites = {projection.site for projection in projections}
        used = [f"{site}\0{digest_of(self._sites[site], site)}\n" for site in sorted(sites & self._sites.keys())]
        if not used:
            return None
        return hashlib.sha256("".join(used).encode()).hexdigest()

    def metric(self, projection: Projection) -> Metric:
        """C of what a projection reads, fit to be inverted.

        Raises:
            EditError: It is singular and may not be shrunk.
        """
        site = projection.site
        if site not in self._metrics:
            moments = self.statistics([projection]).sites[site]
            C, name = moments.second_moment(), f"the input of site '{site}'"
            self._metrics[site] = metric_of(C, moments.count, self.recipe.statistics.shrinkage, name=name)
        return self._metrics[site]
