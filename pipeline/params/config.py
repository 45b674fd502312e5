"""The base class of every section of `params.yaml`, and the messages about mistakes in one.

A message is one line: the key, what was given (shortened), and what is allowed.
"""

import difflib
import re
from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.errors import UserError

LONGEST = 80
"""Characters of a given value that a message shows."""

LONGEST_LIST = 120
"""Characters of a list of allowed values."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Config(BaseModel):
    """A section: unknown keys are refused, values are not converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, content: Any) -> Any:
        """Refuse an unknown key before anything else, because a mistyped key also leaves a key missing."""
        for key in content if isinstance(content, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {shorten(key)}{suggest(str(key), cls.model_fields)}")
        return content


S = TypeVar("S")


def parse(kind: type[S] | TypeAdapter[S], content: Any, where: str) -> S:
    """Turn plain values into a section.

    Raises:
        UserError: the section does not allow them; the message begins with `where`.
    """
    try:
        return (kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)).validate_python(content)
    except ValidationError as error:
        raise UserError(_message(error.errors()[0], content, where)) from None


def shorten(value: object) -> str:
    """The value as a message shows it."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def shorten_words(text: str) -> str:
    """The text with every overlong word cut, such as a given number of a thousand digits."""
    return re.sub(rf"\S{{{LONGEST + 1},}}", lambda word: f"{word[0][: LONGEST - 3]}...", text)


def requirement_text(message: str) -> str:
    """A message of pydantic's as it stands in the middle of a line."""
    return (message[0].lower() + message[1:]).replace("input should be", "must be")


def suggest(key: str, allowed: Collection[str]) -> str:
    """The end of a message about an unknown name: the most similar one, and all allowed ones as far as they fit."""
    close = difflib.get_close_matches(key, allowed, n=1)
    hint = f"; did you mean {shorten(close[0])}?" if close else ""
    *shown, last = [shorten(name)[1:-1] for name in allowed] or [""]
    while len(", ".join([*shown, last])) > LONGEST_LIST:
        last = f"... {len(allowed)} in all"
        shown.pop()
    return f"{hint} (allowed: {', '.join([*shown, last])})"


def _message(error: ErrorDetails, content: Any, where: str) -> str:
    """The one line about an error."""
    keys = [shorten(key)[1:-1] or "''" if isinstance(key, str) else str(key) for key in _keys(error, content)]
    path = ".".join(keys)
    if path:
        path = f"{where}: {path}" if where.endswith(".yaml") else f"{where}.{path}"
    key = path or where
    match error["type"]:
        case "missing":
            return f"{key}: missing"
        case "value_error":
            return f"{key}: {shorten_words(str(error['ctx']['error']))}"
        case "union_tag_not_found":
            return f"{key}.name: missing"
        case "union_tag_invalid":
            allowed = error["ctx"]["expected_tags"].replace("'", "").split(", ")
            return f"{key}.name: {shorten(error['ctx']['tag'])} is unknown{suggest(error['ctx']['tag'], allowed)}"
        case _:
            return f"{key}: {requirement_text(error['msg'])}, not {shorten(error['input'])}"


def _keys(error: ErrorDetails, content: Any) -> list[int | str]:
    """The keys that lead to an error in `content`. (pydantic's path also names the alternatives that it tried.)"""
    keys: list[int | str] = []
    for key in error["loc"]:
        if isinstance(content, list | tuple):
            content = dict(enumerate(content))
        if isinstance(content, dict) and key in content:
            content = content[key]
            keys.append(key)
    return [*keys, error["loc"][-1]] if error["type"] == "missing" else keys
