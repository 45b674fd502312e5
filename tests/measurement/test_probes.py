"""Probes read what is there and nothing else."""

import numpy as np
import pytest
import torch

from pipeline.measurement.position_probe import position_probe
from pipeline.measurement.probes import regression, tokens_read
from pipeline.measurement.slices import slices
from tests.measurement.hand_set import LENGTH, VOCABULARY, copying, counting, numbers, silent, subject, untrained


def test_a_linear_position_is_read_exactly_and_shuffled_labels_are_not() -> None:
    table = position_probe(subject(counting(layers=1), positional="learned", layers=1))
    for target in ("position", "distance"):
        true = numbers(table, "r2", rows="random", target=target, control=0)
        assert true.min() > 0.999
        assert numbers(table, "error", rows="random", target=target, control=0).max() < 0.05
        assert numbers(table, "r2", rows="random", target=target, control=1).max() < 0.02


def test_without_encoding_and_mask_no_position_is_readable_at_any_depth() -> None:
    table = position_probe(subject(untrained(attention="full"), count=1000, attention="full"))
    assert numbers(table, "r2", rows="random").max() < 0.02


def test_the_layout_of_the_task_gives_positions_away() -> None:
    table = position_probe(subject(silent(layers=1), layers=1))
    on = {
        rows: numbers(table, "r2", rows=rows, target="position", control=0, depth=0).item()
        for rows in ("task", "random")
    }
    assert on["task"] > on["random"] + 0.05


def test_regression_needs_no_scale() -> None:
    states = np.random.default_rng(0).normal(size=(60, LENGTH, 4))
    targets = states[..., 0] * 3 + 1
    assert regression(states, targets)["r2"] == pytest.approx(regression(states * 1e-3, targets)["r2"])


def test_slices_of_a_silent_model_are_about_their_own_tokens_only() -> None:
    table = slices(subject(silent(layers=1), layers=1))
    for depth in (0, 1):
        matrix = numbers(table, "accuracy", depth=depth).reshape(LENGTH, LENGTH)
        assert np.diag(matrix).min() == 1.0
        assert matrix[~np.eye(LENGTH, dtype=bool)].max() < 0.2
    assert numbers(table, "chance").max() == pytest.approx(1 / VOCABULARY)


@pytest.mark.parametrize("position", [0, 3])
def test_slices_of_a_copier_are_about_the_token_it_copies(position: int) -> None:
    switches = {"layers": 1, "attention": "full", "width": 32, "residual_free": {"attention": [0], "mlp": []}}
    table = slices(subject(copying(position, **switches), positional="learned", heads=1, **switches))
    matrix = numbers(table, "accuracy", depth=1).reshape(LENGTH, LENGTH)
    assert matrix[:, position].min() == 1.0
    assert np.delete(matrix, position, axis=1).max() < 0.25


def test_tokens_are_read_place_by_place() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, size=(400, 2))
    states = np.eye(5)[tokens[:, 0]] + 0.01 * generator.normal(size=(400, 5))
    read = tokens_read(states, tokens, 5)
    assert read[0] == 1.0
    assert read[1] < 0.35


def test_measuring_changes_nothing() -> None:
    made = untrained()
    before = {name: weight.clone() for name, weight in made.state_dict().items()}
    slices(subject(made))
    position_probe(subject(made))
    for name, weight in made.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)
