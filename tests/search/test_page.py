"""The page of a search says what follows from its trials."""

import re
from pathlib import Path

import sqlalchemy

from pipeline.params import Params
from pipeline.reporting.page import render_html
from pipeline.reporting.style import draw_image
from pipeline.search.page import build_page
from pipeline.search.results import SearchResults
from pipeline.search.study import open_study
from tests.search.conftest import changed
from tests.search.test_worker import without_training, work


def searched(params: Params, folder: Path) -> SearchResults:
    url = sqlalchemy.make_url(f"sqlite:///{folder}/study.db")
    work(params, url, without_training)
    return SearchResults.read(params, open_study(params, url))


def test_encodings_stand_side_by_side_and_with_one_that_sees_order_one_layer_is_trained(
    cheap: Params, tmp_path: Path
) -> None:
    free = {"attention": ["searched"] * 2, "mlp": ["kept"] * 2}
    space = {"positional": ["none", "learned", "rotary"], "residual_free": free}
    results = searched(changed(cheap, space=space, enumerate_up_to=12, seeds=[*range(8)]), tmp_path)
    assert list(results.groups) == [f"{n}-layers-{name}" for n in (1, 2) for name in ("none", "learned", "rotary")]
    assert [set(group["state"]) for group in results.groups.values()] == [{"proved"}] + [{"complete"}] * 5
    text, pictures = build_page(results)
    rows = [
        line for line in text.splitlines() if line.startswith(("| 1 layer, ", "| 2 layers, ")) and ", all |" in line
    ]
    assert len(rows) == 6
    assert "none converges | proved | yes" in rows[0]
    images = {f"figures/{picture.name}.webp": draw_image(picture.draw) for picture in pictures}
    assert set(re.findall(r"\((figures/[^)]+)\)", text)) == set(images)
    assert "<html" in render_html("Search", text, images)
    for name in ("2-layers-none", "2-layers-learned", "2-layers-rotary"):
        costs = results.estimates.select("removal_cost", ablation=name)
        assert list(costs["layer"]) == [0, 1]
        assert costs["p_corrected"].between(0, 1).all()


def test_each_number_of_the_map_is_that_of_the_trials(cheap: Params, tmp_path: Path) -> None:
    results = searched(changed(cheap, enumerate_up_to=16, seeds=[*range(8)]), tmp_path)
    trials = results.trials[results.trials["layers"] == 2]
    assert (trials["runs"] == trials["trial"].map(results.runs.groupby("trial").size())).all()
    assert (trials["converged"] == trials["trial"].map(results.runs.groupby("trial")["converged"].sum())).all()
    assert set(trials["runs"]) <= {2, 4, 8}
    assert (trials.loc[trials["runs"] < 8, "verdict"] != "undecided").all()
    decided = results.estimates.find("patterns_decided", ablation="2-layers-none")
    assert decided is not None
    assert decided.count() == (trials["verdict"] != "undecided").sum()
    assert len(results.estimates.select("joint_removal_cost", ablation="2-layers-none")) == 4
    text, _ = build_page(results)
    for trial in trials.to_dict("records"):
        assert f"| {trial['converged']} of {trial['runs']} | {trial['verdict']} |" in text


def test_without_a_finished_trial_the_page_says_so(cheap: Params, tmp_path: Path) -> None:
    study = open_study(cheap, sqlalchemy.make_url(f"sqlite:///{tmp_path}/study.db"))
    text, pictures = build_page(SearchResults.read(cheap, study))
    assert "no answer yet" in text
    assert not pictures
