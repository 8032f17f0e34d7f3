"""The recipes that ship, and where a recipe that someone names is."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from readwrite_edit.errors import RecipeError
from readwrite_edit.terminal import printable

_PACKAGE = "readwrite_edit.recipes"
_CHECKOUT = Path(__file__).parents[2] / "recipes"


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe of the package.

    Attributes:
        name: Its file name without ``.yaml``.
        path: Its file.
        title: What it is: the first line of its opening comment.
        needs: Hardware, download and time: the comment's line ``Needs:``.
    """

    name: str
    path: Path
    title: str
    needs: str


def shipped_recipes() -> list[ShippedRecipe]:
    """The recipes that ship, by name."""
    return [_described(path) for path in sorted(_folder().glob("*.yaml"))]


def find_recipe(path_or_name: str) -> Path:
    """The file of a recipe: a path first, then the name of a shipped one.

    Raises:
        RecipeError: There is neither; the message lists the nearest names.
    """
    path = Path(path_or_name)
    if _is_file(path):
        return path
    shipped = {recipe.name: recipe.path for recipe in shipped_recipes()}
    wanted = path_or_name.removesuffix(".yaml")
    if wanted in shipped:
        return shipped[wanted]
    if _exists(path):
        return path
    near = get_close_matches(wanted[:100], shipped, n=3) or list(shipped)
    raise RecipeError(
        f"no recipe '{printable(path_or_name)}': neither a file nor one that ships; "
        f"expected a path or {', '.join(near)}"
    )


def _folder() -> Path:
    """Where the recipes lie: in the installed package, or at the top of a checkout that is not installed."""
    try:
        return Path(str(resources.files(_PACKAGE)))
    except ModuleNotFoundError:
        return _CHECKOUT


def _described(path: Path) -> ShippedRecipe:
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").rstrip())
    needs = next((line.removeprefix("Needs:").strip() for line in comment if line.startswith("Needs:")), "")
    return ShippedRecipe(path.stem, path, comment[0] if comment else "", needs)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
