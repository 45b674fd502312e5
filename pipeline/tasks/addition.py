"""Task `addition`: add two numbers, written as text. By default the answer is reversed and padded: `123+456=9750`."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from pydantic import Field

from pipeline.errors import UserError
from pipeline.params.task import SPLITS, Task

DEALING_ORDER = ("test", "validation", "train")
"""Names of the splits in the order in which they receive examples. With uniform sampling, the sizes of the other splits
do not change the test split; balanced sampling shares scarce strata in proportion to the sizes."""

MAX_ENUMERATED_DIGITS = 3
"""Largest number of digits for which all pairs of numbers are listed."""
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DECIMAL_PLACES = ("ones", "tens", "hundreds", "thousands")
PAIRS_PER_DRAW = 200_000
"""Number of random pairs drawn at a time, where the pairs are too many to list."""
MAX_FRUITLESS_DRAWS = 50
"""Number of consecutive draws of `PAIRS_PER_DRAW` pairs without a new pair, after which a stratum counts as used up."""

Numbers = Int[np.ndarray, " examples"]
"""Array with a whole number per example."""


def count_carries(left: Numbers, right: Numbers) -> Numbers:
    """Return the number of decimal places at which left + right carries, by Kummer's theorem."""
    return (sum_digits(left) + sum_digits(right) - sum_digits(left + right)) // 9


def sum_digits(numbers: Numbers) -> Numbers:
    """Return the sum of the decimal digits of each number."""
    total = np.zeros_like(numbers)
    while numbers.any():
        total += numbers % 10
        numbers = numbers // 10
    return total


