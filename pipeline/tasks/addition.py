"""Addition as text: `123+456=9750`, the answer reversed and padded if the task says so."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pipeline.errors import UserError
from pipeline.params.task import Addition
from pipeline.tasks import SPLITS

DEALING = ("test", "validation", "train")
"""The splits in the order in which problems are handed out: with uniform sampling, what is tested does not depend on
how much is trained (balanced sampling shares scarce strata out in proportion to the sizes)."""

MOST_DIGITS_ENUMERATED = 3
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = ("ones", "tens", "hundreds", "thousands")
CHUNK = 200_000
CHUNKS_WITHOUT_NEWS = 50
"""Random draws of `CHUNK` problems without a single usable one, after which a stratum counts as used up."""

Numbers = Int[np.ndarray, " problems"]


def carries(a: Numbers, b: Numbers) -> Numbers:
    """How many of the digit columns of a + b carry: Kummer's theorem, from the digit sums."""
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
    """Problems that sampling treats alike."""

    carries: int
    length: int


EVERYTHING = Stratum(-1, 0)
"""The one stratum of uniform sampling."""


@dataclass(frozen=True)
class AdditionProblems:
    """The task `addition` with its options.

    Sampling is `uniform` over all ordered pairs of operands, or `balanced` as in Lee et al., "Teaching Arithmetic to
    Small Transformers" (arXiv 2307.03381, section 3): every carry count equally often, and within it all operand
    lengths that admit it, each length ten times as often as the next shorter one (their 100, 900, 9,000). Every
    (carries, length) is there at least once, as far as there is room; and of the few short problems at most half are
    used, so that the splits need not fight over them.
    """

    task: Addition
    place = "digit"

    @property
    def in_words(self) -> str:
        example = "`123+456=`" if self.task.digits == 3 else "`a+b=`"
        order = "least" if self.task.reverse else "most"
        digits = NUMBERS[self.task.digits - 1]
        return f"{digits}-digit addition ({example}, the answer {order} significant digit first)"

    @property
    def places(self) -> Sequence[str]:
        count = self.task.digits + 1 + len(self.end)
        if not self.task.zero_pad:  # the k-th character may be the end, and its place depends on the answer's length
            return [f"{place}." for place in range(1, count + 1)]
        names = [*PLACES, *(f"10^{power}" for power in range(len(PLACES), self.task.digits + 1))]
        names = names[: self.task.digits + 1][:: 1 if self.task.reverse else -1]
        return [*names, "end"][:count]

    @property
    def strata(self) -> dict[str, Sequence[int]]:
        """How many columns carry: n digits do so at most n times."""
        return {"carries": range(self.task.digits + 1)}

    @property
    def end(self) -> str:
        """What closes an answer; nothing where all answers are equally long."""
        return "$" if self.task.delimiters else "" if self.task.zero_pad else "\n"

    @property
    def vocabulary(self) -> list[str]:
        """The characters in use, sorted."""
        return sorted(set("0123456789+=" + self.end + ("$" if self.task.delimiters else "")))

    def table(self, a: Numbers, b: Numbers) -> pd.DataFrame:
        """The problems a + b with prompt and answer as text."""
        digits = self.task.digits if self.task.zero_pad else 0
        start = "$" if self.task.delimiters else ""
        operands = [pd.Series(x).astype(str).str.zfill(digits) for x in (a, b)]
        answer = pd.Series(a + b).astype(str).str.zfill(digits + 1 if digits else 0)
        return pd.DataFrame(
            {
                "prompt": start + operands[0] + "+" + operands[1] + "=",
                "answer": answer.str[::-1] if self.task.reverse else answer,
                "a": a,
                "b": b,
                "sum": a + b,
                "carries": carries(a, b),
            }
        )

    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " problems"]] | None:
        """Up to three digits; balanced sampling draws each stratum alike within itself."""
        if self.task.digits > MOST_DIGITS_ENUMERATED:
            return None
        a, b = self._all_pairs()
        if self.task.sampling == "uniform":
            return self.table(a, b), np.full(len(a), 1.0 / len(a))
        stratum = pd.MultiIndex.from_arrays((carries(a, b), length(np.maximum(a, b))))
        drawn = pd.Series(self._quotas(self.task.test_size)) / self.task.test_size
        return self.table(a, b), (drawn / stratum.value_counts()).reindex(stratum).to_numpy(float)

    def splits(self) -> dict[str, pd.DataFrame]:
        """Train, validation and test problems; no two splits share a pair of operands, in either order.

        A pair belongs to the split that first receives it. The same task gives the same splits.

        Raises:
            UserError: there are fewer problems than asked for.
        """
        generator = np.random.default_rng(self.task.seed)
        room = {split: self._quotas(getattr(self.task, f"{split}_size")) for split in DEALING}
        chosen: dict[str, list[np.ndarray]] = {split: [] for split in DEALING}
        for stratum in room["train"]:
            wanted = {split: room[split][stratum] for split in DEALING}
            if sum(wanted.values()) > self._existing(stratum):  # said at once: dealing would try for long
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
    ) -> dict[str, Int[np.ndarray, "problems 2"]] | None:
        """Deal the problems of one stratum to the splits until each has what it wants; None if they run out.

        One order of a pair is dealt as a rule, which wastes the other where the split is full by then. Where problems
        are scarce, `both_orders` of a pair are dealt together, to a split with room for both: up to three digits
        nothing is wasted that could be used.
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
        which = f"operands of up to {self.task.digits} digits"
        if self.task.sampling == "balanced":
            which = f"{stratum.carries} carries and operands of {stratum.length} digits"
        asked = ", ".join(f"{wanted[split]} for {split}" for split in reversed(DEALING))
        return (
            f"task: more examples asked for than exist: {asked} with {which}, of which there are "
            f"{self._existing(stratum)} (splits may share no pair of operands, in either order)"
        )

    def _stream(
        self, stratum: Stratum, generator: np.random.Generator, *, both_orders: bool
    ) -> Iterator[tuple[int, int]]:
        """Problems of a stratum in random order, none twice: by permutation where all can be listed, else by
        drawing, until nothing new turns up."""
        if self.task.digits <= MOST_DIGITS_ENUMERATED:
            a, b = self._all_pairs()
            keep = self._in(stratum, a, b)
            order = generator.permutation(int(keep.sum()))
            pairs = np.stack((a[keep][order], b[keep][order]), axis=1)
            if both_orders:
                _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
                pairs = pairs[np.sort(first)]
                doubles = np.flatnonzero(pairs[:, 0] == pairs[:, 1])[: len(DEALING)]
                # a + a has one order only; one for each split comes last, to fill the place that pairs leave odd
                pairs = np.concatenate((np.delete(pairs, doubles, axis=0), pairs[doubles]))
            for a, b in pairs.tolist():
                yield a, b
                if both_orders and a != b:
                    yield b, a
            return
        seen: set[tuple[int, int]] = set()
        largest, barren = 10 ** (stratum.length or self.task.digits), 0
        while barren < CHUNKS_WITHOUT_NEWS:
            a, b = generator.integers(0, largest, (2, CHUNK))
            keep = self._in(stratum, a, b)
            barren += 1
            for problem in zip(a[keep].tolist(), b[keep].tolist(), strict=True):
                if problem not in seen:
                    barren = 0
                    for each in dict.fromkeys((problem, problem[::-1])) if both_orders else (problem,):
                        seen.add(each)
                        yield each

    def _all_pairs(self) -> tuple[Numbers, Numbers]:
        numbers = np.arange(10**self.task.digits, dtype=np.int64)
        return np.repeat(numbers, len(numbers)), np.tile(numbers, len(numbers))

    def _in(self, stratum: Stratum, a: Numbers, b: Numbers) -> np.ndarray:
        if self.task.sampling == "uniform":
            return np.ones(len(a), dtype=bool)
        return (carries(a, b) == stratum.carries) & (length(np.maximum(a, b)) == stratum.length)

    def _existing(self, stratum: Stratum) -> int:
        """How many problems there are in the stratum."""
        if self.task.sampling == "uniform":
            return 10 ** (2 * self.task.digits)
        return _pairs(stratum.length, stratum.carries) - _pairs(stratum.length - 1, stratum.carries)

    def _strata(self, carry_count: int) -> list[Stratum]:
        """The strata with so many carries, the shortest operands first; n digits carry at most n times."""
        return [Stratum(carry_count, each) for each in range(max(1, carry_count), self.task.digits + 1)]

    def _quotas(self, size: int) -> dict[Stratum, int]:
        """How many examples of each stratum make up a split of `size`."""
        if self.task.sampling == "uniform":
            return {EVERYTHING: size}
        counts = self.task.digits + 1
        split_share = size / sum(getattr(self.task, f"{split}_size") for split in DEALING)
        quotas: dict[Stratum, int] = {}
        for count in range(counts):
            left = whole = size // counts + (count < size % counts)
            strata = self._strata(count)
            for stratum in strata[:-1]:
                share = 10.0**stratum.length / sum(10.0**other.length for other in strata)
                there = self._existing(stratum) * split_share / 2 if stratum.length <= MOST_DIGITS_ENUMERATED else whole
                quotas[stratum] = min(left, max(1, min(round(whole * share), int(there))))
                left -= quotas[stratum]
            quotas[strata[-1]] = left
        return quotas


@cache
def _pairs(columns: int, carry_count: int) -> int:
    """How many pairs of numbers below 10 ** columns carry so many times, counted column by column.

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
