"""Tasks side by side: real data by bits per token, the value of order, and on how many tasks a claim holds."""

import pandas as pd
import pytest

from pipeline import switches
from pipeline.errors import UserError
from pipeline.params import Ablation, Params, parse
from pipeline.reporting import page
from pipeline.reporting.experiment import report
from pipeline.reporting.experiment.order_value import shuffled_counterpart
from pipeline.reporting.experiment.report import PlacedSection
from pipeline.reporting.style import draw_png
from pipeline.stages.report import build_report
from pipeline.tasks.registry import AllParams, read_params
from tests.conftest import PRESETS
from tests.reporting.experiment import unmeasured

SIZES = {"train_size": 40, "validation_size": 10, "test_size": 20}
SEEDS = [1, 2, 3, 4]
Built = tuple[list[PlacedSection], dict[str, pd.DataFrame]]
TASKS: dict[str, dict[str, object]] = {
    "reverse": {"name": "reverse", "digits": 2},
    "sort": {"name": "sort", "digits": 2},
    "co2": {"name": "series", "window": 4},
    "co2-shuffled": {"name": "series", "window": 4, "shuffled": True},
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
    "co2-shuffled": {"learned": 2.4, "nope": 2.5, "blind": 2.5, "shallow": 2.4},
}


def params(**changes: object) -> Params:
    """Four tasks, of which two are controls of the others, and four kinds of ablations on each."""
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
    """The evaluation of the ablation's runs, with the outcomes above."""
    task, _, kind = ablation.name.rpartition("-")
    rows = []
    for index, seed in enumerate(SEEDS):
        row = {"ablation": ablation.name, "seed": seed, "task": ablation.dataset, **switches.switch_columns(ablation)}
        row |= {"parameters": 1000, "steps": 100, "diverged": 0, "test_examples": 20}
        if task in BITS:
            bits = BITS[task][kind] + 0.01 * index
            row |= {"converged": None, "steps_to_converge": None, "validation_bits": bits, "test_bits": bits}
        else:
            converged = index < CONVERGED[task][kind]
            score = 1.0 if converged else 0.1
            row |= {
                "converged": int(converged),
                "steps_to_converge": (100 if kind == "nope" else 50) if converged else None,
            }
            row |= {"validation_exact_match": score, "test_exact_match": score}
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def built() -> Built:
    """The sections and tables of the report."""
    chosen = params()
    runs = pd.concat([evaluation(ablation) for ablation in chosen.all_ablations()], ignore_index=True)
    return build_report(chosen, runs, runs.assign(step=100), unmeasured())


@pytest.fixture(scope="module")
def tables(built: Built) -> dict[str, pd.DataFrame]:
    return built[1]


def test_the_value_of_order_is_the_difference_to_shuffled_data_seed_by_seed(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["order_value.csv"].set_index("ablation")
    assert table.index.tolist() == [f"co2-{kind}" for kind in KINDS]
    for kind in KINDS:
        assert table.loc[f"co2-{kind}", "shuffled"] == f"co2-shuffled-{kind}"
        expected = BITS["co2-shuffled"][kind] - BITS["co2"][kind]
        assert table.loc[f"co2-{kind}", ["bits", "low", "high"]].tolist() == pytest.approx([expected] * 3, abs=1e-6)


def test_a_shuffled_counterpart_differs_in_the_order_of_the_data_alone() -> None:
    ablations = params().all_ablations()
    for ablation in ablations:
        counterpart = shuffled_counterpart(ablations, ablation)
        assert (counterpart is not None) == (ablation.dataset == "co2")
        if counterpart:
            assert (counterpart.model, counterpart.training) == (ablation.model, ablation.training)
            assert shuffled_counterpart([other for other in ablations if other != counterpart], ablation) is None


def test_every_kind_of_ablation_has_its_outcome_on_every_task(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["tasks.csv"]
    assert table["task"].unique().tolist() == list(TASKS)
    assert table.groupby("kind")["task"].nunique().tolist() == [len(TASKS)] * len(KINDS)
    by_ablation = table.set_index("ablation")
    for task, kinds in CONVERGED.items():
        for kind, count in kinds.items():
            row = by_ablation.loc[f"{task}-{kind}"]
            assert (row["converged"], row["shade"]) == (count, count / len(SEEDS))
            assert pd.isna(row["test_bits"])
    shade = by_ablation["shade"]
    assert shade.between(0, 1).all()
    assert shade["co2-learned"] == 1  # the best on the data and the shuffled data together
    assert shade["co2-blind"] == shade["co2-shuffled-blind"] == 0


@pytest.mark.parametrize(
    ("claim", "tasks"),
    [
        ("learns_without", ["reverse", "co2"]),
        ("fails_blind", ["reverse", "co2"]),
        ("twin_is_learned", ["sort"]),
        ("one_layer_fails", ["reverse", "co2"]),
        ("costs", ["reverse", "co2"]),
    ],
)
def test_a_claim_holds_where_the_runs_say_so(built: Built, claim: str, tasks: list[str]) -> None:
    sections, tables = built
    table = tables["holds.csv"]
    assert table.loc[table["claim"] == claim, ["task", "holds"]].to_numpy().tolist() == [[task, 1] for task in tasks]
    numbers = {row.name: row.value for row in report.collect_claims(sections) if row.claim == f"across.{claim}"}
    assert numbers == {"held": len(tasks), "tasks": len(tasks)}


def test_no_table_has_a_number_that_has_no_meaning_for_its_task(tables: dict[str, pd.DataFrame]) -> None:
    for name in ("ablations.csv", "runs.csv"):
        table = tables[name].set_index("task")
        bits = [column for column in table if "bits" in column]
        answers = [column for column in table if "exact_match" in column or "converge" in column]
        assert bits
        assert answers
        assert table.loc[["co2", "co2-shuffled"], answers].isna().all(axis=None)
        assert table.loc[["reverse", "sort"], bits].isna().all(axis=None)


def test_tasks_are_compared_first_and_each_is_a_detail(
    built: Built,
) -> None:
    sections, _ = built
    rendered = report.build_page(sections)
    assert rendered.figure.name == "tasks"
    assert draw_png(rendered.figure.draw).startswith(b"\x89PNG")
    assert len(rendered.lead_sentences) <= report.MAX_LEAD_SENTENCES
    assert all(f"`{task}`" in page.render_markdown(rendered) for task in TASKS)
    assert [section.title for section in rendered.appendix["Details"]] == [
        f"Results by ablation ({task})" for task in TASKS
    ]
    figures = [figure.name for section in sections for figure in section.content.figures]
    assert len(figures) == len(set(figures))


@pytest.mark.parametrize(
    ("task", "measure"), [("co2", "restricted_steps"), ("co2", "test_exact_match"), ("sort", "test_bits")]
)
def test_ablations_are_compared_only_in_what_has_a_meaning_for_their_task(task: str, measure: str) -> None:
    pair = {"first": f"{task}-nope", "second": f"{task}-learned", "quantity": measure}
    with pytest.raises(UserError, match=measure):
        params(comparisons=[pair]).check_all_sections()
