"""Order-blindness predicted from the architecture and measured, and where in depth it ends."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.measurement.common.permutations import LOGIT_TOLERANCE, permuted_prompts
from pipeline.measurement.permutation_sensitivity import permutation_sensitivity
from pipeline.measurement.symmetry import SymmetryError, check_symmetry, prediction_changes, symmetry
from pipeline.transformer.substitutes import SUBSTITUTES
from tests.conftest import ablation, model
from tests.measurement.hand_set import (
    measurement_input,
    silent,
    task_examples,
    uniform,
    unpermutable_examples,
    untrained,
    values,
    with_large_weights,
)

architectures = st.integers(1, 4).flatmap(
    lambda layers: st.fixed_dictionaries(
        {
            "layers": st.just(layers),
            "positional": st.sampled_from(["none", "learned", "sinusoidal", "rotary", "alibi"]),
            "attention": st.sampled_from(["causal", "full"]),
            "residual_free": st.fixed_dictionaries(
                {name: st.sets(st.integers(0, layers - 1)).map(sorted) for name in ("attention", "mlp")}
            ),
            "residual_substitute": st.sampled_from(list(SUBSTITUTES)),
        }
    )
)


@settings(max_examples=80)
@given(architectures, st.integers(0, 2**16))
def test_a_prediction_depends_on_order_unless_the_architecture_is_order_blind(switches: dict, seed: int) -> None:
    transformer = with_large_weights(untrained(seed, **switches), size=0.2, seed=seed).double()
    change = prediction_changes(transformer, permuted_prompts(task_examples(20), prompt_count=8, permutation_count=8))
    assert (change["max_logit_change"] <= LOGIT_TOLERANCE) == is_order_blind(model(**switches))


def test_permutations_keep_the_last_token_and_the_multiset() -> None:
    permuted = permuted_prompts(task_examples())
    assert (permuted.tokens[..., -1] == permuted.prompts[:, None, -1]).all()
    assert (permuted.tokens.sort(-1).values == permuted.prompts[:, None].sort(-1).values).all()
    assert (permuted.tokens != permuted.prompts[:, None]).any(-1).float().mean() > 0.8


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_uniform_attention_returns_the_mean_in_any_order(attention: str) -> None:
    transformer = uniform(layers=1, attention=attention, residual_free={"attention": [0], "mlp": []})
    inputs = measurement_input(transformer, layers=1, attention=attention)
    stream = inputs.random_stream
    normalised = transformer.blocks[0].attention.norm(stream[0])
    torch.testing.assert_close(stream[1][:, -1], normalised.mean(1))
    assert symmetry(inputs)["max_logit_change"].item() < 1e-14


def test_a_disagreement_is_an_error_in_both_directions() -> None:
    for order_blind, change in ((True, 1e-6), (False, 1e-12)):
        with pytest.raises(SymmetryError, match=f"some-ablation.*{change:g}"):
            check_symmetry(order_blind, change, ablation("some-ablation"))
    check_symmetry(False, 1e-12, ablation("some-ablation"), tolerance=1e-13)
    with pytest.raises(SymmetryError):
        symmetry(
            measurement_input(silent(layers=2), layers=2)
        )  # its architecture depends on order, but its layers add nothing


@pytest.mark.parametrize(
    "switches",
    [
        {"layers": 8, "width": 8, "residual_free": range(8)},  # little of any signal is left
        {"layers": 6, "width": 8, "residual_free": range(6), "residual_substitute": "all-mean"},
        {"layers": 2, "width": 1, "heads": 1, "positional": "learned"},  # the norm of a single number is 0
    ],
)
def test_a_tiny_dependence_on_order_is_no_error(switches: dict) -> None:
    switches = switches | {"residual_free": list(switches.get("residual_free", []))}
    assert symmetry(measurement_input(untrained(**switches), **switches))["max_logit_change"].item() < LOGIT_TOLERANCE


def test_prompts_that_cannot_be_permuted_are_no_error() -> None:
    inputs = measurement_input(untrained(), examples=unpermutable_examples())
    assert symmetry(inputs)["max_logit_change"].item() < 1e-15


def test_changes_are_bounded() -> None:
    changes = symmetry(measurement_input(untrained(positional="learned"), positional="learned")).iloc[0]
    assert 0 < changes["total_variation"] <= 1
    assert 0 <= changes["changed_argmax_share"] <= 1


def test_states_of_a_set_move_with_their_tokens() -> None:
    table = permutation_sensitivity(measurement_input(untrained(attention="full"), attention="full"))
    assert values(table, "change_of_token").max() < 1e-12
    last = table["position"].max()
    assert values(table, "change_in_place", position=last).max() < 1e-12
    assert values(table, "change_in_place", position=0, depth=0).item() > 0.1


def test_the_causal_mask_affects_the_last_position_from_the_second_layer_on() -> None:
    table = permutation_sensitivity(measurement_input(untrained(layers=3), layers=3))
    last = table["position"].max()
    changes = [values(table, "change_of_token", position=last, depth=d).item() for d in range(4)]
    np.testing.assert_allclose(changes[:2], 0, atol=1e-12)
    assert min(changes[2:]) > 1e-5
    assert values(table, "change_of_token", position=0, depth=1).item() > 1e-4  # this token attends to others now
