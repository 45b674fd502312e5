"""The page of `make play` runs, and shows the models' answers."""

import pytest

from notebooks.play import app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:marimo")


def test_the_page_shows_which_models_notice_the_order() -> None:
    _, variables = app.run()
    table = variables["table"].set_index("model")
    full, causal = table.loc["nope-full"], table.loc["nope-causal"]
    assert full["answers over all orders"] == 1
    assert full["123+456="] == full["321+456="]
    assert causal["answers over all orders"] > 100
    assert (causal["123+456="], causal["321+456="]) == ("9750", "7770")
    assert variables["change"][-1, -1] > 0.1  # in nope-causal, where the answer is read
