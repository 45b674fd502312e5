"""Command `page`: trained ablations -> reports/play.html, a page that runs them in a browser."""

from collections.abc import Sequence
from pathlib import Path

from pipeline import files
from pipeline.api import SHIPPED_MODELS_FOLDER, TrainedModel, load, prompt_form
from pipeline.errors import UserError
from pipeline.page.build import build_page
from pipeline.stages import REPORTS

PAGE = REPORTS / "play.html"
MAX_BYTES = 4_000_000
UNSUPPORTED_SWITCHES = ("residual_substitute", "residual_fade_steps", "positional_until")
"""Switches of the model that the page cannot run unless they have their defaults."""
FAMILIAR_PROMPT = "123+456="
"""Prompt that the page shows first if it has the form of the task's prompts."""


def run(names: Sequence[str]) -> None:
    """Write the page of these ablations (default: those that come with the project, the one blind to order first).

    Raises:
        UserError: an ablation is not trained, cannot run on the page, or has another task; or the page is too large.
    """
    models = [load(name) for name in names] or shipped_models()
    content = render_page(models)
    if (size := len(content.encode())) > MAX_BYTES:
        given = ", ".join(model.ablation.name for model in models)
        raise UserError(f"ablations: the page of {given} has {size:,} bytes (allowed: {MAX_BYTES:,}); name fewer")
    files.write_text(PAGE, content)
    print(f"The page: {PAGE}")


def shipped_models() -> list[TrainedModel]:
    """Load the models that come with the project, those with fewer sources of order first."""
    models = [load(folder) for folder in sorted(filter(Path.is_dir, SHIPPED_MODELS_FOLDER.iterdir()))]
    return sorted(
        models,
        key=lambda model: (model.ablation.model.positional != "none", model.ablation.model.attention == "causal"),
    )


def render_page(models: Sequence[TrainedModel]) -> str:
    """Return the page of trained models as HTML; the models must have one task."""
    first = models[0]
    for model in models:
        ablation = model.ablation
        for switch in UNSUPPORTED_SWITCHES:
            value, default = getattr(ablation.model, switch), type(ablation.model).model_fields[switch].default
            if value != default:
                raise UserError(f"{ablation.name}: the page cannot run {switch} {value} (allowed: {default})")
        if ablation.task != first.ablation.task:
            tasks = f"{first.ablation.name} {first.ablation.dataset}, {ablation.name} {ablation.dataset}"
            raise UserError(f"ablations: a page has one task (given: {tasks})")
    has_familiar_form = prompt_form(FAMILIAR_PROMPT) == prompt_form(first.example_prompt)
    example = FAMILIAR_PROMPT if has_familiar_form else first.example_prompt
    return build_page([model.artifact for model in models], example)
