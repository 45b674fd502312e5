"""Figures that are built from estimates show these estimates."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from pipeline.reporting.estimates import Estimates
from pipeline.reporting.pictures import draw_residual_map, draw_steps_by_depth, draw_steps_by_missing_connections
from pipeline.reporting.report import build_estimates
from pipeline.reporting.tables import TaskView
from tests.reporting import experiment
from tests.reporting.experiment import STEPS, estimates_of, find, results_of

SUBSETS = ((), (0,), (1,), (0, 1))


def name_of(attention: tuple[int, ...], mlp: tuple[int, ...]) -> str:
    """The name of the ablation without these connections; the intact one has that of an intact ablation."""
    missing = [*(f"-a{layer}" for layer in attention), *(f"-m{layer}" for layer in mlp)]
    return f"without{''.join(missing)}" if missing else "nope-causal"


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> TaskView:
    """All patterns of two layers; without the first attention's connection one of two runs converges, or none."""
    scores = {}
    for attention, mlp in product(SUBSETS, SUBSETS):
        free = {"residual_free": {"attention": list(attention), "mlp": list(mlp)}}
        monkeypatch.setitem(experiment.ABLATIONS, name_of(attention, mlp), free)
        scores[name_of(attention, mlp)] = [1.0, 1.0] if 0 not in attention else [0.5, 1.0 if mlp else 0.5]
    return TaskView(results_of(scores), estimates_of(scores))


def test_the_map_has_the_steps_of_every_pattern_or_that_no_run_converged(view: TaskView) -> None:
    picture = draw_residual_map(view)
    assert picture is not None
    (axes, *_) = picture.draw().axes
    shown = [text.get_text() for text in axes.texts]
    expected = []
    for attention, mlp in product(SUBSETS, SUBSETS):
        name = name_of(attention, mlp)
        converged, steps = (
            find(view.estimates, quantity, name, versus="") for quantity in ("converged", "restricted_steps")
        )
        expected.append(steps.number() if converged.value else "none")
    assert shown == expected
    assert expected.count("none") == 2


def test_the_curve_is_the_mean_over_patterns_with_as_many_missing(view: TaskView) -> None:
    picture = draw_steps_by_missing_connections(view)
    assert picture is not None
    (line, *_) = picture.draw().axes[0].lines
    means: dict[int, list[float]] = {}
    for attention, mlp in product(SUBSETS, SUBSETS):
        steps = find(view.estimates, "restricted_steps", name_of(attention, mlp), versus="")
        means.setdefault(len(attention) + len(mlp), []).append(steps.value)
    x, y = map(np.asarray, line.get_data())
    assert list(x) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(y, [np.mean(means[count]) for count in x])
    assert y[0] < y[4] <= STEPS


def test_an_experiment_with_few_patterns_has_neither(view: TaskView) -> None:
    scores = {"nope-causal": [1.0, 1.0], "no-residual-0": [1.0, 1.0]}
    few = TaskView(results_of(scores), estimates_of(scores))
    assert draw_residual_map(few) is None
    assert draw_steps_by_missing_connections(few) is None


def test_the_figure_by_layers_has_ablations_with_rates_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tuned learning rate is no difference in the number of layers."""
    names = {f"{name}-{layers}": (name, layers) for name in ("none", "learned") for layers in (2, 3)}
    for name, (encoding, layers) in names.items():
        monkeypatch.setitem(experiment.ABLATIONS, name, {"positional": encoding, "layers": layers})
    results = results_of({name: [1.0, 1.0] for name in names})
    rates = {"none": 0.01, "learned": 0.02}
    ablations = []
    for ablation in results.ablations:
        tuned = {"tuned": ["learning_rate"], "learning_rate": rates[ablation.model.positional]}
        ablations.append(ablation.model_copy(update={"training": ablation.training.model_copy(update=tuned)}))
    results = replace(results, ablations=ablations)
    picture = draw_steps_by_depth(TaskView(results, Estimates(build_estimates(results))))
    assert picture is not None
    steps, ratios = picture.draw().axes
    assert [list(line.get_xdata()) for line in steps.lines] == [[2, 3], [2, 3]]
    assert [list(line.get_xdata()) for line in ratios.lines] == [[2, 3]]
