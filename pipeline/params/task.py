"""What is learned: a section per task. What a task does with it is in `pipeline/tasks/`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_serializer, model_validator
from pydantic.functional_serializers import SerializerFunctionWrapHandler

from pipeline.errors import UserError
from pipeline.params.config import Config, Seed, parse, shorten, suggest
from pipeline.params.score import BITS, EXACT_MATCH, Score


class Task(Config):
    """What every task has: its name, how many examples of it there are, and the seed they are drawn with."""

    score: ClassVar[Score] = EXACT_MATCH
    name: str
    train_size: PositiveInt
    validation_size: PositiveInt
    test_size: PositiveInt
    seed: Seed = 1

    @property
    def order_counts(self) -> bool:
        """Whether the order of what is told is worth anything; in a twin it is not."""
        return True

    @property
    def untwinned(self) -> "Task":
        """The same data in their own order; itself where there is no other."""
        return self

    @model_serializer(mode="wrap")
    def _sizes_last(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """In files, what is learned comes before how much of it."""
        content = handler(self)
        return {
            key: content[key] for key in sorted(content, key=lambda key: key in Task.model_fields and key != "name")
        }


class Twin(Task):
    """In which order is worth nothing."""

    @property
    def order_counts(self) -> bool:
        return False


class Addition(Task):
    """Addition of two numbers of up to `digits` digits, as characters."""

    name: Literal["addition"]
    digits: Annotated[int, Field(ge=1, le=9)]
    reverse: bool = True
    """Whether the least significant digit of the sum comes first."""
    zero_pad: bool = True
    delimiters: bool = False
    sampling: Literal["uniform", "balanced"] = "uniform"
    """`balanced`: every carry count equally often."""


class Digits(Task):
    """About `digits` digits."""

    digits: Annotated[int, Field(ge=1, le=18)]


class Reverse(Digits):
    """They are answered backwards."""

    name: Literal["reverse"]


class Sort(Digits, Twin):
    """They are answered in order: the twin of `reverse`."""

    name: Literal["sort"]


class Index(Task):
    """The digit at one place of `digits`."""

    name: Literal["index"]
    digits: Annotated[int, Field(ge=2, le=17)]


class Modp(Task):
    """The sum of the last three of five digits modulo 3."""

    name: Literal["modp"]


class Mod3(Twin):
    """The sum of five digits modulo 3: the twin of `modp`."""

    name: Literal["mod3"]


class Bits(Task):
    """About `bits` bits."""

    bits: Annotated[int, Field(ge=2, le=60)] = 12


class Paridy(Bits):
    """The parity of the 0s between the first 1 and the last one."""

    name: Literal["paridy"]


class Parity(Bits, Twin):
    """The parity of the 1s: the twin of `paridy`."""

    name: Literal["parity"]


class Elements(Task):
    """About `elements` elements of a group of six, and their product."""

    elements: Annotated[int, Field(ge=2, le=20)]


class S3(Elements):
    """In the symmetric group S3."""

    name: Literal["s3"]


class Z6(Elements, Twin):
    """In the cyclic group Z6: the twin of `s3`."""

    name: Literal["z6"]


class Windows(Task):
    """Windows of a long sequence, and the token after each."""

    score: ClassVar[Score] = BITS
    path: Annotated[str, Field(min_length=1)] | None = None
    """The file that holds the sequence. None: one that comes with the libraries."""
    window: Annotated[int, Field(ge=2, le=1024)]
    """Tokens that are seen."""
    twin: bool = False
    """Whether those before the last stand in a random order, drawn once for each window: the twin, in which order is
    worth nothing."""

    @property
    def order_counts(self) -> bool:
        return not self.twin

    @property
    def untwinned(self) -> Task:
        return self.model_copy(update={"twin": False})


class Text(Windows):
    """Characters of a text."""

    name: Literal["text"]


class Series(Windows):
    """Values of a column of a CSV file."""

    name: Literal["series"]
    column: Annotated[str, Field(min_length=1)] | None = None
    """None: the one that holds numbers, if there is but one."""
    bins: Annotated[int, Field(ge=2, le=26)] = 16
    """So many tokens there are; each is as frequent in the training part."""
    differences: bool = True
    """Whether from each value to the next, or the values themselves."""

    @model_validator(mode="after")
    def _column_of_a_file(self) -> Self:
        if self.column is not None and self.path is None:
            raise ValueError(f"column: {shorten(self.column)} of which file? `path` is missing")
        return self


SECTIONS: dict[str, type[Task]] = {
    "addition": Addition,
    "reverse": Reverse,
    "sort": Sort,
    "index": Index,
    "modp": Modp,
    "mod3": Mod3,
    "paridy": Paridy,
    "parity": Parity,
    "s3": S3,
    "z6": Z6,
    "text": Text,
    "series": Series,
}


def task(content: Mapping[str, Any], where: str) -> Task:
    """`content` as the section of the task that it names.

    Raises:
        UserError: it is none; the message begins with `where`.
    """
    if "name" not in content:
        raise UserError(f"{where}.name: missing (allowed: {', '.join(SECTIONS)})")
    name = content["name"]
    if not isinstance(name, str) or name not in SECTIONS:
        raise UserError(f"{where}.name: {shorten(name)} is no task{suggest(str(name), list(SECTIONS))}")
    return parse(SECTIONS[name], content, where)
