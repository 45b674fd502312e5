"""Addition as text: `123+456=9750`, with the answer reversed and padded unless the options say otherwise."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pydantic import Field

from pipeline.errors import UserError
from pipeline.params.task import SPLITS, Task

DEALING = ("test", "validation", "train")
"""The splits in the order in which they receive examples. With uniform sampling, the test split does not depend on the
size of the others; balanced sampling shares scarce strata in proportion to the sizes."""

MOST_DIGITS_ENUMERATED = 3
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DECIMAL_PLACES = ("ones", "tens", "hundreds", "thousands")
CHUNK = 200_000
CHUNKS_WITHOUT_NEWS = 50
"""Random draws of `CHUNK` pairs without a single usable one, after which a stratum counts as used up."""

Numbers = Int[np.ndarray, " examples"]


def carries(a: Numbers, b: Numbers) -> Numbers:
    """Number of digit columns of a + b that carry, by Kummer's theorem, from the digit sums."""
    return (digit_sum(a) + digit_sum(b) - digit_sum(a + b)) // 9


def digit_sum(x: Numbers) -> Numbers:
    """Sum of the decimal digits."""
    total = np.zeros_like(x)
    while x.any():
        total += x % 10
        x = x // 10
    return total


def length(x: Numbers) -> Numbers:
    """Number of decimal digits; zero has one."""
    digits = np.ones_like(x)
    while (x := x // 10).any():
        digits += x > 0
    return digits


class Stratum(NamedTuple):
    """Pairs that sampling treats alike: those with so many carries, whose longer number has so many digits."""

    carries: int
    length: int


EVERYTHING = Stratum(-1, 0)
"""The one stratum of uniform sampling."""


class Addition(Task):
    """The sum of two numbers of up to `digits` digits.

    Sampling is `uniform` over all ordered pairs, or `balanced` as in Lee et al., "Teaching Arithmetic to Small
    Transformers" (arXiv 2307.03381, section 3): every number of carries equally often, and within it all lengths that
    admit it, each ten times as often as the next shorter one (their 100, 900, 9,000). Every stratum has at least one
    example, as far as there is room. Of the few short pairs at most half are used, so that all splits get some.
    """

    answer_unit: ClassVar[str] = "digit"
    name: Literal["addition"]
    digits: Annotated[int, Field(ge=1, le=9)]
    reverse: bool = True
    """True if the least significant digit of the sum comes first."""
    zero_pad: bool = True
    delimiters: bool = False
    sampling: Literal["uniform", "balanced"] = "uniform"

    @property
    def words(self) -> str:
        example = "`123+456=`" if self.digits == 3 else "`a+b=`"
        order = "least" if self.reverse else "most"
        return f"{NUMBERS[self.digits - 1]}-digit addition ({example}, the answer {order} significant digit first)"

    @property
    def answer_positions(self) -> Sequence[str]:
        count = self.digits + 1 + len(self.end)
        if not self.zero_pad:  # the decimal place of a character depends on the length of the answer
            return [f"{position}." for position in range(1, count + 1)]
        names = [*DECIMAL_PLACES, *(f"10^{power}" for power in range(len(DECIMAL_PLACES), self.digits + 1))]
        names = names[: self.digits + 1][:: 1 if self.reverse else -1]
        return [*names, "end"][:count]

    @property
    def strata(self) -> dict[str, Sequence[int]]:
        """The number of carries: n digits carry at most n times."""
        return {"carries": range(self.digits + 1)}

    @property
    def end(self) -> str:
        if self.delimiters:
            return "$"
        return "" if self.zero_pad else "\n"

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*"0123456789+=", *self.end})

    def table(self, a: Numbers, b: Numbers) -> pd.DataFrame:
        """The table of the examples a + b."""
        digits = self.digits if self.zero_pad else 0
        start = "$" if self.delimiters else ""
        operands = [pd.Series(x).astype(str).str.zfill(digits) for x in (a, b)]
        answer = pd.Series(a + b).astype(str).str.zfill(digits + 1 if digits else 0)
        return pd.DataFrame(
            {
                "prompt": start + operands[0] + "+" + operands[1] + "=",
                "answer": answer.str[::-1] if self.reverse else answer,
                "a": a,
                "b": b,
                "sum": a + b,
                "carries": carries(a, b),
            }
        )

    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " examples"]] | None:
        """Enumerate all pairs of up to three digits. Balanced sampling is uniform within a stratum."""
        if self.digits > MOST_DIGITS_ENUMERATED:
            return None
        a, b = self._all_pairs()
        if self.sampling == "uniform":
            return self.table(a, b), np.full(len(a), 1.0 / len(a))
        stratum = pd.MultiIndex.from_arrays((carries(a, b), length(np.maximum(a, b))))
        drawn = pd.Series(self._quotas(self.test_size)) / self.test_size
        return self.table(a, b), (drawn / stratum.value_counts()).reindex(stratum).to_numpy(float)

    def splits(self) -> dict[str, pd.DataFrame]:
        """Draw the examples. No two splits share a pair of numbers, in either order: a pair belongs to the split that
        first receives it.

        Raises:
            UserError: the sizes ask for more pairs than exist.
        """
        generator = np.random.default_rng(self.seed)
        room = {split: self._quotas(getattr(self, f"{split}_size")) for split in DEALING}
        chosen: dict[str, list[np.ndarray]] = {split: [] for split in DEALING}
        for stratum in room["train"]:
            wanted = {split: room[split][stratum] for split in DEALING}
            if sum(wanted.values()) > self._existing(stratum):  # refused here, because dealing would try for long
                raise UserError(self._shortage(stratum, wanted))
            received = self._hand_out(stratum, wanted, generator) or self._hand_out(
                stratum, wanted, generator, both_orders=True
            )
            if received is None:
                raise UserError(self._shortage(stratum, wanted))
            for split in DEALING:
                chosen[split].append(received[split])
        tables = {}
        for split in DEALING:
            pairs = generator.permutation(np.concatenate(chosen[split]))
            tables[split] = self.table(pairs[:, 0], pairs[:, 1])
        return {split: tables[split] for split in SPLITS}

    def _hand_out(
        self, stratum: Stratum, wanted: dict[str, int], generator: np.random.Generator, *, both_orders: bool = False
    ) -> dict[str, Int[np.ndarray, "examples 2"]] | None:
        """Deal the pairs of one stratum until each split has as many as it wants; None if they run out.

        A pair is usually dealt in one order, and the other order is lost if the split is full when it comes up. Where
        pairs are scarce, `both_orders` are dealt together, to a split with room for both; up to three digits no usable
        pair is then lost.
        """
        owner: dict[tuple[int, int], str] = {}
        received: dict[str, list[tuple[int, int]]] = {split: [] for split in DEALING}
        for a, b in self._stream(stratum, generator, both_orders=both_orders):
            open_splits = [split for split in DEALING if len(received[split]) < wanted[split]]
            if not open_splits:
                break
            together = 2 if both_orders and a != b else 1
            roomy = [split for split in open_splits if len(received[split]) + together <= wanted[split]]
            split = owner.setdefault((min(a, b), max(a, b)), (roomy or open_splits)[0])
            if split in open_splits:
                received[split].append((a, b))
        if any(len(received[split]) < wanted[split] for split in DEALING):
            return None
        return {split: np.array(pairs, dtype=np.int64).reshape(-1, 2) for split, pairs in received.items()}

    def _shortage(self, stratum: Stratum, wanted: dict[str, int]) -> str:
        which = f"operands of up to {self.digits} digits"
        if self.sampling == "balanced":
            which = f"{stratum.carries} carries and operands of {stratum.length} digits"
        requested = ", ".join(f"{wanted[split]} for {split}" for split in reversed(DEALING))
        return (
            f"task: more examples asked for than exist: {requested} with {which}, of which there are "
            f"{self._existing(stratum)} (splits may share no pair of operands, in either order)"
        )

    def _stream(
        self, stratum: Stratum, generator: np.random.Generator, *, both_orders: bool
    ) -> Iterator[tuple[int, int]]:
        """The pairs of a stratum in random order, each once: a permutation where all can be listed, else random draws
        until nothing new turns up."""
        if self.digits <= MOST_DIGITS_ENUMERATED:
            a, b = self._all_pairs()
            keep = self._in(stratum, a, b)
            order = generator.permutation(int(keep.sum()))
            pairs = np.stack((a[keep][order], b[keep][order]), axis=1)
            if both_orders:
                _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
                pairs = pairs[np.sort(first)]
                doubles = np.flatnonzero(pairs[:, 0] == pairs[:, 1])[: len(DEALING)]
                # a + a has one order only; one for each split comes last, to fill a split of odd size
                pairs = np.concatenate((np.delete(pairs, doubles, axis=0), pairs[doubles]))
            for a, b in pairs.tolist():
                yield a, b
                if both_orders and a != b:
                    yield b, a
            return
        seen: set[tuple[int, int]] = set()
        largest, barren = 10 ** (stratum.length or self.digits), 0
        while barren < CHUNKS_WITHOUT_NEWS:
            a, b = generator.integers(0, largest, (2, CHUNK))
            keep = self._in(stratum, a, b)
            barren += 1
            for pair in zip(a[keep].tolist(), b[keep].tolist(), strict=True):
                if pair not in seen:
                    barren = 0
                    for ordered in dict.fromkeys((pair, pair[::-1])) if both_orders else (pair,):
                        seen.add(ordered)
                        yield ordered

    def _all_pairs(self) -> tuple[Numbers, Numbers]:
        numbers = np.arange(10**self.digits, dtype=np.int64)
        return np.repeat(numbers, len(numbers)), np.tile(numbers, len(numbers))

    def _in(self, stratum: Stratum, a: Numbers, b: Numbers) -> np.ndarray:
        if self.sampling == "uniform":
            return np.ones(len(a), dtype=bool)
        return (carries(a, b) == stratum.carries) & (length(np.maximum(a, b)) == stratum.length)

    def _existing(self, stratum: Stratum) -> int:
        """Number of pairs in the stratum."""
        if self.sampling == "uniform":
            return 10 ** (2 * self.digits)
        return _pairs(stratum.length, stratum.carries) - _pairs(stratum.length - 1, stratum.carries)

    def _strata_with(self, carry_count: int) -> list[Stratum]:
        """The strata with so many carries, the shortest numbers first; n digits carry at most n times."""
        return [Stratum(carry_count, length) for length in range(max(1, carry_count), self.digits + 1)]

    def _quotas(self, size: int) -> dict[Stratum, int]:
        """Number of examples of each stratum in a split of `size`."""
        if self.sampling == "uniform":
            return {EVERYTHING: size}
        counts = self.digits + 1
        split_share = size / sum(getattr(self, f"{split}_size") for split in DEALING)
        quotas: dict[Stratum, int] = {}
        for count in range(counts):
            left = total = size // counts + (count < size % counts)
            strata = self._strata_with(count)
            for stratum in strata[:-1]:
                share = 10.0**stratum.length / sum(10.0**other.length for other in strata)
                room = self._existing(stratum) * split_share / 2 if stratum.length <= MOST_DIGITS_ENUMERATED else total
                quotas[stratum] = min(left, max(1, min(round(total * share), int(room))))
                left -= quotas[stratum]
            quotas[strata[-1]] = left
        return quotas


@cache
def _pairs(columns: int, carry_count: int) -> int:
    """Number of pairs of numbers below 10 ** columns that carry so many times, counted column by column.

    Of the 100 pairs of digits 45 carry by themselves, and 55 with a carry from the column before.
    """
    if columns == 0:
        return 0  # zero has one digit
    ways = {(0, False): 1}
    for _ in range(columns):
        after: dict[tuple[int, bool], int] = {}
        for (count, carried), number in ways.items():
            carrying = 55 if carried else 45
            for key, pairs in (((count + 1, True), carrying), ((count, False), 100 - carrying)):
                after[key] = after.get(key, 0) + number * pairs
        ways = after
    return sum(number for (count, _), number in ways.items() if count == carry_count)
