"""Tasks side by side: real data by bits per token, what order is worth, and on how many tasks a finding holds."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline import files
from pipeline import switches as described
from pipeline.errors import UserError
from pipeline.params import Ablation, Params, parse
from pipeline.reporting.experiment import order_value
from pipeline.stages import report
from pipeline.tasks.registry import AllParams, parse_task, read_params
from tests.conftest import PRESETS

SIZES = {"train_size": 40, "validation_size": 10, "test_size": 20}
SEEDS = [1, 2, 3, 4]
TASKS: dict[str, dict[str, object]] = {
    "reverse": {"name": "reverse", "digits": 2},
    "sort": {"name": "sort", "digits": 2},
    "co2": {"name": "series", "window": 4},
    "co2-permuted": {"name": "series", "window": 4, "shuffled": True},
}
KINDS: dict[str, dict[str, object]] = {
    "learned": {"positional": "learned"},
    "nope": {"positional": "none"},
    "blind": {"positional": "none", "attention": "full"},
    "shallow": {"positional": "none", "layers": 1},
}
CONVERGED = {
    "reverse": {"learned": 4, "nope": 4, "blind": 0, "shallow": 0},
    "sort": {"learned": 4, "nope": 4, "blind": 4, "shallow": 3},
}
BITS = {
    "co2": {"learned": 1.2, "nope": 1.5, "blind": 2.5, "shallow": 2.4},
    "co2-permuted": {"learned": 2.4, "nope": 2.5, "blind": 2.5, "shallow": 2.4},
}


def params(**changes: object) -> Params:
    """Four tasks, of which two are twins of the others, and four kinds of ablations on each."""
    ablations = {
        f"{task}-{kind}": {"task": task, "model": {"layers": 3, **model}}
        for task in TASKS
        for kind, model in KINDS.items()
    }
    content = read_params(PRESETS / "smoke.yaml").model_dump() | {
        "tasks": {name: task | SIZES for name, task in TASKS.items()},
        "ablations": ablations,
        "comparisons": [],
    }
    content["training"] |= {"seeds": SEEDS, "steps": 100, "evaluate_every": 50, "snapshots": 0}
    content["search"] |= {"task": "reverse"}
    return parse(AllParams, content | changes, "params.yaml")


def evaluation(ablation: Ablation) -> pd.DataFrame:
    """What `evaluate` would have written of it."""
    task, _, kind = ablation.name.rpartition("-")
    rows = []
    for place, seed in enumerate(SEEDS):
        row = {"ablation": ablation.name, "seed": seed, "task": ablation.dataset, **described.columns(ablation)}
        row |= {"parameters": 1000, "steps": 100, "diverged": 0, "test_examples": 20}
        if task in BITS:
            bits = BITS[task][kind] + 0.01 * place
            row |= {"converged": None, "steps_to_converge": None, "validation_bits": bits, "test_bits": bits}
        else:
            learned = place < CONVERGED[task][kind]
            steps = 50 + 50 * (kind == "nope") if learned else None
            row |= {"converged": int(learned), "steps_to_converge": steps}
            row |= dict.fromkeys(("validation_exact_match", "test_exact_match"), 1.0 if learned else 0.1)
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage makes of it."""
    folder = tmp_path_factory.mktemp("project")
    chosen = params()
    for ablation in chosen.all_ablations():
        model, tested, measured = (
            folder / part / ablation.name for part in (report.MODELS, report.EVALUATION, report.ANALYSIS)
        )
        table = evaluation(ablation)
        score = ablation.task.score.column("validation")
        files.write_csv(model / "history.csv", table[["seed", score]].assign(step=100, train_loss=1.0))
        files.write_manifest(model, subject=ablation.name)
        files.write_csv(tested / "evaluation.csv", table)
        for one in (tested, measured):
            one.mkdir(parents=True, exist_ok=True)
            files.write_manifest(one, subject=files.open_verified(model, made_by="").digest)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        report.run(chosen)
    return folder / "reports"


def test_what_order_is_worth_is_what_the_twin_takes_more_seed_by_seed(reports: Path) -> None:
    table = pd.read_csv(reports / "order_value.csv").set_index("ablation")
    assert table.index.tolist() == [f"co2-{kind}" for kind in KINDS]
    for kind in KINDS:
        assert table.loc[f"co2-{kind}", "shuffled"] == f"co2-permuted-{kind}"
        expected = BITS["co2-permuted"][kind] - BITS["co2"][kind]
        assert table.loc[f"co2-{kind}", ["bits", "low", "high"]].tolist() == pytest.approx([expected] * 3, abs=1e-6)


