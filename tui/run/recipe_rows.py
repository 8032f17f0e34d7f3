"""A run's recipe beside its default: the shipped recipe of its name, or else the defaults of its sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.recipe import Recipe, recipe_text, shipped_recipes
from readwrite_edit.recipe.reading import parse_as
from readwrite_edit.runs.comparison import flat, recipe_values
from readwrite_edit.runs.reader import RunView

SAME, DIFFERENT, ADDED, ABSENT = " ", "≠", "+", "−"
_OWN = ("command", "provenance")  # what a run adds to its recipe


@dataclass(frozen=True)
class RecipeRow:
    """One key.

    Attributes:
        key: Dotted.
        sign: Whether it is the default's, another's, only the run's, or only the default's.
        value: Of the run; None for a null or where it has none.
        default: None likewise.
    """

    key: str
    sign: str
    value: Any
    default: Any


@dataclass(frozen=True)
class RecipeReading:
    """A recipe beside its default; every text in it is data.

    Attributes:
        rows: Key by key, in the recipe's order.
        beside: What the default is, in words; empty where there is none.
        provenance: What the run wrote of itself: its command, versions, hashes.
        problem: Why there is nothing; empty where there is.
    """

    rows: tuple[RecipeRow, ...] = ()
    beside: str = ""
    provenance: tuple[tuple[str, str], ...] = ()
    problem: str = ""

    @property
    def differing(self) -> int:
        """How many keys are not as in the default."""
        return sum(row.sign != SAME for row in self.rows)


def read_recipe(view: RunView) -> RecipeReading:
    """Read a run's recipe and find its default; for a worker. What can not be read is said, not raised."""
    try:
        values = recipe_values(view.path)
    except ReadWriteEditError as error:
        return RecipeReading(problem=str(error))
    if not isinstance(values, dict):
        return RecipeReading(problem="recipe.yaml holds no recipe.")
    own = [(str(name), str(item)) for key in _OWN for name, item in _named(key, values.pop(key, None))]
    beside, default = _default(view, values)
    return RecipeReading(
        rows=tuple(_rows(values, default) if beside else (RecipeRow(*row) for row in _alone(values))),
        beside=beside,
        provenance=tuple(own),
    )


def _named(key: str, value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else [(key, value)] if isinstance(value, str) else []


def _rows(values: Mapping[str, Any], default: Mapping[str, Any]) -> list[RecipeRow]:
    run, shipped = dict(flat(values)), dict(flat(default))
    rows = [RecipeRow(key, _sign(key, run, shipped), value, shipped.get(key)) for key, value in run.items()]
    rows += [RecipeRow(key, ABSENT, None, value) for key, value in shipped.items() if _lost(key, value, run)]
    return _by_section(rows)


def _lost(key: str, value: Any, run: Mapping[str, Any]) -> bool:
    """Whether the run has nothing at all at or below a key of the default that says something."""
    if key in run or value in (None, [], {}):
        return False
    return not any(other.startswith(f"{key}.") or key.startswith(f"{other}.") for other in run)


def _sign(key: str, run: Mapping[str, Any], shipped: Mapping[str, Any]) -> str:
    if key not in shipped:
        return SAME if run[key] in (None, [], {}) else ADDED
    return SAME if _equal(run[key], shipped[key]) else DIFFERENT


def _equal(value: Any, default: Any) -> bool:
    """Whether YAML means the same by both: 2 and 2.0 are, 1 and true are not."""
    return value == default and isinstance(value, bool) == isinstance(default, bool)


def _alone(values: Mapping[str, Any]) -> list[tuple[str, str, Any, Any]]:
    return [(key, SAME, value, None) for key, value in flat(values)]


def _by_section(rows: list[RecipeRow]) -> list[RecipeRow]:
    """Rows of one section together, in the order in which sections first come."""
    sections = list(dict.fromkeys(row.key.partition(".")[0] for row in rows))
    return sorted(rows, key=lambda row: sections.index(row.key.partition(".")[0]))


def _default(view: RunView, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a run's recipe is compared with, in words and as values; empty for a kind without defaults."""
    if view.kind == "probe":
        return _probe_default(values)
    if view.kind not in ("align", "edit"):
        return "", {}
    root: Any = Recipe
    if view.kind == "edit":
        from readwrite_edit.edit.settings import EditRecipe

        root = EditRecipe
    name = view.recipe.removesuffix(".yaml")
    if any(shipped.name == name for shipped in shipped_recipes()):
        try:
            shipped = parse_as(root, recipe_text(name)).model_dump(mode="json")
            given = {key: value for key, value in shipped.items() if value is not None and key not in _OWN}
            return f"the shipped {name}", given
        except ReadWriteEditError:  # a recipe of another kind took its name
            pass
    default = _defaults(root, values)
    return "the defaults of its sections", {key: value for key, value in default.items() if key not in _OWN}


def _probe_default(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    from readwrite_edit.probe.settings import PROBES, settings_class

    kind, given = values.get("probe"), values.get("settings")
    if kind not in PROBES or not isinstance(given, dict):
        return "", {}
    kept = {name: value for name, value in values.items() if name != "settings"}
    return "the probe's defaults", {**kept, "settings": _defaults(settings_class(kind), given)}


def _defaults(section: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of a section's keys as plain values; of a section that is given but has none, those of its keys.

    A key that must be given has no default: it is taken as given.
    """
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        inner = _section_of(field.annotation)
        if value is None and inner is not None and isinstance(given.get(name), dict):
            found[name] = _defaults(inner, given[name])
        elif field.is_required():
            found[name] = given.get(name)
        elif name in given or value is not None:
            found[name] = _plain(value)
    return found


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, alone or as one of its types."""
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
