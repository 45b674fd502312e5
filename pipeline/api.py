"""Python interface to trained models, which are loaded by name from any folder.

import pipeline
model = pipeline.load("nope-causal")
model.predict(["123+456="])

Wrong names and prompts, and files that are missing or altered, raise `pipeline.errors.UserError`.
"""

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray
from jaxtyping import Float, Int
from torch import Tensor

from pipeline import files, hooks
from pipeline.dataset import DONOR_COUNT, Examples, encode_table
from pipeline.errors import UserError
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.registry import MeasurementInput
from pipeline.params import Ablation
from pipeline.params.config import shorten_value, suggest_names
from pipeline.params.score import EXACT_MATCH
from pipeline.stages import MODELS
from pipeline.tasks.registry import parse_task
from pipeline.tasks.windows import WindowTask
from pipeline.training.artifact import CONFIG_FILE, Artifact
from pipeline.transformer.model import Transformer

PACKAGE_FOLDER = Path(__file__).parent
SHIPPED_MODELS_FOLDER = PACKAGE_FOLDER / "shipped"
"""Folder of the trained models that come with the project, so that they can be tried without training."""
MODEL_FOLDERS = (MODELS, PACKAGE_FOLDER.parent / MODELS, SHIPPED_MODELS_FOLDER)
"""Folders in which `load` looks for an ablation: of the current folder, of the project, of the shipped models."""
MAX_ENUMERATED_LENGTH = 7
"""Largest number of tokens of which all orders are tried, at most 7! = 5,040; of more tokens as many random orders."""
SAMPLE_SIZE = 20
"""Number of examples of each split that show which form the prompts of a task have."""


class Answer(NamedTuple):
    """Answer of a model to a prompt."""

    text: str
    probability: float
    """Probability that the model gives to the whole answer."""


