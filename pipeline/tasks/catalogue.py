"""All the tasks there are."""

from collections.abc import Callable
from typing import Any

from pipeline.params import Task
from pipeline.tasks import Problems
from pipeline.tasks.addition import AdditionProblems
from pipeline.tasks.reverse import ReverseProblems

TASKS: dict[str, Callable[[Any], Problems]] = {"addition": AdditionProblems, "reverse": ReverseProblems}
"""`name` in a task's section -> its problems."""


def problems(task: Task) -> Problems:
    """The problems that the section describes."""
    return TASKS[task.name](task)
