"""The base class of all sections of `params.yaml`, and the error messages about mistakes in a section.

An error message is one line: the key, the given value (shortened), and the allowed values.
"""

import difflib
import re
import textwrap
from collections.abc import Collection, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.errors import UserError

MAX_VALUE_LENGTH = 80
"""Largest number of characters of a given value that an error message shows."""

SequenceType = TypeVar("SequenceType", bound=Sequence[int])


def check_distinct(values: SequenceType) -> SequenceType:
    """Return the values unchanged, after a check that none is listed twice."""
    if repeated := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"number {repeated[0]} is listed twice")
    return values


Distinct = AfterValidator(check_distinct)
"""Annotation of a list or tuple that has no value twice."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def check_name(value: Any) -> str:
    """Return the name unchanged, after a check that it can stand in a command and in a path."""
    if not isinstance(value, str):
        raise ValueError(f"the name {shorten_value(value)} is not a text; put it into quotes")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,79}", value):  # a command takes what begins with `-` for an option
        raise ValueError(f"the name {shorten_value(value)} is not allowed; use a-z, 0-9 and, except at its start, '-'")
    return value


Name = Annotated[str, BeforeValidator(check_name)]
"""Name of a task, an ablation or a study."""


class Config(BaseModel):
    """Base class of sections of `params.yaml`: immutable; unknown keys and values of a wrong type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        """Report an unknown key before a missing one, because a mistyped key also leaves a key missing."""
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {shorten_value(key)}{suggest_names(str(key), cls.model_fields)}")
        return values


ParsedType = TypeVar("ParsedType")


def parse(section_type: type[ParsedType] | TypeAdapter[ParsedType], values: Any, location: str) -> ParsedType:
    """Convert plain values, such as those of a YAML file, to a section.

    Raises:
        UserError: the values are not valid; the message begins with `location`.
    """
    try:
        adapter = section_type if isinstance(section_type, TypeAdapter) else TypeAdapter(section_type)
        return adapter.validate_python(values)
    except ValidationError as error:
        raise UserError(_format_error(error.errors()[0], values, location)) from None


def _format_error(error: ErrorDetails, values: Any, location: str) -> str:
    keys: list[int | str] = []
    for key in error["loc"]:  # which also names members of unions, and these are no keys of the file
        if isinstance(values, list | tuple):
            values = dict(enumerate(values))
        if isinstance(values, dict) and key in values:
            values = values[key]
            keys.append(key)
    match error["type"]:
        case "missing":
            keys.append(error["loc"][-1])
            problem = "missing"
        case "value_error":
            problem = shorten_words(str(error["ctx"]["error"]))
        case "union_tag_not_found":
            keys.append("name")
            problem = "missing"
        case "union_tag_invalid":
            keys.append("name")
            name, allowed = error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'", "").split(", ")
            problem = f"{shorten_value(name)} is unknown{suggest_names(name, allowed)}"
        case _:
            requirement = re.sub(r"^\w+ should", "must", error["msg"])  # "Input should be 1" becomes "must be 1"
            problem = f"{requirement[0].lower()}{requirement[1:]}, not {shorten_value(error['input'])}"
    path = ".".join(shorten_value(key)[1:-1] or "''" if isinstance(key, str) else str(key) for key in keys)
    separator = ": " if location.endswith(".yaml") else "."
    return f"{location}{separator}{path}: {problem}" if path else f"{location}: {problem}"


def shorten_value(value: object) -> str:
    """Return the value as Python text, cut to `MAX_VALUE_LENGTH` characters."""
    text = repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 3]}..."


def shorten_words(text: str) -> str:
    """Return the text with each word cut to `MAX_VALUE_LENGTH` characters; a user may give a number of 1,000 digits."""
    return re.sub(rf"\S{{{MAX_VALUE_LENGTH + 1},}}", lambda word: f"{word[0][: MAX_VALUE_LENGTH - 3]}...", text)


def suggest_names(name: str, allowed: Collection[str]) -> str:
    """Return the end of an error message about an unknown name: the most similar allowed name, then all that fit."""
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {shorten_value(close[0])}?" if close else ""
    names = ", ".join(shorten_value(choice)[1:-1] for choice in allowed)
    wrapper = textwrap.TextWrapper(120, max_lines=1, placeholder=f" ... {len(allowed)} in all", break_on_hyphens=False)
    return f"{hint} (allowed: {wrapper.fill(names)})"
