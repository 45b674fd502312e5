"""All tasks. A new task is a file of its own, and a name in the union below."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from pipeline import params
from pipeline.params import PARAMS_FILE, Params, Task, parse
from pipeline.tasks.addition import Addition
from pipeline.tasks.bits import Paridy, Parity
from pipeline.tasks.digits import Index, Reverse, Sort
from pipeline.tasks.groups import S3, Z6
from pipeline.tasks.sums import Mod3, Modp
from pipeline.tasks.windows import Series, Text

AnyTask = Annotated[
    Addition | Reverse | Sort | Index | Modp | Mod3 | Paridy | Parity | S3 | Z6 | Text | Series,
    Field(discriminator="name"),
]
"""The options of any task, told apart by `name`."""
TASKS: dict[str, type[Task]] = {
    get_args(task.model_fields["name"].annotation)[0]: task for task in get_args(get_args(AnyTask)[0])
}
"""`name` in the options -> the task."""


class AllParams(Params):
    """`params.yaml`, with all tasks allowed."""

    tasks: Mapping[str, AnyTask]


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check `params.yaml`, every ablation included.

    Raises:
        UserError: the file is missing, or does not describe a valid experiment; the message is one line.
    """
    return params.read(path, AllParams)


def parse_task(content: Any, where: str = "task") -> Task:
    """The task with these options.

    Raises:
        UserError: no task has them; the message begins with `where`.
    """
    return parse(TypeAdapter[Task](AnyTask), content, where)
