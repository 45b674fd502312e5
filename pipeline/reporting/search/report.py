"""The report of a search: its claims, its page and its figures."""

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

TITLE = "How few layers, how few residual connections?"
TEMPLATE = "search/sentences.md"


def claims(results: SearchResults) -> list[Claim]:
    """Claims about each positional encoding tried (none first), and about the course of the search."""
    if results.evidence.empty:
        return [Claim("nothing", {}, role="lead"), _course(results)]
    answer = [claim for positional in results.positional for claim in _answer(results, positional)]
    return [*answer, *_order_blind(results), _course(results), *_open(results)]


def _answer(results: SearchResults, positional: str) -> Iterator[Claim]:
    """Claims about the trials that the answer names: their outcome in the search, and with fresh seeds."""
    where = {"positional": positional}
    tried, solved = (
        results.read_estimate("depths.csv", of, "count", where, statistic="sum") for of in ("tried", "solved")
    )
    for sentence, row in results.best(positional).items():
        number, at_depth = int(row["trial"]), where | {"layers": int(row["layers"])}

        def of_trial(column: str, unit: Unit, number: int = number) -> Estimate | None:
            return results.read_estimate("trials.csv", column, unit, {"trial": number})

        def of_depth(column: str, at_depth: RowFilter = at_depth) -> Estimate | None:
            return results.read_estimate("depths.csv", column, "count", at_depth)

        by_sentence: dict[str, dict[str, Estimate | None]] = {
            "unsolved": {"mean": of_trial("score", "share"), "tried": tried},
            "shallowest": {name: of_depth(name) for name in ("layers", "tried", "solved")},
            "sparsest": {"kept": of_trial("residuals_kept", "count"), "tried": tried, "solved": solved},
        }
        estimates = {
            "converged": results.converged({"trial": number}),
            "again": results.converged_again(number),
            "steps": results.steps_again(number),
            **by_sentence[sentence],
        }
        words = {
            "encoding": switches.positional_encoding_in_words(positional),
            "trial": number,
            "pattern": results.pattern(row),
        }
        if sentence == "unsolved":
            words["score"] = results.score
        yield Claim(sentence, estimates, words, role="lead")


def _open(results: SearchResults) -> Iterator[Claim]:
    """Claims about what the search leaves open."""
    if not results.exhausted:
        tried = results.read_estimate(
            "depths.csv", "tried", "count", {"positional": results.positional}, statistic="sum"
        )
        yield Claim("sampled", {"tried": tried}, {"size": results.space_size}, role="open")
    if not results.confirmed:
        yield Claim("unconfirmed", {}, role="open")


def _order_blind(results: SearchResults) -> Iterator[Claim]:
    """Claim that no order-blind configuration converged, or an alarm for each that did: then something leaks the order.

    Only for tasks with right answers that depend on the order.
    """
    task, blind = results.params.task(results.params.search.task), results.order_blind
    if task.score == BITS or not task.order_matters:
        return
    for _, trial in blind[blind["converged"] > 0].iterrows():
        converged = results.converged({"trial": int(trial["trial"])})
        words = {"trial": int(trial["trial"]), "pattern": results.pattern(trial)}
        yield Claim("leak", {"converged": converged}, words, role="alarm")
    if len(blind) and not blind["converged"].sum():
        numbers = [int(number) for number in blind["trial"]]
        counted = results.read_estimate("trials.csv", "trial", "count", {"trial": numbers}, statistic="rows")
        runs = results.converged({"trial": numbers}, "sum")
        yield Claim("blind", {"configurations": counted, "converged": runs}, role="lead")


def _course(results: SearchResults) -> Claim:
    """Claim about the numbers of trials that were tried, repeated, lost and given up."""

    def counted(**where: Any) -> Estimate | None:
        return results.read_estimate("trials.csv", "trial", "count", where, statistic="rows")

    known = [int(number) for number in results.evidence["trial"]]
    complete, trials = counted(state="complete"), results.trials
    estimates = {
        "complete": complete,
        "configurations": counted(trial=known),
        "retried": counted(trial=[int(number) for number in trials.loc[trials["retries"].notna(), "trial"]]),
        "failed": counted(state="failed"),
        "given_up": counted(trial=known, given_up=1),
        "diverged": results.read_estimate("trials.csv", "diverged", "count", {"trial": known}, statistic="sum"),
    }
    words = {
        "study": results.name,
        "search": results.params.search,
        "rule": _rule(results.params),
        "score": results.score,
        "converged_for": results.params.training.converged_for,
        "size": results.space_size,
        "whole": results.exhausted,
        "wanted": results.required if complete is None or complete.value < results.required else None,
    }
    return Claim("course", estimates, words)


def _rule(params: Params) -> str:
    """When an evaluation counts towards convergence, in words."""
    if params.task(params.search.task).score == BITS:
        return f"bits per token were at most {params.training.converged_at_bits}"
    return f"exact match was at least {percent(params.training.converged_at)}"