@dataclass(frozen=True, repr=False)
class TrainedModel:
    """Trained model of one seed of an ablation, with methods that take prompts as text.

    The prompts of one call must have equal length, except for `predict`.
    """

    artifact: Artifact
    seed: int
    network: Transformer
    """Transformer with the trained weights, in evaluation mode, on the CPU, in float32."""

    def __repr__(self) -> str:
        model = self.ablation.model
        description = f"{model.layers} layers, positional {model.positional}, attention {model.attention}"
        return f"<TrainedModel {self.ablation.name}, seed {self.seed}, task {self.ablation.dataset}, {description}>"

    @property
    def ablation(self) -> Ablation:
        """Ablation with the settings of its training."""
        return self.artifact.ablation

    @property
    def vocabulary(self) -> list[str]:
        """Characters that the model knows; the index of a character is its token."""
        return self.artifact.vocabulary

    @property
    def input_length(self) -> int:
        """Number of tokens of the longest input."""
        return self.artifact.input_length

    def encode_prompts(self, prompts: Sequence[str]) -> Int[Tensor, "prompts length"]:
        """Encode prompts as tokens. Prompts are not longer than the inputs of the training, and all of one length."""
        if not _check_prompts(prompts):
            raise UserError("prompts: the list is empty")
        token_of = {character: token for token, character in enumerate(self.vocabulary)}
        for prompt in prompts:
            problem = ""
            if unknown := [character for character in prompt if character not in token_of]:
                known = "".join(self.vocabulary)
                problem = f"{self.ablation.name} does not know the character {unknown[0]!r} (allowed: {known!r})"
            elif not 0 < len(prompt) <= self.input_length:
                problem = f"must have 1 to {self.input_length} characters, not {len(prompt)}"
            elif len(prompt) != len(prompts[0]):
                problem = f"must be as long as the first, {shorten_value(prompts[0])}"
            if problem:
                raise UserError(f"prompt {shorten_value(prompt)}: {problem}")
        return torch.tensor([[token_of[character] for character in prompt] for prompt in prompts])

    @cached_property
    def example_prompt(self) -> str:
        """A prompt of the task, such as `123+456=`, if all prompts of a small sample have one form; otherwise ""."""
        task = self.ablation.task
        if isinstance(task, WindowTask):  # any text is a prompt
            return ""
        sizes = dict.fromkeys(("train_size", "validation_size", "test_size"), SAMPLE_SIZE)
        try:
            prompts = pd.concat(task.model_copy(update=sizes).draw_splits().values())["prompt"].tolist()
        except UserError:  # the task has too few examples
            return ""
        return str(prompts[0]) if len(set(map(prompt_form, prompts))) == 1 else ""

    def predict(self, prompts: Sequence[str]) -> list[Answer]:
        """Answer each prompt by greedy decoding; a prompt must leave room for its answer.

        A prompt of another form than the task's prompts gets an answer and a warning.
        """
        answers = self._answer(prompts)
        for prompt in prompts:
            if self.example_prompt and prompt_form(prompt) != prompt_form(self.example_prompt):
                problem = f"the prompts of {self.ablation.dataset} have another form, such as {self.example_prompt}"
                warnings.warn(f"prompt {shorten_value(prompt)}: {problem}", stacklevel=2)
        return answers

    def _answer(self, prompts: Sequence[str]) -> list[Answer]:
        """Answer prompts of any form."""
        by_length: dict[int, list[str]] = {}
        for prompt in _check_prompts(prompts):
            by_length.setdefault(len(prompt), []).append(prompt)
        answers = {length: iter(self._decode_greedily(same)) for length, same in by_length.items()}
        return [next(answers[len(prompt)]) for prompt in prompts]

    @torch.no_grad()
    def _decode_greedily(self, prompts: Sequence[str]) -> list[Answer]:
        """Answer prompts of equal length."""
        tokens, task = self.encode_prompts(prompts), self.ablation.task
        longest, room = len(task.answer_position_names), 1 + self.input_length - tokens.shape[1]
        if room < longest and not task.end_token:  # an answer without an end token has a fixed length
            prompt = shorten_value(prompts[0])
            raise UserError(f"prompt {prompt}: leaves room for {room} of an answer's {longest} characters")
        probabilities: list[Tensor] = []
        for _ in range(min(longest, room)):
            last = torch.full((len(tokens), 1), tokens.shape[1] - 1)
            probability, token = self.network(tokens, last)[:, 0].softmax(-1).max(-1)
            tokens, probabilities = torch.cat((tokens, token[:, None]), dim=1), [*probabilities, probability]
        answers = []
        for answer, per_token in zip(tokens[:, len(prompts[0]) :], torch.stack(probabilities, dim=1), strict=True):
            text = "".join(self.vocabulary[token] for token in answer)
            text, end, _ = text.partition(task.end_token) if task.end_token else (text, "", "")
            answers.append(Answer(text, per_token[: len(text) + len(end)].prod().item()))
        return answers

    def predict_all_orders(self, prompt: str) -> pd.DataFrame:
        """Answer a prompt with its tokens in every order; the last token stays in place (see `list_orders`).

        Returns:
            One row per answer, the most frequent first: `answer`, `orders` (number of orders with that answer),
            `example` (the first of these orders).
        """
        _check_is_text(prompt)
        prompts = list_orders(prompt)
        table = pd.DataFrame({"answer": [answer.text for answer in self._answer(prompts)], "example": prompts})
        counts = table.groupby("answer", sort=False)["example"].agg(orders="size", example="first").reset_index()
        return counts.sort_values("orders", ascending=False, kind="stable", ignore_index=True)

    def logits(self, prompts: Sequence[str]) -> xarray.DataArray:
        """Compute the logits of the token after each prompt. Axes: `prompt, token`."""
        logits, _ = self.run_with_cache(prompts)
        return _label_axes(logits, prompt=list(prompts), token=self.vocabulary)

    def residual_stream(self, prompts: Sequence[str]) -> xarray.DataArray:
        """Compute the residual stream at each depth (0: the embeddings). Axes: `depth, prompt, position, unit`."""
        _, cache = self.run_with_cache(prompts)
        after_layers = [cache[f"blocks.{layer}.hook_resid_post"] for layer in range(self.ablation.model.layers)]
        states = torch.stack([cache["blocks.0.hook_resid_pre"], *after_layers])
        return _label_axes(states, depth=None, prompt=list(prompts), position=None, unit=None)

    def attention(self, prompts: Sequence[str]) -> xarray.DataArray:
        """Compute the attention weights of each layer. Axes: `layer, prompt, head, query, key`."""
        _, cache = self.run_with_cache(prompts)
        patterns = [cache[f"blocks.{layer}.attn.hook_pattern"] for layer in range(self.ablation.model.layers)]
        return _label_axes(torch.stack(patterns), layer=None, prompt=list(prompts), head=None, query=None, key=None)

    def run_with_cache(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "prompts vocabulary"], dict[str, Tensor]]:
        """Compute the logits after each prompt, and all activations, named as in TransformerLens (see `hooks`)."""
        return hooks.run_with_cache(self.network, self.encode_prompts(prompts))

    def run_with_hooks(
        self, prompts: Sequence[str], functions: Mapping[str, hooks.HookFunction]
    ) -> Float[Tensor, "prompts vocabulary"]:
        """Compute the logits after each prompt, where functions replace activations, given by name (see `hooks`)."""
        return hooks.run_with_hooks(self.network, self.encode_prompts(prompts), functions)

    def measure(self, measurement_name: str) -> pd.DataFrame:
        """Apply one of the report's measurements to the model and return the table, without the columns of the run."""
        if measurement_name not in measurements():
            hint = suggest_names(measurement_name, measurements())
            raise UserError(f"measurement {shorten_value(measurement_name)}: there is none{hint}")
        measurement = measurements()[measurement_name]
        if measurement.needs_answers and self.ablation.task.score != EXACT_MATCH:
            dataset = self.ablation.dataset
            raise UserError(f"measurement {measurement_name!r}: needs answers, and the task {dataset} has none")
        validation, model = _redraw_split("validation", self.artifact), deepcopy(self.network).double()
        return measurement(MeasurementInput(model, self.ablation, validation))


