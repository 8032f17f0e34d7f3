"""What the documents promise: keys, files, commands and Python that exist."""

import ast
import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from readwrite_edit.cli import build_parser
from readwrite_edit.recipe import recipe_schema, shipped_recipes

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
SCHEMA = recipe_schema()
ENTRY = re.compile(r"^([│├└─ ]*)([A-Za-z0-9_.][\w./-]*)(?:  |$)")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sections() -> dict[str, dict]:
    """Properties of each section and of what lies within one, by the heading it has in docs/recipes.md."""
    found = {key: _resolved(value)["properties"] for key, value in SCHEMA["properties"].items() if key != "provenance"}
    found["adapter.contrastive"] = SCHEMA["$defs"]["Contrastive"]["properties"]
    found["texts"] = SCHEMA["$defs"]["ProtectedText"]["properties"]
    return found


def _resolved(schema: dict) -> dict:
    return SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def row(key: str, field: dict) -> str:
    """The line of docs/recipes.md that describes a key: its name, its default, what it means."""
    values = _values(field)
    choice = f" Values: {', '.join(f'`{value}`' for value in values)}." if values else ""
    return f"| `{key}` | {_default(key, field)} | {field['description']}{choice} |"


def _default(key: str, field: dict) -> str:
    if "default" not in field:
        return "required" if key == "path" else "by the path"
    value = field["default"]
    if isinstance(value, dict):
        return "see below"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = [item["path"] for item in value]
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def _values(field: dict) -> list:
    parts = [field, *field.get("anyOf", [])]
    return next((part["enum"] for part in parts if "enum" in part), [])


@pytest.mark.parametrize("section", sections())
def test_every_key_of_a_recipe_is_described_with_its_default(section):
    body = re.search(rf"^## `{re.escape(section)}`.*?$(.*?)(?=^## |\Z)", RECIPES, re.MULTILINE | re.DOTALL)
    assert body, f"docs/recipes.md has no heading for {section}"
    lines = body[1].splitlines()
    missing = [line for key, field in sections()[section].items() if (line := row(key, field)) not in lines]
    assert not missing, "docs/recipes.md lacks:\n" + "\n".join(missing)


def test_docs_describe_no_key_that_does_not_exist():
    described = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", RECIPES, re.MULTILINE))
    assert described == {key for properties in sections().values() for key in properties}


def test_every_shipped_recipe_is_in_the_readme():
    assert {recipe.name for recipe in shipped_recipes()} == set(
        re.findall(r"^\| `((?:dpo|edit)_\w+)` \|", README, re.MULTILINE)
    )


def tree_paths() -> list[str]:
    """Paths of the annotated tree of the README, from its indentation."""
    block = re.search(r"^## The file tree\n.*?```\w*\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    assert block
    stack: list[str] = []
    paths = []
    for line in block[1].splitlines():
        match = ENTRY.match(line)
        assert match, line
        del stack[len(match[1]) // 2 :]
        stack.append(match[2].rstrip("/"))
        paths.append("/".join(stack))
    return paths


def test_every_file_of_the_readme_s_tree_exists():
    paths = tree_paths()
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_package_stands_in_the_readme_s_tree():
    packages = {
        named(path.parent) for path in [*ROOT.glob("readwrite_edit/*/__init__.py"), *ROOT.glob("t*/__init__.py")]
    }
    assert packages <= set(tree_paths())


def command_lines() -> list[tuple[str, str]]:
    """Every command of this project in a code block of a document."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in re.findall(r"^ *```sh\n(.*?)```", text, re.MULTILINE | re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(named(document), line.strip()) for line in lines if line.strip().startswith("readwrite-edit ")]
    return found


@pytest.mark.parametrize(("document", "line"), command_lines())
def test_every_command_line_parses(document, line):
    arguments = shlex.split(line, comments=True)[1:]
    build_parser().parse_args(arguments)


def test_the_readme_shows_every_command():
    commands = {line.split()[1] for document, line in command_lines() if document == "README.md"}
    assert {"align", "edit", "probe", "verify", "export", "recipes", "runs", "tui"} <= commands


def test_links_within_the_repository_lead_somewhere():
    broken = []
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{named(document)}: {target}")
    assert broken == []


def test_the_python_of_the_readme_imports_what_exists():
    blocks = re.findall(r"^```python\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    imports = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    ours = [(node.module, name.name) for node in imports for name in node.names if node.module.startswith("readwrite")]
    assert ours
    assert [pair for pair in ours if not hasattr(import_module(pair[0]), pair[1])] == []


def test_every_figure_is_filled_in():
    left = [
        f"{named(document)}: {marker}"
        for document in DOCUMENTS
        for marker in re.findall(r"FIGURE:[\w.-]+", document.read_text(encoding="utf-8"))
    ]
    assert left == []