def record(results: SearchResults, claims: Sequence[Claim]) -> list[Record]:
    """Records of all numbers in the sentences of `claims`."""
    return [record for claim in claims for record in claim_records("search", results.params.search.task, claim)]


def page(results: SearchResults, claims: Sequence[Claim], entries: Sequence[str]) -> Page:
    """The page of the search. `entries`: the best configurations as lines for `ablations` in `params.yaml`."""

    def text(claim: Claim) -> str:
        return sentences.render_sentence(TEMPLATE, claim)

    course = [text(claim) for claim in claims if claim.macro == "course"]
    sections = [Section("What was tried", course), *_confirmed(results)]
    pictures = _pictures(results)
    if len(results.evidence):
        front, connections, ready_made = (
            sentences.render_explanation(TEMPLATE, {"part": part}) for part in ("front", "map", "ready")
        )
        sections += [
            Section("The front", front, tables=[_front(results)]),
            Section("By depth", tables=[_by_depth(results)]),
            Section("Which residual connections can go", connections, pictures[1:2]),
            Section("What the search was sensitive to", figures=pictures[2:]),
            Section("Ready-made ablations", [*ready_made, *(f"`{entry}`" for entry in entries)]),
        ]
    lead = [text(claim) for claim in claims if claim.role == "lead"]
    verdicts = {
        title: [text(claim) for claim in claims if claim.role == role] for role, title in VERDICT_TITLES.items()
    }
    alarms = [text(claim) for claim in claims if claim.role == "alarm"]
    return Page(TITLE, [], lead, pictures[0], sections, alarms, verdicts)


def _confirmed(results: SearchResults) -> Iterator[Section]:
    """Section with the outcomes of the best configurations in the search and with fresh seeds."""
    if not results.confirmed:
        return
    trials = results.evidence.set_index("trial")
    rows = [
        [
            _by(results, trials.loc[number].to_dict() | {"trial": number}),
            format_with_interval(results.converged({"trial": number})),
            format_with_interval(results.converged_again(number)),
            format_cell(results.steps_again(number)),
        ]
        for number in results.confirmed
    ]
    headers = ["Configuration", "Runs converged in the search", "With fresh seeds", "Steps, mean up to the budget"]
    caption = "What the answer names, and the best by rank; steps with fresh seeds: mean (t 95% interval)"
    yield Section(
        "Confirmed with fresh seeds",
        sentences.render_explanation(TEMPLATE, {"part": "confirmed"}),
        tables=[Table(headers, rows, caption)],
    )


def images(results: SearchResults) -> dict[str, bytes]:
    """Figures as PNG, by their names."""
    return {figure.name: draw_png(figure.draw) for figure in _pictures(results)}


def _pictures(results: SearchResults) -> list[Figure]:
    front = Figure(
        "pareto",
        "Share of runs converged against residual connections kept, by depth, with the Pareto front",
        "A mark per result and depth; the number in it, where there is room, says how many configurations had that "
        "result; marks that would lie on each other stand side by side. The line joins what nothing beats.",
        partial(figures.pareto, results),
    )
    if results.evidence.empty:
        return [front]
    connections = Figure(
        "residual_map",
        "How often all runs converged without a residual connection, by layer and sublayer",
        "Of the configurations that lack this connection (whatever else they lack), those of which all runs "
        "converged: at all depths together, and at each.",
        partial(figures.residual_map, results),
    )
    if not results.importances:
        return [front, connections]
    title = "Importance of each searched parameter for each objective"
    return [front, connections, Figure("importances", title, "", partial(figures.importances, results.importances))]


def _kept(trial: Any) -> str:
    """Residual connections kept, of all that the model could have: `3 of 6`."""
    return f"{trial['residuals_kept']} of {2 * trial['layers']}"


def _by(results: SearchResults, trial: Any) -> str:
    return f"trial {trial['trial']}: {results.pattern(trial)}{results.settings(trial)}"


def _front(results: SearchResults) -> Table:
    rows = [
        [
            format_with_interval(results.converged({"trial": int(trial["trial"])})),
            percent(trial["score"]),
            _kept(trial),
            _by(results, trial),
        ]
        for _, trial in results.pareto_front().iterrows()
    ]
    headers = ["Runs converged", f"Mean {results.score}", "Residual connections kept", "By"]
    return Table(headers, rows)


def _by_depth(results: SearchResults) -> Table:
    rows = [
        [
            switches.positional_encoding_in_words(row["positional"]),
            *(str(row[name]) for name in ("layers", "tried", "solved")),
            f"{row['best_converged']}/{row['runs']}",
            percent(row["best_score"]),
            _kept(row) if row["solved"] else format_cell(None),
            _by(results, row) if row["solved"] else format_cell(None),
        ]
        for row in results.depths().to_dict("records")
    ]
    headers = [
        "Encoding",
        "Layers",
        "Tried",
        "All converged",
        "Best",
        f"Best {results.score}",
        "Fewest residuals kept",
        "By",
    ]
    caption = (
        "Configurations by depth; **best** is the most runs that converged in one, and the fewest residual "
        "connections are those kept where all did"
    )
    return Table(headers, rows, caption)