def test_a_twin_is_the_same_ablation_on_the_same_data_in_another_order() -> None:
    chosen = params()
    ablations = chosen.all_ablations()
    for ablation in ablations:
        found = order_value.shuffled_counterpart(ablations, ablation)
        assert (found is not None) == (ablation.dataset == "co2")
        if found:
            assert (found.model, found.training) == (ablation.model, ablation.training)
            assert order_value.shuffled_counterpart([one for one in ablations if one != found], ablation) is None


def test_every_kind_of_ablation_has_its_place_on_every_task(reports: Path) -> None:
    table = pd.read_csv(reports / "tasks.csv")
    assert table["task"].unique().tolist() == list(TASKS)
    assert table.groupby("kind")["task"].nunique().tolist() == [len(TASKS)] * len(KINDS)
    of = table.set_index("ablation")
    for task, kinds in CONVERGED.items():
        for kind, count in kinds.items():
            row = of.loc[f"{task}-{kind}"]
            assert (row["converged"], row["shade"]) == (count, count / len(SEEDS))
            assert pd.isna(row["test_bits"])
    assert of["shade"].between(0, 1).all()
    assert of.loc["co2-learned", "shade"] == 1  # the best of the task and its twin together
    assert of.loc["co2-blind", "shade"] == of.loc["co2-permuted-blind", "shade"] == 0


@pytest.mark.parametrize(
    ("claim", "where", "not_where"),
    [
        ("learns_without", ["reverse", "co2"], []),
        ("fails_blind", ["reverse", "co2"], []),
        ("twin_is_learned", ["sort"], []),
        ("one_layer_fails", ["reverse", "co2"], []),
        ("costs", ["reverse", "co2"], []),
    ],
)
def test_a_finding_holds_where_the_runs_say_so(
    reports: Path, claim: str, where: list[str], not_where: list[str]
) -> None:
    table = pd.read_csv(reports / "holds.csv")
    own = table[table["claim"] == claim]
    assert own.loc[own["holds"] == 1, "task"].tolist() == where
    assert own.loc[own["holds"] == 0, "task"].tolist() == not_where
    claims = json.loads((reports / "claims.json").read_text())["claims"]
    said = {one["name"]: one["value"] for one in claims if one["claim"] == f"across.{claim}"}
    assert said == {"held": len(where), "tasks": len(where) + len(not_where)}


def test_no_table_has_a_number_that_has_no_meaning_for_its_task(reports: Path) -> None:
    for name in ("ablations.csv", "runs.csv"):
        table = pd.read_csv(reports / name).set_index("task")
        by_bits = [column for column in table if "bits" in column]
        by_answer = [column for column in table if "exact_match" in column or "converge" in column]
        assert by_bits
        assert by_answer
        assert table.loc[["co2", "co2-permuted"], by_answer].isna().all(axis=None)
        assert table.loc[["reverse", "sort"], by_bits].isna().all(axis=None)
    page = (reports / "appendix" / "results-by-ablation-co2.md").read_text()
    assert "xact match" not in page
    assert "Worth of order" in page


def test_the_first_screen_compares_and_stays_short(reports: Path) -> None:
    summary = (reports / "summary.md").read_text()
    assert "figures/tasks.png" in summary
    assert len(summary.splitlines()) < 150
    assert (reports / "figures" / "tasks.png").exists()
    assert "learned 2 of 2 tasks in which order counts" in summary
    assert "3/4 (19% to 99%)" in summary


@pytest.mark.parametrize(
    ("first", "of", "allowed"),
    [
        ("co2", "restricted_steps", "(allowed: test_bits)"),
        ("co2", "test_exact_match", "(allowed: test_bits)"),
        ("sort", "test_bits", "(allowed: restricted_steps, test_exact_match)"),
    ],
)
def test_ablations_are_compared_in_what_has_a_meaning_for_their_task(first: str, of: str, allowed: str) -> None:
    pair = {"first": f"{first}-nope", "second": f"{first}-learned", "quantity": of}
    with pytest.raises(UserError, match=of) as refusal:
        params(comparisons=[pair]).check()
    assert allowed in str(refusal.value)


def test_every_twin_is_told_from_what_it_is_the_twin_of() -> None:
    counts = {name: parse_task(task | SIZES).order_matters for name, task in TASKS.items()}
    assert counts == {"reverse": True, "sort": False, "co2": True, "co2-permuted": False}
