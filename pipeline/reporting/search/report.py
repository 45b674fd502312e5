"""The report of a study: from its trials to a page, its pictures, and the claims it makes."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pipeline import switches
from pipeline.params import Params
from pipeline.params.score import BITS
from pipeline.reporting import sentences
from pipeline.reporting.claims import VERDICTS, Claim, Estimate, Record, RowFilter, Unit, records
from pipeline.reporting.page import Figure, Page, Section, Table
from pipeline.reporting.search import figures
from pipeline.reporting.search.study import Study
from pipeline.reporting.style import png
from pipeline.reporting.wording import brief, percent, with_interval

TITLE = "How few layers, how few residual connections?"
TEMPLATE = "search/sentences.md"


def claims(study: Study) -> list[Claim]:
    """What the study found, for each positional encoding tried (none first); and how it went."""
    if study.evidence.empty:
        return [Claim("nothing", {}, role="lead"), _course(study)]
    found = [claim for positional in study.positional for claim in _enough(study, positional)]
    return [*found, *_blind(study), _course(study), *_open(study)]


def _enough(study: Study, positional: str) -> Iterator[Claim]:
    """What the answer names, as it came out in the search and again with fresh seeds."""
    where = {"positional": positional}
    tried, solved = (study.estimate("depths.csv", of, "count", where, statistic="sum") for of in ("tried", "solved"))
    for sentence, row in study.best(positional).items():
        number, at_depth = int(row["trial"]), where | {"layers": int(row["layers"])}

        def of_trial(column: str, unit: Unit, number: int = number) -> Estimate | None:
            return study.estimate("trials.csv", column, unit, {"trial": number})

        def of_depth(column: str, at_depth: RowFilter = at_depth) -> Estimate | None:
            return study.estimate("depths.csv", column, "count", at_depth)

        own: dict[str, dict[str, Estimate | None]] = {
            "unsolved": {"mean": of_trial("score", "share"), "tried": tried},
            "shallowest": {name: of_depth(name) for name in ("layers", "tried", "solved")},
            "sparsest": {"kept": of_trial("residuals_kept", "count"), "tried": tried, "solved": solved},
        }
        estimates = {
            "converged": study.converged({"trial": number}),
            "again": study.again(number),
            "steps": study.steps_again(number),
            **own[sentence],
        }
        words = {"encoding": switches.positional_in_words(positional), "trial": number, "pattern": study.pattern(row)}
        if sentence == "unsolved":
            words["score"] = study.score
        yield Claim(sentence, estimates, words, role="lead")


def _open(study: Study) -> Iterator[Claim]:
    """What the study leaves open."""
    if not study.exhausted:
        tried = study.estimate("depths.csv", "tried", "count", {"positional": study.positional}, statistic="sum")
        yield Claim("sampled", {"tried": tried}, {"size": study.space_size}, role="open")
    if not study.confirmed:
        yield Claim("unconfirmed", {}, role="open")


def _blind(study: Study) -> Iterator[Claim]:
    """What cannot know the order: that it never converged, or that something leaks; of a task with right answers that
    depend on the order."""
    task, blind = study.params.task(study.params.search.task), study.order_blind
    if task.score == BITS or not task.order_counts:
        return
    for _, trial in blind[blind["converged"] > 0].iterrows():
        converged = study.converged({"trial": int(trial["trial"])})
        words = {"trial": int(trial["trial"]), "pattern": study.pattern(trial)}
        yield Claim("leak", {"converged": converged}, words, role="alarm")
    if len(blind) and not blind["converged"].sum():
        numbers = [int(number) for number in blind["trial"]]
        counted = study.estimate("trials.csv", "trial", "count", {"trial": numbers}, statistic="rows")
        members = study.converged({"trial": numbers}, "sum")
        yield Claim("blind", {"configurations": counted, "converged": members}, role="lead")


def _course(study: Study) -> Claim:
    """How much was tried, repeated, lost and given up."""

    def counted(**where: Any) -> Estimate | None:
        return study.estimate("trials.csv", "trial", "count", where, statistic="rows")

    known = [int(number) for number in study.evidence["trial"]]
    complete, trials = counted(state="complete"), study.trials
    estimates = {
        "complete": complete,
        "configurations": counted(trial=known),
        "retried": counted(trial=[int(number) for number in trials.loc[trials["retries"].notna(), "trial"]]),
        "failed": counted(state="failed"),
        "given_up": counted(trial=known, given_up=1),
        "diverged": study.estimate("trials.csv", "diverged", "count", {"trial": known}, statistic="sum"),
    }
    words = {
        "study": study.name,
        "search": study.params.search,
        "rule": _rule(study.params),
        "score": study.score,
        "converged_for": study.params.training.converged_for,
        "size": study.space_size,
        "whole": study.exhausted,
        "wanted": study.wanted if complete is None or complete.value < study.wanted else None,
    }
    return Claim("course", estimates, words)


def _rule(params: Params) -> str:
    """From what an evaluation counts."""
    if params.task(params.search.task).score == BITS:
        return f"bits per token were at most {params.training.converged_at_bits}"
    return f"exact match was at least {percent(params.training.converged_at)}"


def record(study: Study, found: Sequence[Claim]) -> list[Record]:
    """Every number of every sentence."""
    return [one for claim in found for one in records("search", study.params.search.task, claim)]


def page(study: Study, found: Sequence[Claim], ready: Sequence[str]) -> Page:
    """The study as a page. `ready`: the best configurations as lines below `ablations`."""

    def said(claim: Claim) -> str:
        return sentences.sentence(TEMPLATE, claim)

    course = [said(claim) for claim in found if claim.sentence == "course"]
    sections = [Section("What was tried", course), *_confirmed(study)]
    pictures = _pictures(study)
    if len(study.evidence):
        front, connections, ready_made = (
            sentences.explanation(TEMPLATE, {"part": part}) for part in ("front", "map", "ready")
        )
        sections += [
            Section("The front", front, tables=[_front(study)]),
            Section("By depth", tables=[_by_depth(study)]),
            Section("Which residual connections can go", connections, pictures[1:2]),
            Section("What the search was sensitive to", figures=pictures[2:]),
            Section("Ready-made ablations", [*ready_made, *(f"`{line}`" for line in ready)]),
        ]
    lead = [said(claim) for claim in found if claim.role == "lead"]
    verdicts = {title: [said(claim) for claim in found if claim.role == place] for place, title in VERDICTS.items()}
    alarms = [said(claim) for claim in found if claim.role == "alarm"]
    return Page(TITLE, [], lead, pictures[0], sections, alarms, verdicts)


def _confirmed(study: Study) -> Iterator[Section]:
    """The best configurations, as they did in the search and with fresh seeds."""
    if not study.confirmed:
        return
    trials = study.evidence.set_index("trial")
    rows = [
        [
            _by(study, trials.loc[number].to_dict() | {"trial": number}),
            with_interval(study.converged({"trial": number})),
            with_interval(study.again(number)),
            brief(study.steps_again(number)),
        ]
        for number in study.confirmed
    ]
    headers = ["Configuration", "Members converged in the search", "With fresh seeds", "Steps, mean up to the budget"]
    caption = "What the answer names, and the best by rank; steps with fresh seeds: mean (t 95% interval)"
    yield Section(
        "Confirmed with fresh seeds",
        sentences.explanation(TEMPLATE, {"part": "confirmed"}),
        tables=[Table(headers, rows, caption)],
    )


def images(study: Study) -> dict[str, bytes]:
    """Every figure as PNG, by its name."""
    return {figure.name: png(figure.draw) for figure in _pictures(study)}


def _pictures(study: Study) -> list[Figure]:
    front = Figure(
        "pareto",
        "Share of members converged against residual connections kept, by depth, with the Pareto front",
        "A mark per result and depth; the number in it, where there is room, says how many configurations had that "
        "result; marks that would lie on each other stand side by side. The line joins what nothing beats.",
        partial(figures.pareto, study),
    )
    if study.evidence.empty:
        return [front]
    connections = Figure(
        "residual_map",
        "How often every member converged without a residual connection, by layer and sublayer",
        "Of the configurations that lack this connection (whatever else they lack), those of which every member "
        "converged: at all depths together, and at each.",
        partial(figures.residual_map, study),
    )
    if not study.importances:
        return [front, connections]
    told = "How much each searched parameter has to do with each objective"
    return [front, connections, Figure("importances", told, "", partial(figures.importances, study.importances))]


def _kept(trial: Any) -> str:
    """`3 of 6`."""
    return f"{trial['residuals_kept']} of {2 * trial['layers']}"


def _by(study: Study, trial: Any) -> str:
    return f"trial {trial['trial']}: {study.pattern(trial)}{study.settings(trial)}"


def _front(study: Study) -> Table:
    rows = [
        [
            with_interval(study.converged({"trial": int(trial["trial"])})),
            percent(trial["score"]),
            _kept(trial),
            _by(study, trial),
        ]
        for _, trial in study.pareto_front().iterrows()
    ]
    headers = ["Members converged", f"Mean {study.score}", "Residual connections kept", "By"]
    return Table(headers, rows)


def _by_depth(study: Study) -> Table:
    rows = [
        [
            switches.positional_in_words(row["positional"]),
            *(str(row[name]) for name in ("layers", "tried", "solved")),
            f"{row['best_converged']}/{row['members']}",
            percent(row["best_score"]),
            _kept(row) if row["solved"] else brief(None),
            _by(study, row) if row["solved"] else brief(None),
        ]
        for row in study.depths().to_dict("records")
    ]
    headers = [
        "Encoding",
        "Layers",
        "Tried",
        "All converged",
        "Best",
        f"Best {study.score}",
        "Fewest residuals kept",
        "By",
    ]
    caption = (
        "Configurations by depth; **best** is the most members that converged in one, and the fewest residual "
        "connections are those kept where all did"
    )
    return Table(headers, rows, caption)
