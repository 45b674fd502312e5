"""Build the page: trained networks, the JavaScript that runs them, and links to the report, in one HTML file."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from pipeline.measurement.catalogue import measurements
from pipeline.reporting.page import heading_anchor
from pipeline.switches import attention_in_words, missing_residuals_in_words, positional_encoding_in_words
from pipeline.training.artifact import Artifact

FOLDER = Path(__file__).parent
TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
SCRIPTS = ("network.js", "state.js", "tokens.js", "panels.js", "page.js")
"""Files of the page's JavaScript, in the order in which they run."""
TRAINED_BYTES, SNAPSHOT_BYTES = 3, 2
"""Bytes kept of each float32. Snapshots are bfloat16, so two are exact. Trained weights in float16 would change one
answer in 250 of a network that is unsure."""
LESSON_NETWORKS = {"nope-full", "nope-causal"}
"""Ablations that the lesson is about; a page without them has no lesson."""


def build_page(artifacts: Sequence[Artifact], example: str) -> str:
    """Return the page as HTML; the same arguments give the same text. It shows the first seed of each ablation.

    Args:
        artifacts: ablations that were trained on one task.
        example: a prompt of the form that prompts of the task have; empty if any text is a prompt.
    """
    task = artifacts[0].ablation.task
    content = {
        "task": task.model_dump(mode="json"),
        "vocabulary": list(artifacts[0].vocabulary),
        "inputLength": artifacts[0].input_length,
        "example": example,
        "answerLength": len(task.answer_position_names),
        "endToken": task.end_token,
        "networks": [_network_content(artifact) for artifact in artifacts],
    }
    return TEMPLATES.get_template("page.html").render(
        content=content,
        description=task.description.replace("`", ""),
        has_lesson={artifact.ablation.name for artifact in artifacts} >= LESSON_NETWORKS,
        measured=link_to_report,
        style=(FOLDER / "style.css").read_text(),
        scripts=[(FOLDER / name).read_text() for name in SCRIPTS],
    )


def link_to_report(measurement_name: str) -> Markup:
    """Return a link to the section of the report, in the same folder, that has a measurement."""
    title = measurements()[measurement_name].title
    return Markup('<a href="index.html#{}">Report: {}</a>').format(heading_anchor(title), title)


def _network_content(artifact: Artifact) -> dict[str, Any]:
    """Return what network.js needs of the network of the first seed, as plain values."""
    model = artifact.ablation.model
    seed, trained = next(iter(artifact.weights.items()))
    snapshots = {step: weights for (owner, step), weights in artifact.snapshots.items() if owner == seed}
    encoding = positional_encoding_in_words(model.positional).replace("PE", "positional encoding")
    mask = {"causal": "causal mask", "full": "no mask"}.get(
        words := attention_in_words(model.attention), f"masks {words}"
    )
    parts = (encoding, mask, missing_residuals_in_words(model.residual_free))
    moments = [(f"step {step}", weights, SNAPSHOT_BYTES) for step, weights in sorted(snapshots.items())]
    return {
        "name": artifact.ablation.name,
        "description": ", ".join(filter(None, parts)),
        "model": model.model_dump(mode="json"),
        "parameters": [(name, list(tensor.shape)) for name, tensor in sorted(trained.items())],
        "moments": [
            {"label": label, "bytes": kept, "numbers": base64.b64encode(_leading_bytes(weights, kept)).decode()}
            for label, weights, kept in [*moments, ("trained", trained, TRAINED_BYTES)]
        ],
    }


def _leading_bytes(weights: Mapping[str, Tensor], kept: int) -> bytes:
    """Return all weights, sorted by name, as the `kept` most significant bytes of float32, rounded, little-endian."""
    numbers = np.concatenate([tensor.float().numpy().ravel() for _, tensor in sorted(weights.items())])
    dropped_bits = 8 * (4 - kept)
    rounded = (numbers.view(np.uint32) + np.uint32(1 << (dropped_bits - 1))).astype("<u4")
    return rounded.view(np.uint8).reshape(-1, 4)[:, 4 - kept :].tobytes()
