"""All tasks by name. To add a task, write its class and list it in `AnyTask`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from pipeline.params import PARAMS_FILE, Params, Task, parse
from pipeline.params.config import Name
from pipeline.params.experiment import read
from pipeline.tasks.addition import Addition
from pipeline.tasks.bits import ParityOfInnerZeros, ParityOfOnes
from pipeline.tasks.digits import DigitAtPosition, ReversedDigits, SortedDigits
from pipeline.tasks.groups import CyclicGroupProduct, SymmetricGroupProduct
from pipeline.tasks.sums import AllDigitSum, BracketedDigitSum
from pipeline.tasks.windows import SeriesWindows, TextWindows

AnyTask = Annotated[
    Addition
    | ReversedDigits
    | SortedDigits
    | DigitAtPosition
    | BracketedDigitSum
    | AllDigitSum
    | ParityOfInnerZeros
    | ParityOfOnes
    | SymmetricGroupProduct
    | CyclicGroupProduct
    | TextWindows
    | SeriesWindows,
    Field(discriminator="name"),
]
"""Type of the options of any task; the key `name` decides which task."""
TASKS: dict[str, type[Task]] = {
    get_args(task.model_fields["name"].annotation)[0]: task for task in get_args(get_args(AnyTask)[0])
}
"""Class of each task, by the task's name in `params.yaml`."""


class AllParams(Params):
    """The whole of `params.yaml`, with all tasks of this package allowed."""

    tasks: Annotated[Mapping[Name, AnyTask], Field(min_length=1)]


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read `params.yaml`, and check all sections, ablations included.

    Raises:
        UserError: the file is missing, or does not describe a valid experiment.
    """
    return read(path, AllParams)


def parse_task(options: Any, location: str = "task") -> Task:
    """Return the task with the given options, such as `{"name": "sort", ...}`.

    Raises:
        UserError: the options are not valid; the message begins with `location`.
    """
    return parse(TypeAdapter[Task](AnyTask), options, location)
