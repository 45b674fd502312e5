"""The report of an experiment: from the results on each task to sections, pictures, claims and the page."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.measurement.registry import Measurement
from pipeline.reporting import sentences
from pipeline.reporting.claims import VERDICT_TITLES, Claim, ClaimRole, Record, claim_records
from pipeline.reporting.experiment import across, measured
from pipeline.reporting.experiment.section import CHAPTERS, Chapter, SectionContent
from pipeline.reporting.experiment.sections import registered_sections
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure, Page, Section
from pipeline.reporting.style import draw_png

PAGE_TITLE = "How do transformers without positional encoding know the order of their input?"
OPENING_QUESTION = (
    "Shuffle the tokens before the last one: a transformer that has neither positional encoding (PE) nor a causal mask "
    "predicts what it did before. Yet decoders without PE learn tasks in which order is everything."
)

MAX_LEAD_SENTENCES = 7
"""Largest number of `lead` sentences on the first screen, shared by the tasks; the others stay in their sections."""


@dataclass(frozen=True)
class PlacedSection:
    """A section of the report with its content and its place on the page."""

    name: str
    template: str
    chapter: Chapter
    title: str
    dataset: str
    """Name of the task that the section reports; empty for the comparison of all tasks."""
    content: SectionContent

    def render_sentence(self, claim: Claim) -> str:
        """Return a claim of the section as a sentence, by the section's template."""
        return sentences.render_sentence(self.template, claim)

    def render_section(self, title_suffix: str, main_figure: Figure) -> Section:
        """Return the section with its claims in words; `title_suffix` is added to the title.

        Claims with a role other than `lead` are left out, as they stand on the first screen, and so is `main_figure`.
        """
        figures = [figure for figure in self.content.figures if figure is not main_figure]
        paragraphs = sentences.render_explanation(self.template, dict(self.content.words))
        paragraphs += [self.render_sentence(claim) for claim in self.content.claims if claim.role in ("", "lead")]
        return Section(self.title + title_suffix, paragraphs, figures, self.content.tables)


def build_task_sections(
    results: TaskResults,
    measurements: Mapping[str, Measurement],
    *,
    figure_prefix: str = "",
    chapters: Collection[Chapter] = tuple(CHAPTERS),
) -> Iterator[PlacedSection]:
    """Yield the sections of one task in the given chapters, in the order of the page.

    `figure_prefix` is put before the names of the figures.
    """
    specs = [spec for spec in registered_sections() if results.task.score in spec.scores]
    covered = {name for spec in specs for name in spec.measurements}
    uncovered = [measurement for name, measurement in measurements.items() if name not in covered]
    for chapter in chapters:
        for spec in specs:
            if spec.chapter == chapter and (content := spec.build_content(results)):
                template = f"experiment/sections/{spec.name}.md"
                content = _prefix_figure_names(content, figure_prefix)
                yield PlacedSection(spec.name, template, chapter, spec.title, results.dataset, content)
        if chapter != "mechanism":
            continue
        for measurement in uncovered:
            if content := measured.build_generic_section(measurement, results):
                template, title = "experiment/measured.md", measurement.title
                content = _prefix_figure_names(content, figure_prefix)
                yield PlacedSection(measurement.name, template, chapter, title, results.dataset, content)


def _prefix_figure_names(content: SectionContent, prefix: str) -> SectionContent:
    return replace(content, figures=[replace(figure, name=prefix + figure.name) for figure in content.figures])


def collect_sections(
    results: Sequence[TaskResults], registered_measurements: Mapping[str, Measurement]
) -> list[PlacedSection]:
    """Return the sections of all tasks, task by task.

    With several tasks, the names of figures begin with the task. With more than `MAX_TASKS_IN_FULL`, a comparison of
    the tasks comes first, and each task keeps only its section of results, as a detail.
    """
    has_many_tasks = across.should_compare_tasks(results)
    sections = [
        section
        for task_results in results
        for section in build_task_sections(
            task_results,
            registered_measurements,
            figure_prefix=f"{task_results.dataset}-" if len(results) > 1 else "",
            chapters=("results",) if has_many_tasks else tuple(CHAPTERS),
        )
    ]
    if not has_many_tasks:
        return sections
    title, content = "Every task beside its order-free control", across.build_task_comparison(results)
    comparison = PlacedSection("across", "experiment/across.md", "results", title, "", content)
    return [comparison, *(replace(section, chapter="details") for section in sections)]


def collect_claims(sections: Sequence[PlacedSection]) -> list[Record]:
    """Return the entries of `claims.json`: every number in the sentences of the sections."""
    return [
        record
        for section in sections
        for claim in section.content.claims
        for record in claim_records(section.name, section.dataset, claim)
    ]


def draw_images(sections: Sequence[PlacedSection]) -> dict[str, bytes]:
    """Draw the figures of all sections: name of the figure -> PNG."""
    return {figure.name: draw_png(figure.draw) for section in sections for figure in section.content.figures}


def build_page(sections: Sequence[PlacedSection]) -> Page:
    """Arrange the sections on a page: first screen (alarms, main figure, leads, verdicts), results, and appendix."""
    tasks = list(dict.fromkeys(section.dataset for section in sections))
    is_comparison = "" in tasks
    has_several = len(tasks) > 1

    def title_suffix(section: PlacedSection) -> str:
        return f" ({section.dataset})" if has_several and section.dataset else ""

    def sentences_with(role: ClaimRole, limit: int | None = None, *, task_names: Sequence[str] = tasks) -> list[str]:
        """Return the sentences with a role, at most `limit` for each task; each begins with the name of the task."""
        result = []
        for task in task_names:
            prefix = f"**{task}**: " if has_several and task else ""
            texts = [
                section.render_sentence(claim)
                for section in sections
                for claim in section.content.claims
                if section.dataset == task and claim.role == role
            ]
            result += [prefix + text for text in texts[:limit]]
        return result

    main_figure = next(figure for section in sections for figure in section.content.figures)
    rendered = [(section.chapter, section.render_section(title_suffix(section), main_figure)) for section in sections]
    chapters = {
        title: [section for section_chapter, section in rendered if section_chapter == chapter and section.has_content]
        for chapter, title in CHAPTERS.items()
    }
    results = chapters.pop(CHAPTERS["results"])
    closing = Section("Where the numbers come from", sentences.render_paragraphs("experiment/provenance.md"))
    leading_tasks = [""] if is_comparison else tasks
    return Page(
        title=PAGE_TITLE,
        opening_paragraphs=[OPENING_QUESTION, *sentences_with("opening", task_names=leading_tasks)],
        lead_sentences=sentences_with(
            "lead", max(1, MAX_LEAD_SENTENCES // len(leading_tasks)), task_names=leading_tasks
        ),
        figure=main_figure,
        sections=[*results, closing],
        alarms=sentences_with("alarm"),
        verdicts={title: sentences_with(role) for role, title in VERDICT_TITLES.items()},
        appendix={title: sections for title, sections in chapters.items() if sections},
    )
