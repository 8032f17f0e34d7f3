"""What every section of a recipe has in common: strictness, value types, contradictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

CONFLICT = "conflict"


class Section(BaseModel):
    """A part of a recipe: frozen, no unknown keys, no silent conversions, finite numbers only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=(), validate_default=True
    )


def conflict(keys: Sequence[str], message: str) -> PydanticCustomError:
    """An impossible combination of keys of one section (or, dotted, of several).

    Args:
        keys: The keys that contradict each other; the problem is reported at the first.
        message: What is wrong and what to do, as users read it.
    """
    return PydanticCustomError(CONFLICT, "{message}", {"message": message, "keys": tuple(keys)})


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _off_is_no(value: object) -> object:
    return "no" if value is False else value


AsTuple = BeforeValidator(_tuple)
"""Accepts a YAML list where the recipe holds a tuple."""

OffIsNo = BeforeValidator(_off_is_no)
"""YAML reads a bare ``no`` as false; where transformers has the word ``no``, false means it."""


class OneOrMany:
    """Annotates a tuple: accepts a YAML list, and one item where a list of items is meant."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._many, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        array = handler(schema)
        return {"anyOf": [array, array["items"]]}

    @staticmethod
    def _many(value: object) -> object:
        return (value,) if isinstance(value, str | dict | int) else _tuple(value)


class OrText:
    """Annotates a section that a bare string may stand for; only the JSON schema has to be told."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "string"}]}


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    message = "expected a finite number, text, true, false or null"
    raise PydanticCustomError("scalar", "{message}", {"message": message})


LARGEST = 2**31 - 1
Scalar = Annotated[Any, BeforeValidator(_scalar, json_schema_input_type=bool | float | str | None)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
