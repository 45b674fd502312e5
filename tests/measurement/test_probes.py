"""Linear probes equal ridge regression, and read what a hand-set model encodes and nothing else."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pipeline.measurement.catalogue import measurements
from pipeline.measurement.common.linear_probe import regression_scores, token_accuracy
from pipeline.measurement.position_probe import position_probe
from pipeline.measurement.token_probe import token_probe
from tests.measurement.hand_set import LENGTH, VOCABULARY, copying, counting, inputs_of, silent, untrained, values

RIDGE = make_pipeline(StandardScaler(), Ridge(alpha=1.0))


def test_a_linear_encoding_is_read_exactly() -> None:
    table = position_probe(inputs_of(counting, layers=1))
    assert set(table["target"]) == {"position", "distance"}
    assert values(table, "r2", inputs="random").min() > 0.999
    assert values(table, "error", inputs="random").max() < 0.05


def test_positions_of_a_random_causal_network_differ() -> None:
    """So the effect of training is the difference to the network before training."""
    table = position_probe(inputs_of(untrained, count=1000, layers=2, width=32))
    assert values(table, "r2", inputs="random", target="position", depth=2).item() > 0.05


def test_without_encoding_and_mask_no_position_is_readable_at_any_depth() -> None:
    table = position_probe(inputs_of(untrained, count=1000, attention="full"))
    assert values(table, "r2", inputs="random").max() < 0.02


def test_positions_are_readable_from_the_tokens_of_the_task() -> None:
    table = position_probe(inputs_of(silent, layers=1))
    task, random = (values(table, "r2", inputs=name, target="position", depth=0).item() for name in ("task", "random"))
    assert task > random + 0.05


def correlated(examples: int, columns: int) -> Tensor:
    """States with correlated columns of many sizes, far from zero; the last column is constant."""
    normal = torch.randn(2, examples, LENGTH, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = normal.cumsum(-1).cumsum(-2) * 10.0 ** torch.linspace(-4, 2, columns, dtype=torch.float64) + 5
    mixed[..., -1] = 1 / 3
    return mixed


@pytest.mark.parametrize("sides", [torch.arange(LENGTH)[None], torch.triu_indices(LENGTH, LENGTH, offset=1)])
def test_probes_are_ridge_regression_on_standardised_columns(sides: Tensor) -> None:
    """The scores equal scikit-learn's on samples that are written out."""
    states = correlated(40, 6)
    labels = torch.randn(40, sides.shape[1], 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels[..., 0] += states[0, :, sides[0], 0] * 1e5
    error, r2 = regression_scores(states, sides, labels)
    for probe, samples in enumerate(torch.cat([states[:, :, side] for side in sides], dim=-1).numpy()):
        half = len(samples) // 2
        fitted, held_out = (part.reshape(-1, part.shape[-1]) for part in (samples[:half], samples[half:]))
        fitted_labels, truth = (part.reshape(-1, 2).numpy() for part in (labels[:half], labels[half:]))
        predictions = RIDGE.fit(fitted, fitted_labels).predict(held_out)
        for score, reference in ((error, mean_absolute_error), (r2, r2_score)):
            expected = reference(truth, predictions, multioutput="raw_values")
            np.testing.assert_allclose(score[probe], expected, rtol=1e-9)
    assert r2[0, 0] > 0.9


def test_token_probes_are_ridge_regression_on_one_hot_targets() -> None:
    states = correlated(300, 8)[:, :, 2]
    tokens = torch.randint(5, (300, 3), generator=torch.Generator().manual_seed(2))
    tokens[:, 0] = (states[0, :, 1] - states[0, :, 1].min()).mul(1e3).long() % 5
    one_hot = torch.eye(5, dtype=torch.float64)[tokens].flatten(1).numpy()
    for columns, accuracy in zip(states.numpy(), token_accuracy(states, tokens, 5), strict=True):
        scores = RIDGE.fit(columns[:150], one_hot[:150]).predict(columns[150:]).reshape(150, 3, 5)
        np.testing.assert_array_equal(accuracy, (scores.argmax(-1) == tokens[150:].numpy()).mean(0))


def test_among_equally_likely_tokens_the_smallest_is_predicted() -> None:
    """Rounding must not decide: the states are constant but for rounding, and tokens 1 and 2 are equally common."""
    fitted_on = torch.tensor([[1], [2], [0], [2], [1]] * 20)
    nothing = 0.1 + 1e-16 * torch.randn(1, 200, 4, dtype=torch.float64)
    for token, share in ((1, 1.0), (2, 0.0)):
        tokens = torch.cat((fitted_on, torch.full_like(fitted_on, token)))
        assert token_accuracy(nothing, tokens, 3).item() == share


def test_regression_does_not_depend_on_the_scale_of_states() -> None:
    states = correlated(60, 4)
    labels = states[0, :, :, :1] * 3 + 1
    position = torch.arange(LENGTH)[None]
    usual, scaled = (regression_scores(factor * states, position, labels) for factor in (1, 1e-3))
    torch.testing.assert_close(usual, scaled)


def test_a_silent_models_states_encode_their_own_tokens_alone() -> None:
    table = token_probe(inputs_of(silent, layers=1))
    for depth in (0, 1):
        matrix = values(table, "accuracy", depth=depth).reshape(LENGTH, LENGTH)
        assert np.diag(matrix).min() == 1.0
        assert matrix[~np.eye(LENGTH, dtype=bool)].max() < 0.2
    assert values(table, "chance").max() == pytest.approx(1 / VOCABULARY)


@pytest.mark.parametrize("position", [0, 3])
def test_a_copying_models_states_encode_the_copied_token_alone(position: int) -> None:
    switches = {"layers": 1, "attention": "full", "width": 32, "residual_free": {"attention": [0], "mlp": []}}
    table = token_probe(inputs_of(partial(copying, position), **switches))
    matrix = values(table, "accuracy", depth=1).reshape(LENGTH, LENGTH)
    assert matrix[:, position].min() == 1.0
    assert np.delete(matrix, position, axis=1).max() < 0.25


def test_measuring_changes_no_weight() -> None:
    inputs = inputs_of(untrained)
    before = {name: weight.clone() for name, weight in inputs.model.state_dict().items()}
    for measurement in measurements().values():
        measurement(inputs)
    torch.testing.assert_close(inputs.model.state_dict(), before, rtol=0, atol=0)
