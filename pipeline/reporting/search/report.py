"""The report of a study: from its trials to a page, its pictures, and the claims it makes."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd

from pipeline import cells as grid
from pipeline.reporting import sentences
from pipeline.reporting.claims import Claim, Estimate, Record, Unit, records
from pipeline.reporting.intervals import exact_interval
from pipeline.reporting.page import Figure, Page, Section, Table
from pipeline.reporting.search import figures
from pipeline.reporting.search.study import Study
from pipeline.reporting.style import png
from pipeline.reporting.wording import brief, interval_of_share, percent

TITLE = "How few layers, how few residual connections?"
TEMPLATE = "search/sentences.md"


def claims(study: Study) -> list[Claim]:
    """What the study found, for each positional encoding tried (none first); and how it went."""
    if study.evidence.empty:
        return [Claim("nothing", {}, lead=True), _course(study)]
    tried = sorted(set(study.evidence["positional"]), key=lambda name: (name != "none", name))
    found = [claim for positional in tried for claim in _enough(study, positional)]
    return [*found, *_blind(study), _course(study)]


def _trial(study: Study, column: str, unit: Unit, number: int) -> Estimate | None:
    return study.estimate("trials.csv", column, unit, {"trial": number})


def _enough(study: Study, positional: str) -> Iterator[Claim]:
    """What converged in every member: the shallowest, the sparsest, and the least of another objective."""
    tried = study.evidence[study.evidence["positional"] == positional]
    solved = tried[tried["converged"] == tried["members"]]
    words = {"encoding": grid.encoding(positional)}

    def about(row: pd.Series, **more: Estimate | None) -> tuple[dict[str, Estimate | None], dict[str, Any]]:
        number = int(row["trial"])
        estimates = {"converged": study.converged({"trial": number}), **more}
        return estimates, {**words, "trial": number, "pattern": study.pattern(row)}

    where = {"positional": positional}
    every = study.estimate("depths.csv", "tried", "count", where, statistic="sum")
    if solved.empty:
        best = study.ranked(tried).iloc[0]
        exact = _trial(study, "validation_exact_match", "share", int(best["trial"]))
        yield Claim("unsolved", *about(best, exact=exact, tried=every), lead=True)
        return
    depth = int(solved["layers"].min())
    shallow = study.ranked(solved[solved["layers"] == depth], "residuals_kept").iloc[0]
    at_depth = {
        name: study.estimate("depths.csv", column, "count", {"layers": depth, **where})
        for name, column in (("layers", "layers"), ("tried", "tried"), ("solved", "solved"))
    }
    yield Claim("shallowest", *about(shallow, **at_depth), lead=True)
    every_solved = study.estimate("depths.csv", "solved", "count", where, statistic="sum")
    sparse = study.ranked(solved, "residuals_kept").iloc[0]
    kept = _trial(study, "residuals_kept", "count", int(sparse["trial"]))
    estimates, said = about(sparse, kept=kept, tried=every, solved=every_solved)
    yield Claim("sparsest", estimates, said, lead=True)
    if study.minimized != "residuals_kept":
        least = study.ranked(solved).iloc[0]
        size = _trial(study, study.minimized, "count", int(least["trial"]))
        estimates, said = about(least, least=size)
        yield Claim("least", estimates, {**said, "what": figures.NAMES[study.minimized]}, lead=True)


def _blind(study: Study) -> Iterator[Claim]:
    """What cannot know the order: that it never converged, or that something leaks."""
    blind = study.order_blind
    for _, trial in blind[blind["converged"] > 0].iterrows():
        converged = study.converged({"trial": int(trial["trial"])})
        words = {"trial": int(trial["trial"]), "pattern": study.pattern(trial)}
        yield Claim("leak", {"converged": converged}, words, alarm=True)
    if len(blind) and not blind["converged"].sum():
        numbers = [int(number) for number in blind["trial"]]
        counted = study.estimate("trials.csv", "trial", "count", {"trial": numbers}, statistic="rows")
        members = study.converged({"trial": numbers}, "sum")
        yield Claim("blind", {"configurations": counted, "converged": members}, lead=True)


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
    search = study.params.search
    wanted = min(search.trials, study.space_size or search.trials)
    words = {
        "study": study.name,
        "search": search,
        "converged_at": study.params.training.converged_at,
        "size": study.space_size,
        "whole": study.space_size is not None and len(known) >= study.space_size,
        "wanted": wanted if complete is None or complete.value < wanted else None,
    }
    return Claim("course", estimates, words)


def record(study: Study, found: Sequence[Claim]) -> list[Record]:
    """Every number of every sentence."""
    return [one for claim in found for one in records("search", study.params.search.task, claim)]


def page(study: Study, found: Sequence[Claim], ready: Sequence[str]) -> Page:
    """The study as a page. `ready`: the best configurations as lines below `ablations`."""

    def said(claim: Claim) -> str:
        return sentences.sentence(TEMPLATE, claim)

    course = [said(claim) for claim in found if claim.sentence == "course"]
    sections = [Section("What was tried", course)]
    pictures = _pictures(study)
    if len(study.evidence):
        minimized = figures.NAMES[study.minimized]
        front, connections, ready_made = (
            sentences.explanation(TEMPLATE, {"part": part, "minimized": minimized})
            for part in ("front", "map", "ready")
        )
        sections += [
            Section("The front", front, tables=[_front(study)]),
            Section("By depth", tables=[_by_depth(study)]),
            Section("Which residual connections can go", connections, pictures[1:2]),
            Section("What the search was sensitive to", figures=pictures[2:]),
            Section("Ready-made cells", [*ready_made, *(f"`{line}`" for line in ready)]),
        ]
    lead = [said(claim) for claim in found if claim.lead]
    return Page(TITLE, lead, pictures[0], sections, [said(claim) for claim in found if claim.alarm])


def images(study: Study) -> dict[str, bytes]:
    """Every figure as PNG, by its name."""
    return {figure.name: png(figure.draw) for figure in _pictures(study)}


def _pictures(study: Study) -> list[Figure]:
    front = Figure(
        "pareto",
        "Share of members converged against what is minimised, by depth, with the Pareto front",
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


def _members(k: int, n: int) -> str:
    """`2 of 2 (16% to 100%)`."""
    return f"{k} of {n} ({interval_of_share(*exact_interval(k, n))})"


def _by(study: Study, trial: Any) -> str:
    return f"trial {trial['trial']}: {study.pattern(trial)}{study.settings(trial)}"


def _front(study: Study) -> Table:
    rows = [
        [
            _members(int(trial["converged"]), int(trial["members"])),
            percent(trial["validation_exact_match"]),
            _kept(trial) if study.minimized == "residuals_kept" else f"{trial[study.minimized]:,.4g}",
            _by(study, trial),
        ]
        for _, trial in study.pareto_front().iterrows()
    ]
    title = figures.NAMES[study.minimized][0].upper() + figures.NAMES[study.minimized][1:]
    return Table(["Members converged (95% interval)", "Mean exact match", title, "By"], rows)


def _by_depth(study: Study) -> Table:
    rows = [
        [
            grid.encoding(row["positional"]),
            *(str(row[name]) for name in ("layers", "tried", "solved")),
            f"{row['best_converged']}/{row['members']}",
            percent(row["best_exact_match"]),
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
        "Best exact match",
        "Fewest residuals kept",
        "By",
    ]
    caption = (
        "Configurations by depth; **best** is the most members that converged in one, and the fewest residual "
        "connections are those kept where all did"
    )
    return Table(headers, rows, caption)
