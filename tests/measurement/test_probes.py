"""Probes read what is there and nothing else."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pipeline.measurement.position_probe import position_probe
from pipeline.measurement.probes import regression, tokens_read
from pipeline.measurement.slices import slices
from tests.measurement.hand_set import LENGTH, VOCABULARY, copying, counting, numbers, silent, subject, untrained


def test_a_linear_position_is_read_exactly() -> None:
    table = position_probe(subject(counting(layers=1), positional="learned", layers=1))
    for target in ("position", "distance"):
        assert numbers(table, "r2", rows="random", target=target).min() > 0.999
        assert numbers(table, "error", rows="random", target=target).max() < 0.05


def test_a_random_causal_network_already_tells_positions_apart() -> None:
    """So that it is the control for what training adds."""
    table = position_probe(subject(untrained(layers=2, width=32), count=1000, layers=2, width=32))
    assert numbers(table, "r2", rows="random", target="position", depth=2).item() > 0.05


def test_without_encoding_and_mask_no_position_is_readable_at_any_depth() -> None:
    table = position_probe(subject(untrained(attention="full"), count=1000, attention="full"))
    assert numbers(table, "r2", rows="random").max() < 0.02


def test_the_layout_of_the_task_gives_positions_away() -> None:
    table = position_probe(subject(silent(layers=1), layers=1))
    on = {rows: numbers(table, "r2", rows=rows, target="position", depth=0).item() for rows in ("task", "random")}
    assert on["task"] > on["random"] + 0.05


def correlated(rows: int, columns: int) -> Tensor:
    """States whose columns depend on each other, are of many sizes and far from zero; the last never varies."""
    normal = torch.randn(2, rows, LENGTH, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = normal.cumsum(-1).cumsum(-2) * 10.0 ** torch.linspace(-4, 2, columns, dtype=torch.float64) + 5
    mixed[..., -1] = 1 / 3
    return mixed


def reference() -> Pipeline:
    return make_pipeline(StandardScaler(), Ridge(alpha=1.0))


FIRST, SECOND = torch.triu_indices(LENGTH, LENGTH, offset=1)


@pytest.mark.parametrize("sides", [torch.arange(LENGTH)[None], torch.stack((FIRST, SECOND))], ids=["one", "pairs"])
def test_probes_are_ridge_regression_on_standardised_columns(sides: Tensor) -> None:
    """Equal to scikit-learn's on samples that are written out, up to rounding."""
    states = correlated(40, 6)
    labels = torch.randn(40, sides.shape[1], 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels[..., 0] += states[0, :, sides[0], 0] * 1e5
    read = regression(states, sides, labels)
    for probe, samples in enumerate(torch.cat([states[:, :, side] for side in sides], dim=-1).numpy()):
        half = len(samples) // 2
        written = [each.reshape(-1, each.shape[-1]) for each in (samples[:half], samples[half:])]
        truth = [each.reshape(-1, 2).numpy() for each in (labels[:half], labels[half:])]
        said = reference().fit(written[0], truth[0]).predict(written[1])
        errors = mean_absolute_error(truth[1], said, multioutput="raw_values")
        np.testing.assert_allclose(read.error[probe], errors, rtol=1e-9)
        np.testing.assert_allclose(read.r2[probe], r2_score(truth[1], said, multioutput="raw_values"), rtol=1e-9)
    assert read.r2[0, 0] > 0.9


def test_tokens_are_read_as_by_ridge_regression_on_one_hot_targets() -> None:
    states = correlated(300, 8)[:, :, 2]
    tokens = torch.randint(5, (300, 3), generator=torch.Generator().manual_seed(2))
    tokens[:, 0] = (states[0, :, 1] - states[0, :, 1].min()).mul(1e3).long() % 5
    one_hot = torch.eye(5, dtype=torch.float64)[tokens].flatten(1).numpy()
    for some, read in zip(states.numpy(), tokens_read(states, tokens, 5), strict=True):
        said = reference().fit(some[:150], one_hot[:150]).predict(some[150:]).reshape(150, 3, 5).argmax(-1)
        np.testing.assert_array_equal(read, (said == tokens[150:].numpy()).mean(0))


def test_of_equally_likely_tokens_the_first_is_said() -> None:
    """Whatever rounding leaves in the states: those here say nothing, and token 1 is as common as token 2."""
    fitted_on = torch.tensor([[1], [2], [0], [2], [1]] * 20)
    nothing = 0.1 + 1e-16 * torch.randn(1, 200, 4, dtype=torch.float64)
    for token, share in ((1, 1.0), (2, 0.0)):
        tokens = torch.cat((fitted_on, torch.full_like(fitted_on, token)))
        assert tokens_read(nothing, tokens, 3).item() == share


def test_regression_needs_no_scale() -> None:
    states = correlated(60, 4)
    labels = states[0, :, :, :1] * 3 + 1
    position = torch.arange(LENGTH)[None]
    torch.testing.assert_close(regression(states, position, labels).r2, regression(states * 1e-3, position, labels).r2)


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
    read = tokens_read(torch.from_numpy(states)[None], torch.from_numpy(tokens), 5)
    assert read[0, 0] == 1.0
    assert read[0, 1] < 0.35


def test_measuring_changes_nothing() -> None:
    made = untrained().double()
    before = {name: weight.clone() for name, weight in made.state_dict().items()}
    slices(subject(made))
    position_probe(subject(made))
    for name, weight in made.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)
