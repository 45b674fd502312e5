"""Five digits and a remainder: of the sum of the last three (`83modp(380)=2`, for which order counts), or of the sum of
all (`mod3(83380)=1`, for which it does not). After later experiments of the paper's authors."""

from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.tasks.words import Symbols, Words

LAST, MODULUS = 3, 3


class ModpProblems(Words):
    """The task `modp`: the digits before the bracket do not count."""

    alphabet = "0123456789"
    framing = "modp()"
    length = 5

    @property
    def in_words(self) -> str:
        return "the sum of the three digits in brackets modulo 3 (`83modp(380)=`)"

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The remainder."""
        return {"remainder": range(MODULUS)}

    def table(self, symbols: Symbols) -> pd.DataFrame:
        words, remainders = self.words(symbols), self.counted(symbols).sum(1) % MODULUS
        return pd.DataFrame({"prompt": self.prompts(words), "answer": remainders.astype(str), "remainder": remainders})

    def prompts(self, words: pd.Series) -> pd.Series:
        """The words in their frame."""
        return words.str[:-LAST] + "modp(" + words.str[-LAST:] + ")="

    def counted(self, symbols: Symbols) -> Symbols:
        """The digits whose sum is asked for."""
        return symbols[:, -LAST:]


class Mod3Problems(ModpProblems):
    """The task `mod3`: all digits count."""

    @property
    def in_words(self) -> str:
        return "the sum of five digits modulo 3 (`mod3(83380)=`)"

    def prompts(self, words: pd.Series) -> pd.Series:
        return "mod3(" + words + ")="

    def counted(self, symbols: Symbols) -> Symbols:
        return symbols
