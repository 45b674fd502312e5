"""Closed registries: every name that `params.yaml` may have goes through train, evaluate, analyze and report."""

from itertools import cycle, islice
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.params import Params, Tracking
from pipeline.params.model import AttentionName
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting import report
from pipeline.reporting.style import draw_image
from pipeline.stages import collect
from pipeline.tasks.registry import TASKS, read_params
from pipeline.tracking.store import open_store
from pipeline.training.optimizers import OPTIMIZER_BUILDERS
from pipeline.transformer.positional import POSITIONAL_ENCODINGS
from pipeline.transformer.substitutes import SUBSTITUTES
from tests.conftest import PRESETS, training
from tests.projects import run_stages
from tests.tasks.test_conformance import OPTIONS, task_of


def every_name() -> Params:
    """The smoke preset with as few ablations as have every name, one layer deep and four steps long."""
    smoke = read_params(PRESETS / "smoke.yaml")
    registries = (POSITIONAL_ENCODINGS, get_args(AttentionName), SUBSTITUTES, OPTIMIZER_BUILDERS, TASKS)
    most = max(map(len, registries))
    chosen = zip(*(islice(cycle(registry), most) for registry in registries), strict=True)
    ablations = {
        f"ablation-{index}": {
            "task": task,
            "model": {
                "positional": positional,
                "attention": attention,
                "residual_free": [0],
                "residual_substitute": substitute,
            },
            "training": {"optimizer": optimizer},
        }
        for index, (positional, attention, substitute, optimizer, task) in enumerate(chosen)
    }
    ablations["faded"] = {"task": "addition", "model": {"residual_free": [0], "residual_fade_steps": 2}}
    ablations["dropped"] = {"task": "addition", "model": {"positional": "rotary", "positional_until": 2}}
    changes = {
        "model": smoke.model.model_dump() | {"layers": 1, "width": 8},
        "tasks": {name: task_of(name, OPTIONS.get(name, [{}])[0]).model_dump() for name in TASKS},
        "training": training(steps=4, evaluate_every=2, snapshots=0, seeds=[1]).model_dump(),
        "ablations": ablations,
        "comparisons": [],
    }
    return type(smoke).model_validate(smoke.model_dump() | changes)


def test_every_name_goes_through_the_whole_pipeline(
    tmp_path: Path, store: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = every_name().model_copy(update={"tracking": store})
    params.check_all_sections()
    blank = draw_image(lambda: Figure(figsize=(1, 1)))
    monkeypatch.setattr(report, "draw_image", lambda draw: blank if draw() else b"")  # not rasterised
    run_stages(params)
    runs = pd.read_csv("reports/runs.csv")
    assert list(runs["ablation"]) == list(params.ablations)
    assert set(runs["task"]) == set(params.tasks)
    assert set(runs["positional"]) == set(POSITIONAL_ENCODINGS)
    assert set(runs["attention"]) == set(get_args(AttentionName))
    assert set(runs["residual_substitute"]) == set(SUBSTITUTES)
    assert set(runs["optimizer"]) == set(OPTIMIZER_BUILDERS)
    pages = "".join(Path("reports", name).read_text() for name in ("summary.md", "details.md"))
    assert all(f"`{name}`" in pages for name in params.ablations)
    assert all(f"({name})" in pages for name in params.tasks)
    figures = {path.name for path in Path("reports/figures").iterdir()}
    assert {
        "tasks.webp",
        *(f"{name}-steps.webp" for name in params.tasks if params.task(name).score == EXACT_MATCH),
    } <= figures
    tracked = open_store(store).find_runs("tags.role = 'ablation'")
    assert {run.data.tags["ablation"] for run in tracked} == set(params.ablations)

    others = [name for name in params.ablations if params.ablation(name).dataset != "addition"]
    collect.run(params, others, kept=others)  # as `repro NAME...` does, here for all ablations of one task
    pd.testing.assert_frame_equal(pd.read_csv("reports/runs.csv").drop(columns="kept"), runs, check_like=True)
