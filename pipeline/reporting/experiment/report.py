"""The report of a grid: from the results on each task to a page, its pictures, and the claims it makes."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.measurement.registry import Measurement
from pipeline.reporting import sentences
from pipeline.reporting.claims import VERDICTS, Claim, ClaimRole, Record, records
from pipeline.reporting.experiment import across, measured
from pipeline.reporting.experiment.section import CHAPTERS, Chapter, SectionContent
from pipeline.reporting.experiment.sections import sections
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure, Page, Section
from pipeline.reporting.style import png

TITLE = "How do transformers without positional encoding know the order of their input?"
QUESTION = (
    "Shuffle the tokens before the last one: a transformer that has neither positional encoding (PE) nor a causal mask "
    "predicts what it did before. Yet decoders without PE learn tasks in which order is everything."
)

SENTENCES = 7
"""The most that the first screen answers with, shared by the tasks; what comes later stands in its section alone."""


@dataclass(frozen=True)
class PlacedSection:
    """A finding, and where it stands."""

    name: str
    template: str
    chapter: Chapter
    title: str
    dataset: str
    content: SectionContent

    def sentence(self, claim: Claim) -> str:
        """A claim in words."""
        return sentences.sentence(self.template, claim)

    def section(self, suffix: str, main: Figure) -> Section:
        """The finding as a section: what is measured, what is claimed, what is shown (but for the page's main figure,
        which is shown above)."""
        finding = self.content
        figures = [figure for figure in finding.figures if figure is not main]
        paragraphs = sentences.explanation(self.template, dict(finding.words))
        paragraphs += [self.sentence(claim) for claim in finding.claims if claim.role in ("", "lead")]
        return Section(self.title + suffix, paragraphs, figures, finding.tables)


def task_sections(
    results: TaskResults,
    measurements: Mapping[str, Measurement],
    *,
    prefix: str = "",
    chapters: Collection[Chapter] = tuple(CHAPTERS),
) -> Iterator[PlacedSection]:
    """All there is to tell on one task in these chapters, in the order of the page. `prefix`: of its figures' names."""
    of_task = [section for section in sections() if results.problems.task.score in section.scores]
    collect_sections = {name for section in of_task for name in section.measurements}
    generic = [one for name, one in measurements.items() if name not in collect_sections]
    for chapter in chapters:
        for section in of_task:
            if section.chapter == chapter and (finding := section.build(results)):
                template = f"experiment/sections/{section.name}.md"
                yield PlacedSection(
                    section.name, template, chapter, section.title, results.dataset, _named(finding, prefix)
                )
        for measurement in generic if chapter == "mechanism" else ():
            if finding := measured.generic_section(measurement, results):
                named = _named(finding, prefix)
                yield PlacedSection(
                    measurement.name, "experiment/measured.md", chapter, measurement.title, results.dataset, named
                )


def _named(finding: SectionContent, prefix: str) -> SectionContent:
    return replace(finding, figures=[replace(figure, name=prefix + figure.name) for figure in finding.figures])


def told(results: Sequence[TaskResults], measurements: Mapping[str, Measurement]) -> list[PlacedSection]:
    """All there is to tell, task by task; where there are several, figures are named after theirs. Where there are
    many, they are compared, and of each its results alone are told, as a detail."""
    many = across.has_many_tasks(results)
    found = [
        one
        for each in results
        for one in task_sections(
            each,
            measurements,
            prefix=f"{each.dataset}-" if len(results) > 1 else "",
            chapters=("results",) if many else tuple(CHAPTERS),
        )
    ]
    if not many:
        return found
    compared = PlacedSection(
        "across",
        "experiment/across.md",
        "results",
        "Every task beside its twin",
        "",
        across.comparison_section(results),
    )
    return [compared, *(replace(one, chapter="details") for one in found)]


def claims(told: Sequence[PlacedSection]) -> list[Record]:
    """Every number of every sentence."""
    return [record for one in told for claim in one.content.claims for record in records(one.name, one.dataset, claim)]


def images(told: Sequence[PlacedSection]) -> dict[str, bytes]:
    """Every figure as PNG, by its name."""
    return {figure.name: png(figure.draw) for one in told for figure in one.content.figures}


def page(told: Sequence[PlacedSection]) -> Page:
    """The page: alarms, the main figure, the answers and the verdicts first, then the results, and the other chapters
    as an appendix; several tasks one after the other in each."""
    tasks = list(dict.fromkeys(one.dataset for one in told))
    several = len(tasks) > 1
    compared = [""] if "" in tasks else tasks  # where tasks are compared, that is the answer

    def suffix(one: PlacedSection) -> str:
        return f" ({one.dataset})" if several and one.dataset else ""

    def said(place: ClaimRole, most: int | None = None, *, of: Sequence[str] = tasks) -> list[str]:
        return [
            (f"**{task}**: " if several and task else "") + sentence
            for task in of
            for sentence in [
                one.sentence(claim)
                for one in told
                for claim in one.content.claims
                if one.dataset == task and claim.role == place
            ][:most]
        ]

    main = next(figure for one in told for figure in one.content.figures)
    sections = [(one.chapter, one.section(suffix(one), main)) for one in told]
    appendix = {
        title: [section for chapter, section in sections if chapter == of and section.has_content]
        for of, title in CHAPTERS.items()
    }
    results = appendix.pop(CHAPTERS["results"])
    closing = Section("Where the numbers come from", sentences.paragraphs("experiment/provenance.md"))
    answers = said("lead", max(1, SENTENCES // len(compared)), of=compared)
    return Page(
        TITLE, [QUESTION, *said("opening", of=compared)], answers, main, [*results, closing], said("alarm"),
        {title: said(place) for place, title in VERDICTS.items()},
        {title: sections for title, sections in appendix.items() if sections},
    )  # fmt: skip
