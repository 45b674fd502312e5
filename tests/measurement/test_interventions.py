"""Interventions on a running network: changed masks, states of another prompt, and states without their position."""

from functools import partial

import numpy as np
import pytest
import torch

from pipeline.measurement.common.interventions import ForwardPass, permuted_prompts, same_length_examples
from pipeline.measurement.common.scoring import exact_match
from pipeline.measurement.interchange import interchange, position_sets, swappable_prompts
from pipeline.measurement.mask_permutation import logits_with_permuted_masks, mask_permutation, permute_mask
from pipeline.measurement.mask_removal import mask_removal
from pipeline.measurement.position_erasure import all_rotations, build_erasures, position_erasure
from pipeline.measurement.registry import residual_stream
from pipeline.transformer.attention import last_position
from tests.measurement.hand_set import inputs_of, large, task_examples, unpermutable_examples, untrained, values

EXACT = 1e-12
ENCODINGS = ["none", "learned", "sinusoidal", "rotary", "alibi"]


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("substitute", ["none", "donor-deranged"])
def test_a_forward_pass_continues_from_every_depth_to_the_same_logits(attention: str, substitute: str) -> None:
    inputs = inputs_of(large, layers=3, attention=attention, residual_free=[1], residual_substitute=substitute)
    examples = inputs.examples[:10]
    forward = ForwardPass(inputs.model, examples.tokens, examples.positions)
    for logits in (inputs.model(examples.tokens, examples.positions), *map(forward.continue_from, range(4))):
        torch.testing.assert_close(logits, forward.logits, rtol=0, atol=EXACT)


def test_permuting_a_mask_permutes_the_number_of_visible_keys() -> None:
    visible = torch.ones(1, 7, 7).tril().bool()
    rank = torch.stack([torch.randperm(7, generator=torch.Generator().manual_seed(seed)) for seed in range(5)])
    permuted = permute_mask(visible, rank)
    assert (permuted.sum(-1) == rank + 1).all()
    assert permuted.diagonal(dim1=1, dim2=2).all()
    assert torch.equal(permute_mask(visible, torch.arange(7)[None]), visible)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_without_encoding_permuting_all_masks_equals_permuting_the_prompt(layers: int) -> None:
    inputs = inputs_of(large, layers=layers)
    examples, permuted = same_length_examples(inputs.examples), permuted_prompts(inputs.examples)
    order = permuted.token_orders[:, 0]
    usual = ForwardPass(inputs.model, examples.tokens, examples.positions)
    by_mask = logits_with_permuted_masks(usual, order, range(layers))
    tokens = examples.tokens.clone()
    tokens[:, : order.shape[1]] = permuted.tokens[:, 0]
    by_prompt = ForwardPass(inputs.model, tokens, examples.positions).logits
    torch.testing.assert_close(by_mask, by_prompt, rtol=0, atol=EXACT)


@pytest.mark.parametrize("positional", ENCODINGS)
def test_permuting_or_removing_the_last_mask_has_no_effect_and_changing_another_has(positional: str) -> None:
    inputs = inputs_of(large, layers=3, positional=positional)
    permuted, removed = mask_permutation(inputs), mask_removal(inputs)
    assert list(permuted["layers"]) == ["0", "1", "2", "all"]
    changes = permuted["total_variation"].to_numpy()
    assert changes[2] < EXACT
    assert changes[[0, 1, 3]].min() > 1e-5
    assert values(permuted, "exact_match_lost", layers="2").item() == 0
    assert removed["max_logit_change"].iloc[-1] < EXACT
    assert (removed[["max_logit_change", "total_variation"]].iloc[:-1] > 1e-6).all(axis=None)


@pytest.mark.parametrize("positional", ENCODINGS)
def test_full_attention_has_no_mask_to_remove_and_permuting_it_has_no_effect(positional: str) -> None:
    inputs = inputs_of(large, layers=2, positional=positional, attention="full")
    assert mask_removal(inputs).empty
    table = mask_permutation(inputs)
    assert table["total_variation"].max() < EXACT
    assert abs(table["exact_match_lost"]).max() == 0


def test_without_encoding_a_single_first_mask_carries_all_order() -> None:
    inputs = inputs_of(large, layers=3, attention=["causal", "full", "full"])
    removed, permuted = mask_removal(inputs), mask_permutation(inputs).set_index("layers")["total_variation"]
    assert list(removed["layer"]) == [0]
    assert removed["max_logit_change"].item() > 1e-6
    assert permuted[["1", "2"]].max() < EXACT
    assert permuted["0"] == pytest.approx(permuted["all"])
    assert permuted["0"] > 1e-5


def test_swapped_tokens_differ_and_are_not_those_of_every_prompt() -> None:
    prompts, pairs = swappable_prompts(task_examples())
    first, second = (prompts.gather(1, pairs[:, [side]]) for side in (0, 1))
    assert (first != second).all()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (pairs < prompts.shape[1] - 1).all()
    constant = (prompts == prompts[:1]).all(0)
    assert not constant[pairs].any()


