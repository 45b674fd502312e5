"""Task `addition`: add two numbers, written as text. By default the answer is reversed and padded: `123+456=9750`."""

from collections.abc import Iterator, Sequence
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
POWERS_OF_TEN = 10 ** np.arange(1, 10)
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

Numbers = Int[np.ndarray, " examples"]
"""Array with a whole number per example."""


def count_carries(left: Numbers, right: Numbers) -> Numbers:
    """Return the number of decimal places at which left + right carries."""
    return np.sum([left % power + right % power >= power for power in POWERS_OF_TEN], axis=0)


def count_digits(numbers: Numbers) -> Numbers:
    """Return the number of decimal digits of each number; zero has one."""
    return 1 + np.searchsorted(POWERS_OF_TEN, numbers, side="right")


class Stratum(NamedTuple):
    """Pairs of numbers that sampling treats alike: with one number of carries and of digits of the longer number."""

    carries: int
    digits: int


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
        names = ["ones", "tens", "hundreds", "thousands", *(f"10^{power}" for power in range(4, 10))]
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
        a, b = np.divmod(np.arange(100**self.digits), 10**self.digits)
        if self.sampling == "uniform":
            return self.build_table(a, b), np.full(len(a), 1.0 / len(a))
        stratum = pd.MultiIndex.from_arrays((count_carries(a, b), count_digits(np.maximum(a, b))))
        drawn = pd.Series(self._count_examples_per_stratum(self.test_size)) / self.test_size
        return self.build_table(a, b), (drawn / stratum.value_counts()).reindex(stratum).to_numpy(float)

    def draw_splits(self) -> dict[str, pd.DataFrame]:
        """Draw the examples of all splits. No two splits share a pair of numbers, in any order: a pair belongs to the
        split that first receives it."""
        generator = np.random.default_rng(self.seed)
        counts = {split: self._count_examples_per_stratum(self.sizes[split]) for split in DEALING_ORDER}
        chosen: dict[str, list[np.ndarray]] = {split: [] for split in DEALING_ORDER}
        for stratum in counts["train"]:
            requested = {split: counts[split][stratum] for split in DEALING_ORDER}
            existing, received = self._count_pairs(stratum), None
            if sum(requested.values()) <= existing:  # else dealing would try for long
                received = self._assign_pairs(stratum, requested, generator) or self._assign_pairs(
                    stratum, requested, generator, both_orders=True
                )
            if received is None:
                which = f"{stratum.carries} carries and operands of {stratum.digits} digits"
                if stratum == ALL_PAIRS:
                    which = f"operands of up to {self.digits} digits"
                sizes = ", ".join(f"{requested[split]} for {split}" for split in SPLITS)
                raise UserError(
                    f"task: more examples asked for than exist: {sizes} with {which}, of which there are {existing}"
                    f" (splits may share no pair of operands, in either order)"
                )
            for split, pairs in received.items():
                chosen[split].append(pairs)
        tables = {}
        for split in DEALING_ORDER:
            a, b = generator.permutation(np.concatenate(chosen[split])).T
            tables[split] = self.build_table(a, b)
        return {split: tables[split] for split in SPLITS}

    def _assign_pairs(
        self, stratum: Stratum, requested: dict[str, int], generator: np.random.Generator, *, both_orders: bool = False
    ) -> dict[str, Int[np.ndarray, "examples 2"]] | None:
        """Assign pairs of a stratum to splits until each has the requested number; None if the pairs run out.

        A pair is usually assigned in one order; the other is lost if the split is full when that order comes up.
        `both_orders` assigns both to one split with room for both, where pairs are scarce; up to three digits, no
        usable pair is then lost.
        """
        owner: dict[tuple[int, int], str] = {}
        received: dict[str, list[tuple[int, int]]] = {split: [] for split in DEALING_ORDER}
        for a, b in self._draw_pairs(stratum, generator, both_orders=both_orders):
            room = {split: requested[split] - len(received[split]) for split in DEALING_ORDER}
            open_splits = [split for split in DEALING_ORDER if room[split]]
            if not open_splits:
                break
            needed = 2 if both_orders and a != b else 1
            roomy = [split for split in open_splits if room[split] >= needed]
            split = owner.setdefault((min(a, b), max(a, b)), (roomy or open_splits)[0])
            if split in open_splits:
                received[split].append((a, b))
        if any(len(received[split]) < requested[split] for split in DEALING_ORDER):
            return None
        return {split: np.array(pairs, dtype=np.int64).reshape(-1, 2) for split, pairs in received.items()}

    def _draw_pairs(
        self, stratum: Stratum, generator: np.random.Generator, *, both_orders: bool
    ) -> Iterator[tuple[int, int]]:
        """Iterate over the pairs of a stratum in random order, without repetition.

        All pairs are listed and permuted where they are few enough, else drawn until no new pair comes up.
        """
        if self.digits <= MAX_ENUMERATED_DIGITS:
            a, b = np.divmod(np.arange(100**self.digits), 10**self.digits)
            keep = self._is_in_stratum(stratum, a, b)
            order = generator.permutation(int(keep.sum()))
            pairs = np.stack((a[keep][order], b[keep][order]), axis=1)
            if both_orders:
                _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
                pairs = pairs[np.sort(first)]
                doubles = np.flatnonzero(pairs[:, 0] == pairs[:, 1])[: len(DEALING_ORDER)]
                # a + a has one order only; one for each split comes last, to fill a split of odd size
                pairs = np.concatenate((np.delete(pairs, doubles, axis=0), pairs[doubles]))
            for a, b in pairs.tolist():
                yield a, b
                if both_orders and a != b:
                    yield b, a
            return
        seen: set[tuple[int, int]] = set()
        limit, fruitless_draws = 10 ** (stratum.digits or self.digits), 0
        while fruitless_draws < 50:  # after as many draws without a new pair, a stratum counts as used up
            a, b = generator.integers(0, limit, (2, 200_000))
            keep = self._is_in_stratum(stratum, a, b)
            fruitless_draws += 1
            for pair in zip(a[keep].tolist(), b[keep].tolist(), strict=True):
                if pair not in seen:
                    fruitless_draws = 0
                    for ordered in dict.fromkeys((pair, pair[::-1])) if both_orders else (pair,):
                        seen.add(ordered)
                        yield ordered

    def _is_in_stratum(self, stratum: Stratum, left: Numbers, right: Numbers) -> Bool[np.ndarray, " examples"]:
        if self.sampling == "uniform":
            return np.ones(len(left), dtype=bool)
        longer = np.maximum(left, right)
        return (count_carries(left, right) == stratum.carries) & (count_digits(longer) == stratum.digits)

    def _count_pairs(self, stratum: Stratum) -> int:
        if self.sampling == "uniform":
            return 10 ** (2 * self.digits)
        carries, digits = stratum
        return _count_pairs_below(digits, carries) - _count_pairs_below(digits - 1, carries)

    def _count_examples_per_stratum(self, split_size: int) -> dict[Stratum, int]:
        """Return the number of examples of each stratum in a split of `split_size` examples."""
        if self.sampling == "uniform":
            return {ALL_PAIRS: split_size}
        counts = self.digits + 1
        split_share = split_size / sum(self.sizes.values())
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


def _count_pairs_below(digits: int, carries: int) -> int:
    """Return the number of pairs of numbers below 10 ** digits whose sum carries `carries` times.

    The pairs are counted digit by digit: of the 100 pairs of digits, 45 carry, and 55 after a carry.
    """
    if digits == 0:
        return 0  # the number 0 has one digit
    # number of pairs by number of carries, without and with a carry at the last digit
    without, carried = np.zeros((2, 11), dtype=np.int64)
    without[0] = 1
    for _ in range(digits):
        without, carried = 55 * without + 45 * carried, np.roll(45 * without + 55 * carried, 1)
    return int((without + carried)[carries])
