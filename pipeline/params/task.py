"""What is learned: a section per task. What a task does with it is in `pipeline/tasks/`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_serializer
from pydantic.functional_serializers import SerializerFunctionWrapHandler

from pipeline.params.section import Section, Seed, checked, nearest, shortened
from pipeline.refusal import Refused


class Task(Section):
    """What every task has: its name, how many examples of it there are, and the seed they are drawn with."""

    name: str
    train_size: PositiveInt
    validation_size: PositiveInt
    test_size: PositiveInt
    seed: Seed = 1

    @model_serializer(mode="wrap")
    def _sizes_last(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """In files, what is learned comes before how much of it."""
        content = handler(self)
        return {
            key: content[key] for key in sorted(content, key=lambda key: key in Task.model_fields and key != "name")
        }


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


class Reverse(Task):
    """`digits` digits, answered backwards."""

    name: Literal["reverse"]
    digits: Annotated[int, Field(ge=1, le=18)]


SECTIONS: dict[str, type[Task]] = {"addition": Addition, "reverse": Reverse}


def task(content: Mapping[str, Any], where: str) -> Task:
    """`content` as the section of the task that it names.

    Raises:
        Refused: it is none; the message begins with `where`.
    """
    if "name" not in content:
        raise Refused(f"{where}.name: missing (allowed: {', '.join(SECTIONS)})")
    name = content["name"]
    if not isinstance(name, str) or name not in SECTIONS:
        raise Refused(f"{where}.name: {shortened(name)} is no task{nearest(str(name), list(SECTIONS))}")
    return checked(SECTIONS[name], content, where)
