"""What is known of networks that are interfered with: masks in another order, states of another prompt, no position."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.measurement.answers import answer_logits, answered_examples, answers_right
from pipeline.measurement.erasure import coded, erasure, rotated
from pipeline.measurement.interchange import interchange, places, recoveries, swappable
from pipeline.measurement.mask_order import mask_order, ordered, reordered
from pipeline.measurement.registry import residual_stream
from pipeline.measurement.symmetry import permuted_prompts
from tests.measurement.hand_set import numbers, rows, short_rows, subject, untrained

EXACT = 1e-12
ENCODINGS = ["none", "learned", "sinusoidal", "rotary", "alibi"]


def large(**switches: object):
    """An untrained model with weights about as large as trained ones, so that every path matters."""
    made = untrained(**switches)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 2:
                weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return subject(made, length=len(answered_examples(rows()).tokens[0]), **switches)


def test_every_query_sees_as_many_keys_as_the_one_in_its_place_did() -> None:
    visible = torch.ones(1, 7, 7).tril().bool()
    rank = torch.stack([torch.randperm(7, generator=torch.Generator().manual_seed(seed)) for seed in range(5)])
    told = reordered(visible, rank)
    assert (told.sum(-1) == rank + 1).all()
    assert told.diagonal(dim1=1, dim2=2).all()
    assert torch.equal(reordered(visible, torch.arange(7)[None]), visible)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_without_encoding_a_mask_in_another_order_in_every_layer_is_the_prompt_in_that_order(layers: int) -> None:
    seen = large(layers=layers)
    questions, permuted = answered_examples(seen.examples), permuted_prompts(seen.examples)
    order = permuted.orders[:, 0]
    told = ordered(seen, questions, order, range(layers))
    moved = questions.tokens.clone()
    moved[:, : order.shape[1]] = permuted.tokens[:, 0]
    of_prompt = answer_logits(seen.model, replace(questions, tokens=moved))
    torch.testing.assert_close(told, of_prompt, rtol=0, atol=EXACT)


@pytest.mark.parametrize("positional", ENCODINGS)
def test_the_order_of_the_last_mask_is_nothing_and_that_of_others_something(positional: str) -> None:
    table = mask_order(large(layers=3, positional=positional))
    assert list(table["layers"]) == ["0", "1", "2", "all"]
    changes = table["total_variation"].to_numpy()
    assert changes[2] < EXACT
    assert changes[[0, 1, 3]].min() > 1e-5
    assert abs(numbers(table, "exact_match_lost", layers="2").item()) == 0


@pytest.mark.parametrize("positional", ENCODINGS)
def test_without_masks_there_is_no_order_of_masks(positional: str) -> None:
    table = mask_order(large(layers=2, positional=positional, attention="full"))
    assert table["total_variation"].max() < EXACT
    assert abs(table["exact_match_lost"]).max() == 0


def test_what_is_swapped_differs_and_is_free_to_differ() -> None:
    prompts, pairs = swappable(rows())
    first, second = (prompts.gather(1, pairs[:, [place]]) for place in (0, 1))
    assert (first != second).all()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (pairs < prompts.shape[1] - 1).all()
    always = (prompts == prompts[:1]).all(0)
    assert not always[pairs].any()


def test_where_nothing_can_be_swapped_there_is_nothing_to_recover() -> None:
    table = interchange(subject(untrained(), of=short_rows()))
    assert table["recovery"].isna().all()
    assert set(table["depth"]) == {0, 1, 2}


def test_the_sets_of_places_part_the_prompt() -> None:
    pairs = torch.tensor([[0, 3], [1, 2]])
    sets = places(pairs, 6)
    whole = sets["swapped pair"].int() + sets["last"].int() + sets["rest"].int()
    assert (whole == 1).all()
    assert torch.equal(sets["all but the last"], ~sets["last"])


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("positional", ENCODINGS)
def test_a_swap_lies_in_its_pair_first_and_in_the_last_position_in_the_end(positional: str, attention: str) -> None:
    seen = large(layers=3, positional=positional, attention=attention)
    table = interchange(seen)
    if positional == "none" and attention == "full":
        assert table["recovery"].isna().all()  # nothing happens when its prompt is swapped
        return
    assert numbers(table, "recovery", places="swapped pair", depth=0).item() == pytest.approx(1, abs=1e-9)
    for name in ("last", "rest"):
        assert numbers(table, "recovery", places=name, depth=0).item() == pytest.approx(0, abs=1e-9)
    assert numbers(table, "recovery", places="last", depth=3).item() == pytest.approx(1, abs=1e-9)
    assert numbers(table, "recovery", places="all but the last", depth=3).item() == pytest.approx(0, abs=1e-9)


def test_without_encoding_the_last_position_knows_no_order_after_one_layer() -> None:
    table = interchange(large(layers=3))
    assert numbers(table, "recovery", places="last", depth=1).item() == pytest.approx(0, abs=1e-9)
    assert numbers(table, "recovery", places="all but the last", depth=1).item() == pytest.approx(1, abs=1e-9)
    assert abs(numbers(table, "recovery", places="last", depth=2).item()) > 1e-3


def test_putting_in_everything_brings_about_everything() -> None:
    seen = large(layers=2, positional="learned")
    prompts, pairs = swappable(seen.examples)
    found = recoveries(seen.model, prompts, pairs)
    assert found.shape == (3, 4)
    assert found.isfinite().all()


def test_in_all_rotations_every_token_stands_everywhere_equally_often() -> None:
    table = rotated(torch.randint(5, (4, 7), generator=torch.Generator().manual_seed(0)))
    counts = torch.stack([(table == token).sum(0) for token in range(5)])
    assert (counts == counts[:, :1]).all()


def test_a_learned_table_is_erased_exactly() -> None:
    """At depth 0, where it is all that says where a token is: the prompt becomes a set."""
    seen = large(layers=2, positional="learned", attention="full")
    states = coded(residual_stream(seen.model, rotated(seen.random[:20]))[0])
    permuted = permuted_prompts(seen.examples)
    length = permuted.prompts.shape[1]
    states = type(states)(states.mean[:length], states.size[:length])
    last = torch.full((len(permuted.prompts), 1), length - 1)

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        edit = lambda depth, x: states.without_mean(x) if depth == 0 else x  # noqa: E731
        samples = seen.model.samples(tokens, last)
        return seen.model.logits(seen.model.residual_stream(samples.tokens, samples.visible, edit=edit)[-1][:, -1:])

    for place in range(4):
        torch.testing.assert_close(logits(permuted.prompts), logits(permuted.tokens[:, place]), rtol=0, atol=EXACT)


def test_without_encoding_and_mask_there_is_nothing_to_erase() -> None:
    seen = large(layers=3, attention="full")
    questions = answered_examples(seen.examples)
    by_depth = residual_stream(seen.model, rotated(seen.random[:10]))
    plain = answer_logits(seen.model, questions)
    for depth, states in enumerate(by_depth):
        position = coded(states)
        for change in (position.without_mean, position.without_size, position.sham):
            edited = answer_logits(
                seen.model, questions, edit=lambda at, x, change=change, depth=depth: change(x) if at == depth else x
            )
            torch.testing.assert_close(edited, plain, rtol=0, atol=1e-9)


def test_what_is_erased_is_gone() -> None:
    states = torch.randn(50, 6, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    states = states * torch.arange(1, 7)[:, None] + torch.arange(6)[:, None]
    position = coded(states)
    erased, equal, sham = position.without_mean(states), position.without_size(states), position.sham(states)
    torch.testing.assert_close(erased.mean(0), position.middle.expand(6, 8))
    again = coded(equal)
    torch.testing.assert_close(again.size, again.size[:1].expand(6))
    torch.testing.assert_close((sham - states).norm(dim=-1), (erased - states).norm(dim=-1))
    assert (sham.mean(0) - sham.mean(0)[:1]).norm() > 1


def test_exact_match_is_a_share_and_untouched_is_the_models_own() -> None:
    seen = large(layers=2, positional="learned")
    table = erasure(seen)
    assert list(table["depth"]) == [0, 1, 2]
    values = table.drop(columns="depth").to_numpy()
    assert ((values >= 0) & (values <= 1)).all()
    questions = answered_examples(seen.examples)
    own = answers_right(seen.model(questions.tokens, questions.positions), questions).double().mean().item()
    assert np.unique(table["untouched"]) == [own]
