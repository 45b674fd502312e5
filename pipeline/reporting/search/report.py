"""Build the claims, the page and the figures of a search's report."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pipeline import switches
from pipeline.params import Params
from pipeline.params.score import BITS
from pipeline.reporting import sentences
from pipeline.reporting.claims import VERDICT_TITLES, Claim, Estimate, Record, RowFilter, Unit, claim_records
from pipeline.reporting.page import Figure, Page, Section, Table
from pipeline.reporting.search import figures
from pipeline.reporting.search.results import SearchResults
from pipeline.reporting.style import draw_png
from pipeline.reporting.wording import format_cell, format_with_interval, percent

PAGE_TITLE = "How few layers, how few residual connections?"
SENTENCES_TEMPLATE = "search/sentences.md"


def build_claims(results: SearchResults) -> list[Claim]:
    """Return the report's claims: the best trials of each positional encoding (none first), and how the search went."""
    if results.distinct_trials.empty:
        return [Claim("nothing", {}, role="lead"), _course_claim(results)]
    answer = [claim for positional in results.positional_encodings for claim in _answer_claims(results, positional)]
    return [*answer, *_order_blind_claims(results), _course_claim(results), *_open_question_claims(results)]


def _answer_claims(results: SearchResults, positional: str) -> Iterator[Claim]:
    """Yield a claim for each best trial with a positional encoding: its results in the search, and with fresh seeds."""
    where = {"positional": positional}
    tried, solved = (
        results.read_estimate("depths.csv", of, "count", where, statistic="sum") for of in ("tried", "solved")
    )
    for sentence, row in results.best_trials(positional).items():
        number, at_depth = int(row["trial"]), where | {"layers": int(row["layers"])}

        def read_trial_estimate(column: str, unit: Unit, trial_number: int = number) -> Estimate | None:
            return results.read_estimate("trials.csv", column, unit, {"trial": trial_number})

        def read_depth_estimate(column: str, depth_filter: RowFilter = at_depth) -> Estimate | None:
            return results.read_estimate("depths.csv", column, "count", depth_filter)

        by_sentence: dict[str, dict[str, Estimate | None]] = {
            "unsolved": {"mean": read_trial_estimate("score", "share"), "tried": tried},
            "shallowest": {name: read_depth_estimate(name) for name in ("layers", "tried", "solved")},
            "sparsest": {"kept": read_trial_estimate("residuals_kept", "count"), "tried": tried, "solved": solved},
        }
        estimates = {
            "converged": results.estimate_converged_runs({"trial": number}),
            "again": results.estimate_converged_with_fresh_seeds(number),
            "steps": results.estimate_steps_with_fresh_seeds(number),
            **by_sentence[sentence],
        }
        words = {
            "encoding": switches.positional_encoding_in_words(positional),
            "trial": number,
            "pattern": results.architecture_in_words(row),
        }
        if sentence == "unsolved":
            words["score"] = results.score_words
        yield Claim(sentence, estimates, words, role="lead")


def _open_question_claims(results: SearchResults) -> Iterator[Claim]:
    """Yield claims about questions that the search leaves open."""
    if not results.is_space_exhausted:
        tried = results.read_estimate(
            "depths.csv", "tried", "count", {"positional": results.positional_encodings}, statistic="sum"
        )
        yield Claim("sampled", {"tried": tried}, {"size": results.space_size}, role="open")
    if not results.confirmation_runs:
        yield Claim("unconfirmed", {}, role="open")


