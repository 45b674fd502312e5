"""The sections of the report: what a page says, from the tables."""

from collections.abc import Sequence

import pandas as pd

from pipeline.params import Task
from pipeline.reporting import published, tables
from pipeline.reporting.cells import OPTIMIZERS, base, described, in_groups
from pipeline.reporting.evidence import Answer
from pipeline.reporting.mechanism.finding import Finding
from pipeline.reporting.page import Figure, Section, Table
from pipeline.reporting.wording import count, interval, listed, p_value, percent, plural

MAIN = Figure(
    "exact_match.png",
    "Test exact match of every run by cell, and how many runs of each cell converged",
    "Each mark is one run (seed) at its last step, with the exact 95% interval of its test score; the bar is the "
    "median over seeds. Right: the share of runs that converged, with its exact 95% interval and k/n.",
)


def alarms(above: pd.DataFrame, ceiling: float | None) -> list[str]:
    """What `tables.above_ceiling` found: each order-blind run that knows more than it can, in one text a cell."""
    texts = []
    for name, runs in above[above["above"]].groupby("ablation", sort=False):
        worst = max(runs.to_dict("records"), key=lambda run: run["correct"])
        right = count(worst["correct"], worst["test_examples"])
        texts.append(
            f"`{name}` is order-blind by construction, but {plural(len(runs), 'run')} of it beat what is possible "
            f"without order: seed {worst['seed']} answered {right} right, the ceiling is {percent(ceiling or 0.0)} "
            f"({p_value(float(runs['p_value'].min()))}, Holm-corrected). Something leaks: trust no number of "
            f"this report until it is found."
        )
    return texts


def task_in_words(task: Task) -> str:
    """What is learned."""
    example = "`123+456=`" if task.digits == 3 else "`a+b=`"
    order = "least significant digit first" if task.reverse else "most significant digit first"
    return (
        f"{task.digits}-digit addition ({example}, the answer {order}), {task.train_size:,} training examples, "
        f"{task.test_size:,} test examples that share no pair of operands with them"
    )


def results(cells: pd.DataFrame, task: Task, converged_at: Sequence[float]) -> Section:
    """Every cell with its counts and scores."""
    shared = base(cells)
    rows = [
        [
            f"`{cell['ablation']}`",
            f"{cell['converged']}/{cell['runs']}",
            interval(cell["converged_low"], cell["converged_high"]),
            f"{cell['steps_to_converge_median']:,.0f}" if cell["converged"] else "–",
            percent(cell["test_exact_match_median"]),
            f"{percent(cell['test_exact_match_min'])} to {percent(cell['test_exact_match_max'])}",
            _ceiling(cell),
            described(cell, shared),
        ]
        for _, members in in_groups(cells)
        for _, cell in members.iterrows()
    ]
    headers = ["Cell", "Converged", "95% interval", "Steps", "Test median", "Min to max", "Ceiling", "What it is"]
    usual = f"{plural(shared['layers'], 'layer')} of width {shared['width']}, {OPTIMIZERS[shared['optimizer']]}"
    reached = listed([percent(share) for share in sorted(set(converged_at))], "or")
    return Section(
        "Results by cell",
        [
            f"Task: {task_in_words(task)}. A run **converged** when its validation exact match reached {reached}; "
            f"that a run does not is a result too. The interval is that of the share of runs that converge "
            f"(Clopper-Pearson). **Steps** are the median of the runs that converged. **Test** exact match is that "
            f"of the last step, by greedy decoding; nothing is selected on the test set.",
            "The **ceiling** is the best exact match of any predictor that knows which characters the prompt has but "
            "not their order. It stands where the architecture is order-blind by construction: no positional "
            "encoding, and full attention or one layer. One run above it beyond chance would be a bug.",
        ],
        tables=[Table(headers, rows, caption=f"Where not said otherwise: {usual}, every residual connection")],
    )


def _ceiling(cell: pd.Series) -> str:
    if pd.isna(cell["order_blind_ceiling"]):
        return ""
    above = cell["runs_above_ceiling"]
    return percent(cell["order_blind_ceiling"]) + (f" **⚠ {above} above**" if above else "")


def questions(answers: Sequence[Answer]) -> list[Section]:
    """A section per question, under one heading."""
    heading = Section(
        "The questions",
        [
            "One task at one scale, with few seeds: k of n is given with its exact 95% interval, and a difference "
            "between cells is a difference in this experiment."
        ],
    )
    return [heading, *(Section(a.question, a.paragraphs, tables=a.tables, level=3) for a in answers)]


def mechanism(findings: Sequence[Finding]) -> list[Section]:
    """A section per finding, under one heading."""
    heading = Section(
        "Where the order comes from",
        [
            "Measured on validation rows and on random token rows, never on test rows; at initialisation, at a few "
            "steps along the way, and as trained. Means are over seeds, with bootstrap 95% intervals."
        ],
    )
    return [heading, *(finding.section for finding in findings)]


