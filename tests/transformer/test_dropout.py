"""Keyed dropout: the share of zeros, the scale, and that the mask depends on the key alone."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.transformer.dropout import KeyedDropout, hash64


@settings(max_examples=20)
@given(key=st.integers(-(2**63), 2**63 - 1), probability=st.floats(0.05, 0.9))
def test_the_share_of_zeros_and_the_scale_of_the_rest_match_the_probability(key: int, probability: float) -> None:
    dropout = KeyedDropout(probability)
    dropout.key = torch.tensor(key)
    out = dropout(torch.ones(40_000))
    error = 5 * (probability * (1 - probability) / 40_000) ** 0.5
    assert abs((out == 0).float().mean().item() - probability) < error
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / (1 - probability)))


def test_equal_keys_give_equal_masks_and_different_keys_independent_ones() -> None:
    dropout, masks = KeyedDropout(0.5), []
    for key in (1, 2, 1):
        dropout.key = hash64(torch.tensor(key))
        masks.append(dropout(torch.ones(20_000)) == 0)
    assert torch.equal(masks[0], masks[2])
    assert abs((masks[0] == masks[1]).float().mean().item() - 0.5) < 0.02


def test_evaluation_drops_nothing() -> None:
    x = torch.randn(10)
    assert torch.equal(KeyedDropout(0.5).eval()(x), x)


def test_the_hash_is_splitmix64() -> None:
    """First outputs of SplitMix64 seeded with 0, as published with the algorithm."""
    first = [value % 2**64 for value in hash64(torch.tensor([1, 2, 3])).tolist()]
    assert first == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