def _order_blind_claims(results: SearchResults) -> Iterator[Claim]:
    """Yield the claim that no order-blind model converged, or an alarm for each that did: it has seen the order.

    There are no such claims for tasks whose answers do not depend on the order.
    """
    task, blind = results.params.task(results.params.search.task), results.order_blind_trials
    if task.score == BITS or not task.order_matters:
        return
    for _, trial in blind[blind["converged"] > 0].iterrows():
        converged = results.estimate_converged_runs({"trial": int(trial["trial"])})
        words = {"trial": int(trial["trial"]), "pattern": results.architecture_in_words(trial)}
        yield Claim("leak", {"converged": converged}, words, role="alarm")
    if len(blind) and not blind["converged"].sum():
        numbers = [int(number) for number in blind["trial"]]
        counted = results.read_estimate("trials.csv", "trial", "count", {"trial": numbers}, statistic="rows")
        runs = results.estimate_converged_runs({"trial": numbers}, "sum")
        yield Claim("blind", {"configurations": counted, "converged": runs}, role="lead")


def _course_claim(results: SearchResults) -> Claim:
    """Return the claim about how many trials were tried, repeated, lost and given up."""

    def count_trials(**where: Any) -> Estimate | None:
        return results.read_estimate("trials.csv", "trial", "count", where, statistic="rows")

    known = [int(number) for number in results.distinct_trials["trial"]]
    complete, trials = count_trials(state="complete"), results.trials
    estimates = {
        "complete": complete,
        "configurations": count_trials(trial=known),
        "retried": count_trials(trial=[int(number) for number in trials.loc[trials["retries"].notna(), "trial"]]),
        "failed": count_trials(state="failed"),
        "given_up": count_trials(trial=known, given_up=1),
        "diverged": results.read_estimate("trials.csv", "diverged", "count", {"trial": known}, statistic="sum"),
    }
    words = {
        "study": results.name,
        "search": results.params.search,
        "rule": _convergence_rule_in_words(results.params),
        "score": results.score_words,
        "converged_for": results.params.training.converged_for,
        "size": results.space_size,
        "whole": results.is_space_exhausted,
        "wanted": results.trials_required if complete is None or complete.value < results.trials_required else None,
    }
    return Claim("course", estimates, words)


def _convergence_rule_in_words(params: Params) -> str:
    """Describe when an evaluation counts towards convergence, such as `exact match was at least 99%`."""
    if params.task(params.search.task).score == BITS:
        return f"bits per token were at most {params.training.converged_at_bits}"
    return f"exact match was at least {percent(params.training.converged_at)}"


def build_records(results: SearchResults, claims: Sequence[Claim]) -> list[Record]:
    """Return a row of `claims.json` for each number in the sentences of `claims`."""
    return [record for claim in claims for record in claim_records("search", results.params.search.task, claim)]


def build_page(results: SearchResults, claims: Sequence[Claim], ablation_lines: Sequence[str]) -> Page:
    """Return the page of the search's report.

    Args:
        results: results of the search.
        claims: claims that the page states.
        ablation_lines: ablations of the best trials, as lines for `params.yaml`.
    """

    def text(claim: Claim) -> str:
        return sentences.render_sentence(SENTENCES_TEMPLATE, claim)

    course = [text(claim) for claim in claims if claim.macro == "course"]
    sections = [Section("What was tried", course), *_confirmation_sections(results)]
    pictures = _build_figures(results)
    if len(results.distinct_trials):
        front, connections, ready_made = (
            sentences.render_explanation(SENTENCES_TEMPLATE, {"part": part}) for part in ("front", "map", "ready")
        )
        sections += [
            Section("The front", front, tables=[_pareto_table(results)]),
            Section("By depth", tables=[_depth_table(results)]),
            Section("Which residual connections can go", connections, pictures[1:2]),
            Section("What the search was sensitive to", figures=pictures[2:]),
            Section("Ready-made ablations", [*ready_made, *(f"`{line}`" for line in ablation_lines)]),
        ]
    lead = [text(claim) for claim in claims if claim.role == "lead"]
    verdicts = {
        title: [text(claim) for claim in claims if claim.role == role] for role, title in VERDICT_TITLES.items()
    }
    alarms = [text(claim) for claim in claims if claim.role == "alarm"]
    return Page(PAGE_TITLE, [], lead, pictures[0], sections, alarms, verdicts)