def test_without_swappable_tokens_the_recovery_is_unknown() -> None:
    table = interchange(inputs_of(untrained, examples=unpermutable_examples()))
    assert table["recovery"].isna().all()
    assert set(table["depth"]) == {0, 1, 2}


def test_three_position_sets_partition_the_prompt() -> None:
    sets = position_sets(torch.tensor([[0, 3], [1, 2]]), 6)
    assert (sets["swapped pair"].int() + sets["last"].int() + sets["rest"].int() == 1).all()
    assert torch.equal(sets["all but the last"], ~sets["last"])


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("positional", ENCODINGS)
def test_the_pair_has_the_whole_effect_at_first_and_the_last_position_in_the_end(
    positional: str, attention: str
) -> None:
    table = interchange(inputs_of(large, layers=3, positional=positional, attention=attention))
    assert len(table) == 4 * 4
    if positional == "none" and attention == "full":
        assert table["recovery"].isna().all()  # swapping has no effect
        return
    assert table["recovery"].notna().all()
    expected = {("swapped pair", 0): 1, ("last", 0): 0, ("rest", 0): 0, ("last", 3): 1, ("all but the last", 3): 0}
    for (positions, depth), recovery in expected.items():
        assert values(table, "recovery", positions=positions, depth=depth).item() == pytest.approx(recovery, abs=1e-9)


def test_without_encoding_the_last_state_carries_no_order_after_one_layer() -> None:
    read = partial(values, interchange(inputs_of(large, layers=3)), "recovery")
    assert read(positions="last", depth=1).item() == pytest.approx(0, abs=1e-9)
    assert read(positions="all but the last", depth=1).item() == pytest.approx(1, abs=1e-9)
    assert abs(read(positions="last", depth=2).item()) > 1e-3


def test_in_all_rotations_every_token_is_at_every_position_equally_often() -> None:
    rotations = all_rotations(torch.randint(5, (4, 7), generator=torch.Generator().manual_seed(0)))
    counts = torch.stack([(rotations == token).sum(0) for token in range(5)])
    assert (counts == counts[:, :1]).all()


def test_erasing_a_learned_encoding_makes_the_prompt_a_set() -> None:
    inputs = inputs_of(large, layers=2, positional="learned", attention="full")
    permuted = permuted_prompts(inputs.examples)
    embedded = residual_stream(inputs.model, all_rotations(inputs.random_tokens[:20]))[0]
    erase = build_erasures(embedded[:, : permuted.prompts.shape[1]])["mean_erased"]
    passes = (
        ForwardPass(inputs.model, tokens, last_position(tokens))
        for tokens in (permuted.prompts, *permuted.tokens.unbind(1))
    )
    usual, *others = (forward.continue_from(0, erase(forward.stream[0])) for forward in passes)
    for other in others:
        torch.testing.assert_close(other, usual, rtol=0, atol=EXACT)


def test_without_encoding_and_mask_erasing_changes_nothing() -> None:
    inputs = inputs_of(large, layers=3, attention="full")
    examples = same_length_examples(inputs.examples)
    usual = ForwardPass(inputs.model, examples.tokens, examples.positions)
    for depth, states in enumerate(residual_stream(inputs.model, all_rotations(inputs.random_tokens[:10]))):
        for erase in build_erasures(states).values():
            edited = usual.continue_from(depth, erase(usual.stream[depth]))
            torch.testing.assert_close(edited, usual.logits, rtol=0, atol=1e-9)


def test_erasures_equalise_means_and_spreads_and_the_control_shifts_as_far() -> None:
    states = torch.randn(50, 6, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    states = states * torch.arange(1, 7)[:, None] + torch.arange(6)[:, None]
    edited = {name: edit(states) for name, edit in build_erasures(states).items()}
    torch.testing.assert_close(edited["mean_erased"].mean(0), states.mean((0, 1)).expand(6, 8))
    spread = (edited["size_erased"] - edited["size_erased"].mean(0)).norm(dim=-1).mean(0)
    torch.testing.assert_close(spread, spread[:1].expand(6))
    control = edited["sham"]
    torch.testing.assert_close((control - states).norm(dim=-1), (edited["mean_erased"] - states).norm(dim=-1))
    assert (control.mean(0) - control.mean(0)[:1]).norm() > 1


def test_exact_match_is_a_share_and_untouched_is_that_of_the_model() -> None:
    inputs = inputs_of(large, layers=2, positional="learned")
    table = position_erasure(inputs)
    assert list(table["depth"]) == [0, 1, 2]
    shares = table.drop(columns="depth").to_numpy()
    assert ((shares >= 0) & (shares <= 1)).all()
    examples = same_length_examples(inputs.examples)
    share = exact_match(inputs.model(examples.tokens, examples.positions), examples)
    assert np.unique(table["untouched"]) == [share.item()]