def prompt_form(prompt: str) -> str:
    """Return a prompt with all digits equal and all letters equal."""
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "0", prompt))


def _check_prompts(prompts: Sequence[str]) -> Sequence[str]:
    """Return the prompts if they are a list of texts; of a single text, the characters would become prompts."""
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        example = shorten_value(prompts if isinstance(prompts, str) else "123+456=")
        raise UserError(f"prompts: must be a list of texts such as [{example}], not {shorten_value(prompts)}")
    for prompt in prompts:
        _check_is_text(prompt)
    return prompts


def _check_is_text(prompt: object) -> None:
    if not isinstance(prompt, str):
        raise UserError(f"prompt {shorten_value(prompt)}: must be a text")


def _redraw_split(split: str, artifact: Artifact) -> Examples:
    """Draw again one split of the dataset that an artifact was trained on."""
    task = artifact.ablation.task
    table = task.draw_splits()[split]
    if files.compute_digest(files.format_csv(table)) != artifact.dataset_digests[f"{split}.csv"]:
        raise UserError(f"{split}.csv of {task.name}: drawn again, it differs; its source changed after the training")
    return encode_table(table, artifact.vocabulary, task.end_token, length=artifact.input_length + 1)


def list_orders(prompt: str) -> list[str]:
    """Return a prompt, then the same tokens in other orders; the last token stays in place.

    Of more than `MAX_ENUMERATED_LENGTH` tokens, the orders are a fixed random choice.
    """
    earlier, last = prompt[:-1], prompt[-1:]
    if len(earlier) <= MAX_ENUMERATED_LENGTH:
        others = sorted({"".join(order) for order in permutations(earlier)})
    else:
        generator, count = np.random.default_rng(0), math.factorial(MAX_ENUMERATED_LENGTH)
        others = ["".join(generator.permutation(list(earlier))) for _ in range(count - 1)]
    return list(dict.fromkeys([prompt, *(other + last for other in others)]))