def _confirmation_sections(results: SearchResults) -> Iterator[Section]:
    """Yield the section with the results of the best configurations in the search and with fresh seeds."""
    if not results.confirmation_runs:
        return
    trials = results.distinct_trials.set_index("trial")
    rows = [
        [
            _trial_in_words(results, trials.loc[number].to_dict() | {"trial": number}),
            format_with_interval(results.estimate_converged_runs({"trial": number})),
            format_with_interval(results.estimate_converged_with_fresh_seeds(number)),
            format_cell(results.estimate_steps_with_fresh_seeds(number)),
        ]
        for number in results.confirmation_runs
    ]
    headers = ["Configuration", "Runs converged in the search", "With fresh seeds", "Steps, mean up to the budget"]
    caption = "What the answer names, and the best by rank; steps with fresh seeds: mean (t 95% interval)"
    yield Section(
        "Confirmed with fresh seeds",
        sentences.render_explanation(SENTENCES_TEMPLATE, {"part": "confirmed"}),
        tables=[Table(headers, rows, caption)],
    )


def draw_images(results: SearchResults) -> dict[str, bytes]:
    """Draw the figures of the report as PNG: name of the figure -> bytes of the file."""
    return {figure.name: draw_png(figure.draw) for figure in _build_figures(results)}


def _build_figures(results: SearchResults) -> list[Figure]:
    front = Figure(
        "pareto",
        "Share of runs converged against residual connections kept, by depth, with the Pareto front",
        "A mark per result and depth; the number in it, where there is room, says how many configurations had that "
        "result; marks that would lie on each other stand side by side. The line joins what nothing beats.",
        partial(figures.draw_pareto_front, results),
    )
    if results.distinct_trials.empty:
        return [front]
    connections = Figure(
        "residual_map",
        "How often all runs converged without a residual connection, by layer and sublayer",
        "Of the configurations that lack this connection (whatever else they lack), those of which all runs "
        "converged: at all depths together, and at each.",
        partial(figures.draw_residual_map, results),
    )
    if not results.importances:
        return [front, connections]
    title = "Importance of each searched parameter for each objective"
    return [
        front,
        connections,
        Figure("importances", title, "", partial(figures.draw_importances, results.importances)),
    ]


def _residuals_kept_in_words(trial: Any) -> str:
    """Format how many of a model's residual connections a trial kept: `3 of 6`."""
    return f"{trial['residuals_kept']} of {2 * trial['layers']}"


def _trial_in_words(results: SearchResults, trial: Any) -> str:
    return f"trial {trial['trial']}: {results.architecture_in_words(trial)}{results.other_settings_in_words(trial)}"


def _pareto_table(results: SearchResults) -> Table:
    rows = [
        [
            format_with_interval(results.estimate_converged_runs({"trial": int(trial["trial"])})),
            percent(trial["score"]),
            _residuals_kept_in_words(trial),
            _trial_in_words(results, trial),
        ]
        for _, trial in results.pareto_front().iterrows()
    ]
    headers = ["Runs converged", f"Mean {results.score_words}", "Residual connections kept", "By"]
    return Table(headers, rows)


def _depth_table(results: SearchResults) -> Table:
    rows = [
        [
            switches.positional_encoding_in_words(row["positional"]),
            *(str(row[name]) for name in ("layers", "tried", "solved")),
            f"{row['best_converged']}/{row['runs']}",
            percent(row["best_score"]),
            _residuals_kept_in_words(row) if row["solved"] else format_cell(None),
            _trial_in_words(results, row) if row["solved"] else format_cell(None),
        ]
        for row in results.depth_table().to_dict("records")
    ]
    headers = [
        "Encoding",
        "Layers",
        "Tried",
        "All converged",
        "Best",
        f"Best {results.score_words}",
        "Fewest residuals kept",
        "By",
    ]
    caption = (
        "Configurations by depth; **best** is the most runs that converged in one, and the fewest residual "
        "connections are those kept where all did"
    )
    return Table(headers, rows, caption)
