"""Cells are told apart by their switches, in columns and in words, and every cell has its place in the grid."""

from itertools import chain
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import cells
from pipeline.cells import GROUPS, SWITCHES
from pipeline.params import Cell
from pipeline.params.model import Substitute
from tests.conftest import cell as made

CONTRACT = (
    "positional",
    "positional_every_layer",
    "attention",
    "layers",
    "heads",
    "width",
    "residual_free_attention",
    "residual_free_mlp",
    "residual_free_initialisation",
    "residual_substitute",
    "optimizer",
)
"""The columns of `runs.csv` that say what a cell is."""


@st.composite
def any_cell(draw: st.DrawFn) -> Cell:
    layers = draw(st.integers(1, 3))
    some_layers = st.lists(st.integers(0, layers - 1), unique=True)
    positional = draw(st.sampled_from(["none", "learned", "sinusoidal", "rotary", "alibi"]))
    switches = {
        "layers": layers,
        "heads": draw(st.sampled_from([1, 2])),
        "width": draw(st.sampled_from([8, 16])),
        "positional": positional,
        "positional_every_layer": positional in ("learned", "sinusoidal") and draw(st.booleans()),
        "attention": draw(st.sampled_from(["causal", "full"])),
        "residual_free": {"attention": draw(some_layers), "mlp": draw(some_layers)},
        "residual_free_initialisation": draw(st.sampled_from(["normal", "identity"])),
        "residual_substitute": draw(st.sampled_from(get_args(Substitute))),
    }
    optimizer = draw(st.sampled_from(["adamw", "muon"]))
    return made(draw(st.sampled_from("abcdefgh")), model_=switches, optimizer=optimizer)


grids = st.lists(any_cell(), min_size=1, max_size=8)


def switches(cell: Cell) -> tuple[Any, ...]:
    return tuple(switch.of(cell) for switch in SWITCHES)


def test_the_columns_are_those_that_others_rely_on() -> None:
    assert cells.COLUMNS == CONTRACT


@given(any_cell())
def test_columns_and_tags_say_the_same(cell: Cell) -> None:
    """But for emptiness, which a tag calls `none`."""
    columns, tags = cells.columns(cell), cells.tags(cell)
    assert tuple(columns) == tuple(tags) == CONTRACT
    assert {name: str(value) or "none" for name, value in columns.items()} == tags


@given(any_cell(), any_cell())
def test_columns_differ_where_a_switch_differs_and_only_there(one: Cell, other: Cell) -> None:
    assert (cells.columns(one) == cells.columns(other)) == (switches(one) == switches(other))
    for switch in SWITCHES:
        assert (switch.columns(one) == switch.columns(other)) == (switch.of(one) == switch.of(other))


@given(grids)
def test_different_cells_of_a_grid_have_different_words(grid: list[Cell]) -> None:
    unsaid = cells.shared(grid)
    words = {switches(cell): cells.described(cell, unsaid) for cell in grid}
    assert len(set(words.values())) == len(words)


@given(grids)
def test_what_goes_without_saying_is_not_said(grid: list[Cell]) -> None:
    """Of what all cells share, only what is said of every cell and what is out of the ordinary is said."""
    unsaid = cells.shared(grid)
    for switch in SWITCHES:
        values = {switch.of(cell) for cell in grid}
        if len(values) == 1 and switch.neutral is None and not switch.spoken:
            said = [part for cell in grid for part in cells.described(cell, unsaid).split(", ")]
            assert switch.words(values.pop()) not in said


@given(any_cell())
def test_a_switch_that_is_spoken_is_said_even_of_a_single_cell(cell: Cell) -> None:
    words = cells.described(cell, cells.shared([cell])).split(", ")
    assert all(switch.words(switch.of(cell)) in words for switch in SWITCHES if switch.spoken)


@given(grids)
def test_every_cell_is_in_one_group_in_the_order_of_the_grid(grid: list[Cell]) -> None:
    grouped = cells.in_groups(grid)
    assert [name for name, _ in grouped] == [name for name in GROUPS if name in dict(grouped)]
    assert all(members for _, members in grouped)
    place = {id(cell): number for number, cell in enumerate(grid)}
    places = [[place[id(cell)] for cell in members] for _, members in grouped]
    assert all(each == sorted(each) for each in places)
    assert sorted(chain(*places)) == list(range(len(grid)))


@given(grids)
def test_a_cell_is_found_by_its_own_switches(grid: list[Cell]) -> None:
    for cell in grid:
        values = {switch.field: switch.of(cell) for switch in SWITCHES}
        found = cells.find(grid, **values)
        assert cell in found
        assert {switches(one) for one in found} == {switches(cell)}
        assert cells.like(grid, cell) == found
    assert cells.find(grid) == grid


@given(grids)
def test_the_whole_twin_has_every_residual_connection_and_is_else_the_same(grid: list[Cell]) -> None:
    for cell in grid:
        twin = cells.whole(grid, cell)
        wanted = cell.model.model_copy(update=cells.WHOLE)
        expected = [one for one in grid if (one.model, one.training) == (wanted, cell.training)]
        assert twin == next(iter(expected), None)
        assert twin is None or (cells.is_whole(twin) and not cells.is_control(twin))


@given(grids)
def test_the_control_starts_near_the_identity_and_is_else_the_same(grid: list[Cell]) -> None:
    for cell in grid:
        control = cells.control(grid, cell)
        wanted = cell.model.model_copy(update={"residual_free_initialisation": "identity"})
        expected = [one for one in grid if (one.model, one.training) == (wanted, cell.training)]
        assert control == (None if cells.is_whole(cell) else next(iter(expected), None))
        assert control is None or (cells.is_control(control) and not cells.is_whole(control))


def test_another_task_is_another_cell() -> None:
    """Tasks are no switch, but twins are of one task."""
    cell, whole = made("free", model_={"residual_free": [0]}), made("whole")
    elsewhere = whole.model_copy(update={"dataset": "other"})
    assert cells.whole([elsewhere, whole], cell) == whole
    assert cells.whole([elsewhere], cell) is None


@pytest.mark.parametrize(
    ("settings", "alike"),
    [({"learning_rate": 0.003}, False), ({"batch_size": 32}, False), ({"steps": 16, "seeds": [5]}, True)],
)
def test_what_is_trained_otherwise_is_no_twin_unless_it_is_longer_or_of_other_seeds(
    settings: dict[str, Any], alike: bool
) -> None:
    cell, whole = made("free", model_={"residual_free": [0]}), made("whole", **settings)
    assert cells.whole([whole], cell) == (whole if alike else None)


@pytest.mark.parametrize(
    ("free", "words"),
    [
        ([0, 1], "no residual at layers 0, 1"),
        ({"mlp": [1]}, "no residual at layer 1 (MLP)"),
        ({"attention": [0, 1], "mlp": [1]}, "no residual at layers 0, 1 (attention) and layer 1 (MLP)"),
    ],
)
def test_missing_residual_connections_in_words(free: Any, words: str) -> None:
    cell = made(model_={"residual_free": free})
    assert cells.described(cell, cells.shared([cell])) == f"no PE, causal, {words}"
