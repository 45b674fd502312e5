"""All the tasks there are."""

from collections.abc import Callable
from typing import Any

from pipeline.params import Task
from pipeline.tasks import Problems
from pipeline.tasks.addition import AdditionProblems
from pipeline.tasks.bits import ParidyProblems, ParityProblems
from pipeline.tasks.digits import IndexProblems, ReverseProblems, SortProblems
from pipeline.tasks.groups import S3Problems, Z6Problems
from pipeline.tasks.sums import Mod3Problems, ModpProblems
from pipeline.tasks.windows import SeriesProblems, TextProblems

TASKS: dict[str, Callable[[Any], Problems]] = {
    "addition": AdditionProblems,
    "reverse": ReverseProblems,
    "sort": SortProblems,
    "index": IndexProblems,
    "modp": ModpProblems,
    "mod3": Mod3Problems,
    "paridy": ParidyProblems,
    "parity": ParityProblems,
    "s3": S3Problems,
    "z6": Z6Problems,
    "text": TextProblems,
    "series": SeriesProblems,
}
"""`name` in a task's section -> its problems."""


def problems(task: Task) -> Problems:
    """The problems that the section describes."""
    return TASKS[task.name](task)
