"""Prediction and measurement of order-blindness, and where in depth it ends."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.measurement.depth import depth
from pipeline.measurement.order_blind import is_order_blind
from pipeline.measurement.symmetry import (
    TOLERANCE,
    SymmetryError,
    change_of_prediction,
    check,
    permuted_prompts,
    symmetry,
)
from pipeline.transformer.substitutes import SUBSTITUTES
from tests.conftest import ablation, model
from tests.measurement.hand_set import numbers, rows, short_rows, silent, subject, uniform, untrained

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
def test_the_architecture_alone_says_whether_order_matters(switches: dict, seed: int) -> None:
    made = untrained(seed, **switches)
    with torch.no_grad():  # about as large as trained weights, so that what can move does
        for weight in made.parameters():
            if weight.ndim == 2:
                weight.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    change = change_of_prediction(made.double(), permuted_prompts(rows(20), prompts=8, permutations=8))
    assert (change["max_logit_change"] <= TOLERANCE) == is_order_blind(model(**switches))


def test_permutations_keep_the_last_token_and_the_multiset() -> None:
    permuted = permuted_prompts(rows())
    assert (permuted.tokens[..., -1] == permuted.prompts[:, None, -1]).all()
    assert (permuted.tokens.sort(-1).values == permuted.prompts[:, None].sort(-1).values).all()
    assert (permuted.tokens != permuted.prompts[:, None]).any(-1).float().mean() > 0.8


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_a_uniform_attender_gives_the_mean_of_its_values_whatever_their_order(attention: str) -> None:
    made = uniform(layers=1, attention=attention, residual_free={"attention": [0], "mlp": []})
    seen = subject(made, layers=1, attention=attention)
    stream = seen.random_stream
    normalised = made.blocks[0].attention.norm(stream[0])
    torch.testing.assert_close(stream[1][:, -1], normalised.mean(1))
    assert symmetry(seen)["max_logit_change"].item() < 1e-14


def test_a_disagreement_is_an_error_in_both_directions() -> None:
    some = ablation("some-ablation")
    with pytest.raises(SymmetryError, match=r"some-ablation: .* must not"):
        check(True, 1e-6, some)
    with pytest.raises(SymmetryError, match="must move"):
        check(False, 1e-12, some)
    check(False, 1e-12, some, least=1e-13)
    with pytest.raises(SymmetryError):
        symmetry(subject(silent(layers=2), layers=2))  # no layer does anything: blinder than its architecture says


@pytest.mark.parametrize(
    "switches",
    [
        {"layers": 8, "width": 8, "residual_free": range(8)},  # of the signal next to nothing is left
        {"layers": 6, "width": 8, "residual_free": range(6), "residual_substitute": "all-mean"},
        {"layers": 2, "width": 1, "heads": 1, "positional": "learned"},  # a norm of a single number is always 0
    ],
)
def test_what_shows_hardly_or_not_at_all_is_no_bug(switches: dict) -> None:
    switches = switches | {"residual_free": list(switches.get("residual_free", []))}
    assert symmetry(subject(untrained(**switches), **switches))["max_logit_change"].item() < TOLERANCE


def test_where_nothing_can_change_places_order_cannot_count() -> None:
    made = subject(untrained(), of=short_rows())
    assert symmetry(made)["max_logit_change"].item() < 1e-15


def test_changes_are_bounded() -> None:
    measured = symmetry(subject(untrained(positional="learned"), positional="learned")).iloc[0]
    assert 0 < measured["total_variation"] <= 1
    assert 0 <= measured["changed_argmax_share"] <= 1


def test_in_depth_a_set_never_moves_and_embeddings_move_only_in_place() -> None:
    table = depth(subject(untrained(attention="full"), attention="full"))
    assert numbers(table, "change_of_token").max() < 1e-12
    last = table["position"].max()
    assert numbers(table, "change_in_place", position=last).max() < 1e-12
    assert numbers(table, "change_in_place", position=0, depth=0).item() > 0.1


def test_in_depth_the_causal_mask_moves_the_last_position_only_from_the_second_layer_on() -> None:
    table = depth(subject(untrained(layers=3), layers=3))
    last = table["position"].max()
    moved = [numbers(table, "change_of_token", position=last, depth=d).item() for d in range(4)]
    np.testing.assert_allclose(moved[:2], 0, atol=1e-12)
    assert min(moved[2:]) > 1e-5
    assert numbers(table, "change_of_token", position=0, depth=1).item() > 1e-4  # a token that now sees others
