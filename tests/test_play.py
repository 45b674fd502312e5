"""The page to play with runs, and shows what the models say."""

import pytest

from notebooks.play import app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:marimo")


def test_the_page_shows_who_notices_the_order() -> None:
    _, shown = app.run()
    said = shown["table"].set_index("model")
    assert said.loc["nope-full", "answers over all orders"] == 1
    assert said.loc["nope-full", "123+456="] == said.loc["nope-full", "321+456="]
    assert (said.loc["nope-causal", "123+456="], said.loc["nope-causal", "321+456="]) == ("9750", "7770")
    assert said.loc["nope-causal", "answers over all orders"] > 100
    assert shown["change"][-1, -1] > 0.1  # of nope-causal, at the end
