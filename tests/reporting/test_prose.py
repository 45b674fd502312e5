"""Prose by people: references become numbers, unknown ones are refused, removed ablations left out."""

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.reporting.estimates import Estimates
from pipeline.reporting.prose import References, render_paragraphs
from pipeline.reporting.results import MEASURED_COLUMNS
from tests.reporting.experiment import SCORES, estimates_of, find


@pytest.fixture(scope="module")
def made_up() -> Estimates:
    return estimates_of(SCORES)


def rendered(template: str, estimates: Estimates) -> tuple[str, list[str]]:
    return render_paragraphs(template, References(estimates).functions(), name="answers.md.j2")


def test_a_reference_is_the_number_of_its_row(made_up: Estimates) -> None:
    text, _ = rendered('{{ steps("nope-causal") | number }}, {{ converged("no-residual-0") | number }}', made_up)
    steps = find(made_up, "restricted_steps", "nope-causal", versus="")
    assert text == f"{steps.value:,.0f}, 1 of 3\n"


def test_a_difference_can_be_read_in_both_directions(made_up: Estimates) -> None:
    references = References(made_up)
    one, other = (references.difference(*pair) for pair in (("nope-causal", "null"), ("null", "nope-causal")))
    assert one.value == -other.value
    assert (one.row["low"], one.row["high"]) == (-other.row["high"], -other.row["low"])


def test_a_paragraph_about_a_removed_ablation_is_left_out_and_named(made_up: Estimates) -> None:
    text, missing = rendered(
        'First.\n\nGone: {{ steps("alibi") }}.\n\n- last: {{ ceiling("alibi") }}\n\nEnd.\n', made_up
    )
    assert text == "First.\n\nEnd.\n"
    assert missing == ["alibi"]


def test_blindness_is_counted_by_ablation() -> None:
    scores = {"nope-full": [0.01, 0.02], "nope-causal-1-layer": [0.0, 0.0], "nope-causal": [1.0, 0.5], "null": [0.0]}
    changes = {"nope-full": 0.0, "nope-causal-1-layer": 1e-10, "nope-causal": 0.3}
    rows = [
        {"ablation": name, "seed": seed, "moment": moment, "value": change if moment == "trained" else 1.0}
        for name, change in changes.items()
        for seed in (1, 2)
        for moment in ("initial", "trained")
    ]
    measured = pd.DataFrame(rows).assign(quantity="symmetry.max_logit_change", sublayer="", key="")
    measured = measured.reindex(columns=list(MEASURED_COLUMNS))
    blind = References(estimates_of(scores, measured=measured)).blind_to_order
    assert blind("nope-full", "nope-causal-1-layer") == "2 of 2"
    assert blind("nope-full", "nope-causal") == "1 of 2"
    assert blind("null") == "0 of 1"  # not measured


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ('{{ stepz("nope-causal") }}', "stepz"),
        ('{{ estimate("restricted_stops", "nope-causal") }}', "restricted_steps"),
        ('{{ steps("nope-causal") | rounded }}', "rounded"),
        ("{{ steps(", "answers.md.j2"),
        ('{{ estimate("right_characters", "nope-causal") }}', "right_characters"),
    ],
)
def test_what_is_unknown_is_refused_in_one_line_that_names_it(template: str, named: str, made_up: Estimates) -> None:
    with pytest.raises(UserError) as error:
        rendered(f"Fine.\n\nA number: {template}", made_up)
    message = str(error.value)
    assert named in message
    assert message.startswith("answers.md.j2: ")
    assert "\n" not in message
