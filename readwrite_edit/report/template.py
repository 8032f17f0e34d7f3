"""Pages from the templates of this package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup


def rendered(template: str, contents: Mapping[str, Any]) -> str:
    """A template filled in; every text is escaped but what is marked as markup.

    Args:
        template: File name of one of this package's templates.
        contents: Its variables.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_own_file),
    )
    style = Markup(_own_file("report.css"))  # our own file, not text from the run
    return environment.get_template(template).render(style=style, **contents)


def _own_file(name: str) -> str:
    return resources.files("readwrite_edit.report").joinpath(name).read_text(encoding="utf-8")