def learning_curves() -> Section:
    """How the runs got there."""
    caption = (
        "Validation exact match, a line per seed, to its last evaluation (a run that has converged may stop there)."
    )
    return Section(
        "Learning curves",
        figures=[Figure("learning_curves.png", "Validation exact match over training steps, by cell", caption)],
    )


def digits_in_words(task: Task, produced: int) -> list[str]:
    """What to call the `produced` answer characters, in the order they are produced."""
    places = ["ones", "tens", "hundreds", "thousands"]
    names = places[: task.digits + 1] + [f"10^{power}" for power in range(len(places), task.digits + 1)]
    if not task.reverse:
        names.reverse()
    if not task.zero_pad:  # then the k-th character of an answer may be its end, and its place depends on its length
        names = [f"{place}." for place in range(1, produced + 1)]
    return (names + ["end"] * produced)[:produced]


def breakdowns(by_digit: pd.DataFrame, by_carries: pd.DataFrame, task: Task, names: Sequence[str]) -> list[Section]:
    """Where the errors are: per answer character and per number of carries."""
    pooled = (
        "In the table: the mean over seeds, and the exact 95% interval of all their answers together. The seeds "
        "share one test set, so the interval tells the noise of counting, not what another seed would give."
    )
    words = digits_in_words(task, int(by_digit["digit"].max()))
    digits = Figure("by_digit.png", "Share of right answers by answer character and cell", "Mean over seeds.")
    carries = Figure("by_carries.png", "Exact match by number of carries and cell", "Mean over seeds.")
    return [
        Section(
            "By answer digit",
            [f"How often each character of the answer is right, whatever the others are. {pooled}"],
            [digits],
            [_wide(by_digit, "digit", words, names)],
        ),
        Section(
            "By number of carries",
            [f"Exact match among the test examples whose sum has so many carries. {pooled}"],
            [carries],
            [_wide(by_carries, "carries", [str(n) for n in sorted(set(by_carries["carries"]))], names)],
        ),
    ]


def _wide(table: pd.DataFrame, key: str, words: Sequence[str], names: Sequence[str]) -> Table:
    """A row per cell, a column per digit or number of carries: `98.5% [97.9% to 98.9%]`."""
    found = {(row["ablation"], row[key]): row for row in table.to_dict("records")}
    keys = sorted(set(table[key]))
    rows = []
    for name in names:
        shares = [found.get((name, number)) for number in keys]
        rows.append(
            [
                f"`{name}`",
                *(
                    f"{percent(s['mean'])} [{interval(s['low'], s['high']).replace('% to ', '–')}]" if s else "–"
                    for s in shares
                ),
            ]
        )
    title = "carries" if key == "carries" else ""
    return Table(["Cell", *(f"{word} {title}".strip() for word in words)], rows)


def beside_published(cells: pd.DataFrame) -> Section:
    """Our cells beside the published runs, with what those are."""
    table = tables.beside_published(cells)
    if table.empty:
        return Section("Beside the published runs", ["No cell of this grid has published runs.", *published.PROVENANCE])
    rows = [
        [
            f"`{row['ablation']}`",
            f"{percent(row['median'])} ({percent(row['min'])} to {percent(row['max'])}), n = {row['runs']}",
            f"{percent(row['published_median'])} ({percent(row['published_min'])} to "
            f"{percent(row['published_max'])}), n = {row['published_runs']}",
            row["differs"] or "the training set-up (see above)",
        ]
        for row in table.to_dict("records")
    ]
    headers = ["Cell", "Ours, at the last step", "Published, maximum of each run", "What differs in ours"]
    depths = sorted({int(layers) for layers in cells["layers"]} - {published.LAYERS})
    caution = (
        "**Beside, not against**: the published models have 6 layers of width 384. Layers are counted from 0 in "
        "both, but layer 1 of a shallower model is not layer 1 of 6; the last column says what differs."
    )
    return Section(
        "Beside the published runs",
        [*([caution] if depths else []), *published.PROVENANCE],
        tables=[Table(headers, rows, caption="Test exact match over n runs: median (min to max)")],
    )


def provenance() -> Section:
    """Where every number comes from, and how to make it again."""
    return Section(
        "Where the numbers come from",
        [
            "Every number and figure here is made by `dvc repro` from `params.yaml`, and again with the same bytes "
            "on the same machine; `python -m pipeline report` makes this page alone.",
            "[runs.csv](runs.csv) has a row per run, [ablations.csv](ablations.csv) a row per cell, "
            "[learning_curves.csv](learning_curves.csv) every evaluation during training, "
            "[symmetry.csv](symmetry.csv) the check of the symmetry for every member; after `dvc repro`, "
            "`measurements/` has the mean and interval of every measurement. `dvc metrics show` prints the main "
            "results. The weights, configuration and history of a cell are in `models/<cell>/` after `dvc repro` (or "
            "`dvc pull`).",
            "How little depth and how few residual connections are enough is the question of `make search`, whose "
            "answer is a page of its own: [search/summary.md](search/summary.md).",
            "To add a cell, write a stanza under `ablations` in `params.yaml` and run `dvc repro`: only it trains.",
        ],
    )