def _label_axes(tensor: Tensor, **labels_by_axis: Sequence[str] | None) -> xarray.DataArray:
    """Convert a tensor to an array with named axes and labelled entries; label None numbers the entries."""
    axes = zip(labels_by_axis.items(), tensor.shape, strict=True)
    coordinates = [(axis, range(size) if names is None else names) for (axis, names), size in axes]
    return xarray.DataArray(tensor.numpy(), coordinates)


def load(name_or_folder: str | Path, *, seed: int | None = None, step: int | None = None) -> TrainedModel:
    """Load a trained model.

    Args:
        name_or_folder: the name of an ablation, which is looked for in `MODEL_FOLDERS`, or the folder of an artifact.
        seed: the seed of the model (default: the first).
        step: the training step of a snapshot (default: the trained model).
    """
    folders = [parent / name_or_folder for parent in (Path(), *MODEL_FOLDERS)]
    folder = next((folder for folder in folders if (folder / CONFIG_FILE).exists()), None)
    if folder is None:
        hint = suggest_names(Path(name_or_folder).name, trained_ablations())
        raise UserError(f"ablation {shorten_value(str(name_or_folder))}: there is no trained one{hint}")
    shipped = folder.parent == SHIPPED_MODELS_FOLDER
    artifact = Artifact.read(folder, parse_task, creating_command=f"git checkout {folder}" if shipped else "")
    seeds = list(artifact.weights)
    if seed is None and seeds:
        seed = seeds[0]
    if seed not in seeds:
        raise UserError(f"{folder}: has no seed {seed} (allowed: {', '.join(map(str, seeds)) or 'none'})")
    steps = [snapshot_step for snapshot_seed, snapshot_step in artifact.snapshots if snapshot_seed == seed]
    if step is not None and step not in steps:
        allowed = ", ".join(map(str, sorted(steps))) or "none"
        raise UserError(f"{folder}: has no snapshot of step {step} (allowed: {allowed})")
    inputs: dict[str, Any] = {"vocabulary": len(artifact.vocabulary), "length": artifact.input_length}
    if artifact.ablation.model.uses_donors:
        inputs["donors"] = _redraw_split("train", artifact).tokens[:DONOR_COUNT]
    return TrainedModel(artifact, seed, artifact.load_model(seed, inputs, step))


def trained_ablations() -> list[str]:
    """Return the names of all trained ablations: of the current folder, of the project, and of the shipped models."""
    return sorted({path.parent.name for folder in MODEL_FOLDERS for path in folder.glob(f"*/{CONFIG_FILE}")})


def add_shipped_model(name_or_folder: str | Path, *, seed: int | None = None) -> Path:
    """Copy a trained model and its snapshots to the models that come with the project, and return the new folder."""
    model = load(name_or_folder, seed=seed)
    folder, artifact = SHIPPED_MODELS_FOLDER / model.ablation.name, model.artifact
    weights = {model.seed: artifact.weights[model.seed]}
    snapshots = {key: weights for key, weights in artifact.snapshots.items() if key[0] == model.seed}
    replace(artifact, history=artifact.history.iloc[:0], weights=weights, snapshots=snapshots).write(folder)
    return folder


@dataclass(frozen=True)
class _PyfuncModel:
    """Trained model with the method `predict(prompts, params)` that MLflow calls."""

    model: TrainedModel

    def predict(self, prompts: Iterable[str], params: dict[str, Any] | None = None) -> list[str]:
        """Return the model's answers to `prompts`: a list of texts, or a table with one column."""
        return [answer.text for answer in self.model.predict([*np.asarray(prompts, dtype=str).ravel()])]


def _load_pyfunc(folder: str) -> _PyfuncModel:
    """Load the first seed of an ablation for MLflow, whose models name this module as their loader."""
    return _PyfuncModel(load(folder))
