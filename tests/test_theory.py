"""Statements of docs/theory.md that no other test verifies, on small random networks without positional encoding."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.transformer.model import Transformer
from tests.conftest import model

VOCABULARY, LENGTH = 5, 12
tokens_of_a_sequence = st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=LENGTH)
seeds = st.integers(0, 2**16)
Pair = tuple[int, tuple[tuple[int, Fraction], ...]]


def random_network(layers: int, seed: int) -> Transformer:
    """A network in float64 without positional encoding, with weights so large that every path has an effect."""
    network = Transformer(model(layers=layers, positional="none"), vocabulary=VOCABULARY, length=2 * LENGTH).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=generator)
    return network.eval()


def assert_equal(states: Tensor, expected: Tensor) -> None:
    """Assert equality up to rounding in float64."""
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-12)


def causal(length: int) -> Tensor:
    return torch.ones(1, length, length).tril().bool()


@torch.no_grad()
def states_after_first_layer(network: Transformer, sequence: Sequence[int]) -> Tensor:
    """States at all positions of one sequence, with a causal mask."""
    return network.residual_stream(torch.tensor([list(sequence)]), causal(len(sequence)))[1][0]


@settings(max_examples=30)
@given(tokens_of_a_sequence, seeds, st.data())
def test_a_state_after_one_causal_layer_depends_on_its_token_and_the_multiset_of_earlier_tokens(
    sequence: list[int], seed: int, data: st.DataObject
) -> None:
    network = random_network(1, seed)
    position = data.draw(st.integers(0, len(sequence) - 1))
    earlier = data.draw(st.permutations(sequence[:position]))
    expected = states_after_first_layer(network, sequence)[position]
    state = states_after_first_layer(network, [*earlier, *sequence[position:]])[position]
    assert_equal(state, expected)


@settings(max_examples=30)
@given(tokens_of_a_sequence, seeds)
def test_a_state_after_one_causal_layer_depends_on_frequencies_and_not_on_numbers(
    sequence: list[int], seed: int
) -> None:
    states = states_after_first_layer(random_network(1, seed), 2 * sequence)
    assert_equal(states[-1], states[len(sequence) - 1])


@given(tokens_of_a_sequence, st.data())
def test_tokens_with_the_multisets_up_to_them_determine_the_sequence(sequence: list[int], data: st.DataObject) -> None:
    pairs = [(token, Counter(sequence[: position + 1])) for position, token in enumerate(sequence)]
    shuffled = data.draw(st.permutations(pairs))
    assert [token for token, seen in sorted(shuffled, key=lambda pair: pair[1].total())] == sequence


def frequency_pairs(sequence: Sequence[int]) -> list[Pair]:
    """Each token with the frequencies of the tokens up to it."""
    pairs = []
    for position, token in enumerate(sequence, start=1):
        counts = Counter(sequence[:position])
        pairs.append((token, tuple(sorted((other, Fraction(n, position)) for other, n in counts.items()))))
    return pairs


def test_tokens_with_the_frequencies_up_to_them_determine_short_sequences_of_one_length() -> None:
    """A second layer sees the pair at the last position, and how often each pair occurs."""
    for vocabulary, longest in ((2, 9), (3, 6)):
        for length in range(1, longest + 1):
            collections = [frequency_pairs(sequence) for sequence in product(range(vocabulary), repeat=length)]
            visible = {(pairs[-1], frozenset(Counter(pairs).items())) for pairs in collections}
            assert len(visible) == vocabulary**length


@torch.no_grad()
def test_a_second_layer_without_mask_reads_the_order_and_only_after_a_layer_with_one() -> None:
    tokens = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3]])
    masks = {"causal": causal(4), "full": torch.ones(1, 4, 4).bool()}
    for first, second in (("causal", "full"), ("full", "causal")):
        stream = random_network(2, 0).residual_stream(tokens, torch.stack([masks[first], masks[second]]))
        change = (stream[-1][0, -1] - stream[-1][1, -1]).abs().max()
        assert (change > 1e-6) if first == "causal" else (change < 1e-12)


@settings(max_examples=20)
@given(st.integers(0, VOCABULARY - 1), st.integers(1, 3), seeds)
@torch.no_grad()
def test_the_length_of_a_run_of_one_token_is_invisible_at_every_depth(token: int, layers: int, seed: int) -> None:
    stream = random_network(layers, seed).residual_stream(torch.full((1, LENGTH), token), causal(LENGTH))
    for states in stream:
        assert_equal(states, states[:, :1].expand_as(states))


@torch.no_grad()
def test_a_first_token_that_does_not_return_makes_the_position_visible() -> None:
    states = states_after_first_layer(random_network(1, 0), [0] + (LENGTH - 1) * [1])
    distances = torch.cdist(states, states) + torch.eye(LENGTH)
    assert distances.min() > 1e-6