def count_digits(numbers: Numbers) -> Numbers:
    """Return the number of decimal digits of each number; zero has one."""
    digits = np.ones_like(numbers)
    while (numbers := numbers // 10).any():
        digits += numbers > 0
    return digits


class Stratum(NamedTuple):
    """Group of pairs of numbers that sampling treats alike."""

    carries: int
    """Number of carries in the sum of a pair."""
    digits: int
    """Number of digits of the longer number of a pair."""


ALL_PAIRS = Stratum(carries=-1, digits=0)
"""Stratum of all pairs, the only stratum of uniform sampling."""


class Addition(Task):
    """Task `addition`: add two numbers of up to `digits` digits, as in `123+456=9750`.

    Sampling is `uniform` over all ordered pairs, or `balanced` as in Lee et al., "Teaching Arithmetic to Small
    Transformers" (arXiv 2307.03381, section 3): every number of carries equally often, and within it all lengths that
    admit it, each ten times as often as the next shorter one (100, 900, 9,000 in the paper). Every stratum has at least
    one example, as far as there is room. At most half of the few short pairs are used, so that all splits get some.
    """

    answer_unit: ClassVar[str] = "digit"
    name: Literal["addition"]
    digits: Annotated[int, Field(ge=1, le=9)]
    reverse: bool = True
    """True to write the least significant digit of the sum first."""
    zero_pad: bool = True
    """True to pad both numbers and the sum with zeros to a fixed length."""
    delimiters: bool = False
    """True to put a `$` before and after each example."""
    sampling: Literal["uniform", "balanced"] = "uniform"

    @property
    def description(self) -> str:
        example = "`123+456=`" if self.digits == 3 else "`a+b=`"
        order = "least" if self.reverse else "most"
        return f"{NUMBER_WORDS[self.digits - 1]}-digit addition ({example}, the answer {order} significant digit first)"

    @property
    def answer_position_names(self) -> Sequence[str]:
        count = self.digits + 1 + len(self.end_token)
        if not self.zero_pad:  # the decimal place of a character depends on the length of the answer
            return [f"{position}." for position in range(1, count + 1)]
        names = [*DECIMAL_PLACES, *(f"10^{power}" for power in range(len(DECIMAL_PLACES), self.digits + 1))]
        names = names[: self.digits + 1][:: 1 if self.reverse else -1]
        return [*names, "end"][:count]

    @property
    def strata(self) -> dict[str, Sequence[int]]:
        """Return the values of the column `carries`: numbers of n digits carry at most n times."""
        return {"carries": range(self.digits + 1)}

    @property
    def end_token(self) -> str:
        if self.delimiters:
            return "$"
        return "" if self.zero_pad else "\n"

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*"0123456789+=", *self.end_token})

    def build_table(self, left: Numbers, right: Numbers) -> pd.DataFrame:
        """Return the table of the examples left + right, with the columns that `Task` requires."""
        digits = self.digits if self.zero_pad else 0
        start = "$" if self.delimiters else ""
        operands = [pd.Series(numbers).astype(str).str.zfill(digits) for numbers in (left, right)]
        answer = pd.Series(left + right).astype(str).str.zfill(digits + 1 if digits else 0)
        return pd.DataFrame(
            {
                "prompt": start + operands[0] + "+" + operands[1] + "=",
                "answer": answer.str[::-1] if self.reverse else answer,
                "a": left,
                "b": right,
                "sum": left + right,
                "carries": count_carries(left, right),
            }
        )

    def enumerate_examples(self) -> tuple[pd.DataFrame, Float[np.ndarray, " examples"]] | None:
        """Return all examples with their probabilities, None for numbers of more than three digits."""
        if self.digits > MAX_ENUMERATED_DIGITS:
            return None
        a, b = self._list_all_pairs()
        if self.sampling == "uniform":
            return self.build_table(a, b), np.full(len(a), 1.0 / len(a))
        stratum = pd.MultiIndex.from_arrays((count_carries(a, b), count_digits(np.maximum(a, b))))
        drawn = pd.Series(self._count_examples_per_stratum(self.test_size)) / self.test_size
        return self.build_table(a, b), (drawn / stratum.value_counts()).reindex(stratum).to_numpy(float)

    def draw_splits(self) -> dict[str, pd.DataFrame]:
        """Draw the examples of all splits. No two splits share a pair of numbers, in any order: a pair belongs to the
        split that first receives it.

        Raises:
            UserError: the sizes ask for more pairs than exist.
        """
        generator = np.random.default_rng(self.seed)
        sizes = {split: self._count_examples_per_stratum(getattr(self, f"{split}_size")) for split in DEALING_ORDER}
        chosen: dict[str, list[np.ndarray]] = {split: [] for split in DEALING_ORDER}
        for stratum in sizes["train"]:
            requested_counts = {split: sizes[split][stratum] for split in DEALING_ORDER}
            if sum(requested_counts.values()) > self._count_pairs(stratum):  # because dealing would try for long
                raise UserError(self._format_shortage_message(stratum, requested_counts))
            received = self._deal_pairs(stratum, requested_counts, generator) or self._deal_pairs(
                stratum, requested_counts, generator, keep_orders_together=True
            )
            if received is None:
                raise UserError(self._format_shortage_message(stratum, requested_counts))
            for split in DEALING_ORDER:
                chosen[split].append(received[split])
        tables = {}
        for split in DEALING_ORDER:
            pairs = generator.permutation(np.concatenate(chosen[split]))
            tables[split] = self.build_table(pairs[:, 0], pairs[:, 1])
        return {split: tables[split] for split in SPLITS}

    def _deal_pairs(
        self,
        stratum: Stratum,
        requested_counts: dict[str, int],
        generator: np.random.Generator,
        *,
        keep_orders_together: bool = False,
    ) -> dict[str, Int[np.ndarray, "examples 2"]] | None:
        """Deal pairs of a stratum until each split has its number of `requested_counts`; None if the pairs run out.

        A pair is usually dealt in one order; the other order is lost if the split is full when that order comes up.
        `keep_orders_together` deals both orders to one split with room for both, where pairs are scarce; up to three
        digits, no usable pair is then lost.
        """
        owner: dict[tuple[int, int], str] = {}
        received: dict[str, list[tuple[int, int]]] = {split: [] for split in DEALING_ORDER}
        for a, b in self._draw_pairs(stratum, generator, keep_orders_together=keep_orders_together):
            open_splits = [split for split in DEALING_ORDER if len(received[split]) < requested_counts[split]]
            if not open_splits:
                break
            together = 2 if keep_orders_together and a != b else 1
            roomy = [split for split in open_splits if len(received[split]) + together <= requested_counts[split]]
            split = owner.setdefault((min(a, b), max(a, b)), (roomy or open_splits)[0])
            if split in open_splits:
                received[split].append((a, b))
        if any(len(received[split]) < requested_counts[split] for split in DEALING_ORDER):
            return None
        return {split: np.array(pairs, dtype=np.int64).reshape(-1, 2) for split, pairs in received.items()}

    def _format_shortage_message(self, stratum: Stratum, requested_counts: dict[str, int]) -> str:
        which = f"operands of up to {self.digits} digits"
        if self.sampling == "balanced":
            which = f"{stratum.carries} carries and operands of {stratum.digits} digits"
        requested = ", ".join(f"{requested_counts[split]} for {split}" for split in reversed(DEALING_ORDER))
        return (
            f"task: more examples asked for than exist: {requested} with {which}, of which there are "
            f"{self._count_pairs(stratum)} (splits may share no pair of operands, in either order)"
        )

    def _draw_pairs(
        self, stratum: Stratum, generator: np.random.Generator, *, keep_orders_together: bool
    ) -> Iterator[tuple[int, int]]:
        """Iterate over the pairs of a stratum in random order, without repetition.

        All pairs are listed and permuted where they are few enough, else drawn until no new pair comes up.
        """
        if self.digits <= MAX_ENUMERATED_DIGITS:
            a, b = self._list_all_pairs()
            keep = self._is_in_stratum(stratum, a, b)
            order = generator.permutation(int(keep.sum()))
            pairs = np.stack((a[keep][order], b[keep][order]), axis=1)
            if keep_orders_together:
                _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
                pairs = pairs[np.sort(first)]
                doubles = np.flatnonzero(pairs[:, 0] == pairs[:, 1])[: len(DEALING_ORDER)]
                # a + a has one order only; one for each split comes last, to fill a split of odd size
                pairs = np.concatenate((np.delete(pairs, doubles, axis=0), pairs[doubles]))
            for a, b in pairs.tolist():
                yield a, b
                if keep_orders_together and a != b:
                    yield b, a
            return
        seen: set[tuple[int, int]] = set()
        limit, fruitless_draws = 10 ** (stratum.digits or self.digits), 0
        while fruitless_draws < MAX_FRUITLESS_DRAWS:
            a, b = generator.integers(0, limit, (2, PAIRS_PER_DRAW))
            keep = self._is_in_stratum(stratum, a, b)
            fruitless_draws += 1
            for pair in zip(a[keep].tolist(), b[keep].tolist(), strict=True):
                if pair not in seen:
                    fruitless_draws = 0
                    for ordered in dict.fromkeys((pair, pair[::-1])) if keep_orders_together else (pair,):
                        seen.add(ordered)
                        yield ordered

    def _list_all_pairs(self) -> tuple[Numbers, Numbers]:
        numbers = np.arange(10**self.digits, dtype=np.int64)
        return np.repeat(numbers, len(numbers)), np.tile(numbers, len(numbers))

    def _is_in_stratum(self, stratum: Stratum, left: Numbers, right: Numbers) -> Bool[np.ndarray, " examples"]:
        if self.sampling == "uniform":
            return np.ones(len(left), dtype=bool)
        longer = np.maximum(left, right)
        return (count_carries(left, right) == stratum.carries) & (count_digits(longer) == stratum.digits)

    def _count_pairs(self, stratum: Stratum) -> int:
        if self.sampling == "uniform":
            return 10 ** (2 * self.digits)
        up_to, shorter = (
            _count_pairs_below(digits, stratum.carries) for digits in (stratum.digits, stratum.digits - 1)
        )
        return up_to - shorter

    def _count_examples_per_stratum(self, split_size: int) -> dict[Stratum, int]:
        """Return the number of examples of each stratum in a split of `split_size` examples."""
        if self.sampling == "uniform":
            return {ALL_PAIRS: split_size}
        counts = self.digits + 1
        split_share = split_size / sum(getattr(self, f"{split}_size") for split in DEALING_ORDER)
        quotas: dict[Stratum, int] = {}
        for count in range(counts):
            left = total = split_size // counts + (count < split_size % counts)
            strata = [Stratum(count, digits) for digits in range(max(1, count), self.digits + 1)]
            for stratum in strata[:-1]:
                share = 10.0**stratum.digits / sum(10.0**other.digits for other in strata)
                is_scarce = stratum.digits <= MAX_ENUMERATED_DIGITS
                room = self._count_pairs(stratum) * split_share / 2 if is_scarce else total
                quotas[stratum] = min(left, max(1, min(round(total * share), int(room))))
                left -= quotas[stratum]
            quotas[strata[-1]] = left
        return quotas


@cache
def _count_pairs_below(digits: int, carry_count: int) -> int:
    """Return the number of pairs of numbers below 10 ** digits whose sum carries `carry_count` times.

    The pairs are counted digit by digit: of the 100 pairs of digits, 45 carry, and 55 after a carry.
    """
    if digits == 0:
        return 0  # the number 0 has one digit
    ways = {(0, False): 1}
    for _ in range(digits):
        next_ways: dict[tuple[int, bool], int] = {}
        for (count, carried), number in ways.items():
            carrying = 55 if carried else 45
            for key, pairs in (((count + 1, True), carrying), ((count, False), 100 - carrying)):
                next_ways[key] = next_ways.get(key, 0) + number * pairs
        ways = next_ways
    return sum(number for (count, _), number in ways.items() if count == carry_count)
