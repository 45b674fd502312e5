"""What every section of a configuration shares, and how a mistake in one is said: in one line that names the key, what
was given (shortened) and what is allowed."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import UserError

LONGEST = 80
"""Characters of a given value that a message shows."""

LONGEST_LIST = 120
"""Characters of a list of what is allowed."""

KINDS = ("[key]", "[list]", "[layers]")
"""In a path of pydantic's: not keys of the file, but of what kind their value is."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Config(BaseModel):
    """Nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Config)


def parse(kind: type[S], content: Mapping[str, Any], where: str) -> S:
    """`content` as a section.

    Raises:
        UserError: it is none; the message begins with `where`.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        unknown_first = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise UserError(_one_line(kind, unknown_first[0], where)) from None  # a typo also leaves a key missing


def shorten(value: object) -> str:
    """The value as it stands in a message."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def truncate_words(text: str) -> str:
    """The text, with every overlong word cut: one that was given, be it a number of a thousand digits."""
    return re.sub(rf"\S{{{LONGEST + 1},}}", lambda word: f"{word[0][: LONGEST - 3]}...", text)


def requirement_text(message: str) -> str:
    """What pydantic asks for, as it stands in the middle of a line."""
    return (message[0].lower() + message[1:]).replace("input should be", "must be")


def suggest(key: str, allowed: Collection[str]) -> str:
    """What to say after an unknown name: the one that was probably meant, and all there are; where that is too much for
    a line, the first of them."""
    close = difflib.get_close_matches(key, allowed, n=1)
    hint = f"; did you mean {shorten(close[0])}?" if close else ""
    *shown, last = [shorten(name)[1:-1] for name in allowed] or [""]
    while len(", ".join([*shown, last])) > LONGEST_LIST:
        last = f"... {len(allowed)} in all"
        shown.pop()
    return f"{hint} (allowed: {', '.join([*shown, last])})"


def _one_line(kind: type[Config], error: ErrorDetails, where: str) -> str:
    """Say one validation error as `file: key: problem`."""
    given = [part for part in error["loc"] if part not in KINDS]
    path = [shorten(part)[1:-1] or "''" if isinstance(part, str) else str(part) for part in given]
    separator = ": " if where.endswith(".yaml") else "."
    key = where + (separator + ".".join(path) if path else "")
    match error["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key{suggest(path[-1], list(_section_at(kind, error['loc'][:-1]).model_fields))}"
        case "missing":
            return f"{key}: missing"
        case "value_error":
            return f"{key}: {truncate_words(str(error['ctx']['error']))}"
        case _:
            return f"{key}: {requirement_text(error['msg'])}, not {shorten(error['input'])}"


def _section_at(kind: type[Config], path: tuple[int | str, ...]) -> type[Config]:
    """The section that the keys of `path` lead to; a key of a table of sections leads into each of them alike."""
    for part in path:
        field = kind.model_fields.get(str(part))
        kind = next(_sections(field.annotation), kind) if field else kind
    return kind


def _sections(annotation: Any) -> Iterator[type[Config]]:
    """Those that a type is made of, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for inside in get_args(annotation):
        yield from _sections(inside)
