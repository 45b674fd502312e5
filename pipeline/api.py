"""A trained model in a person's hands: found by its name, asked in text, from any folder, without dataset or settings.

import pipeline
model = pipeline.load("nope-causal")
model.predict(["123+456="])
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import groupby, permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray
from jaxtyping import Float, Int
from torch import Tensor

from pipeline import files
from pipeline.dataset import DONOR_EXAMPLES, Examples, encode
from pipeline.errors import UserError
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.common.activation_cache import run_with_cache
from pipeline.measurement.registry import MeasurementInput, draw_random_tokens
from pipeline.params import Ablation
from pipeline.params.config import shorten, suggest
from pipeline.params.score import EXACT_MATCH
from pipeline.stages import MODELS
from pipeline.stages.analyze import RANDOM_ROWS
from pipeline.tasks.registry import parse_task
from pipeline.training.artifact import CONFIG, Artifact
from pipeline.transformer.model import Transformer

HERE = Path(__file__).parent
SHIPPED = HERE / "shipped"
"""A trained member each of the ablations that tell the story, so that they can be tried before anything is trained."""
HOMES = (MODELS, HERE.parent / MODELS, SHIPPED)
"""Where an ablation is looked for by its name: here, in the project, in what comes with it."""
ENUMERATED, MOST_ORDERS = 7, 5040
"""Up to so many tokens all orders are tried: 7! of them."""


class Answer(NamedTuple):
    """What a model says."""

    text: str
    probability: float
    """Which the model gives to all of it."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained member, and what its tokens mean. Prompts are text; those of one call must be alike long, but for
    `predict`."""

    artifact: Artifact
    seed: int
    module: Transformer
    """In evaluation mode, on the CPU, float32."""

    @property
    def ablation(self) -> Ablation:
        """The ablation as it was trained."""
        return self.artifact.ablation

    @property
    def vocabulary(self) -> list[str]:
        """The character of each token."""
        return self.artifact.vocabulary

    @property
    def length(self) -> int:
        """Longest input, in tokens."""
        return self.artifact.length

    def tokens(self, prompts: Sequence[str]) -> Int[Tensor, "prompts length"]:
        """The prompts as the model reads them.

        Raises:
            UserError: the list is empty or a single text; a prompt is empty, has an unknown character, is longer than
                the training inputs, or differs in length from the first.
        """
        if not _listed(prompts):
            raise UserError("prompts: the list is empty")
        for prompt in prompts:
            if strange := [character for character in prompt if character not in self.vocabulary]:
                raise UserError(
                    f"prompt {shorten(prompt)}: {self.ablation.name} does not know the character {strange[0]!r} "
                    f"(allowed: {''.join(self.vocabulary)!r})"
                )
            if not 0 < len(prompt) <= self.length:
                raise UserError(f"prompt {shorten(prompt)}: must have 1 to {self.length} characters, not {len(prompt)}")
            if len(prompt) != len(prompts[0]):
                raise UserError(f"prompt {shorten(prompt)}: must be as long as the first, {shorten(prompts[0])}")
        token_of = {character: token for token, character in enumerate(self.vocabulary)}
        return torch.tensor([[token_of[character] for character in prompt] for prompt in prompts])

    def predict(self, prompts: Sequence[str]) -> list[Answer]:
        """The answers by greedy decoding, each with its probability.

        Raises:
            UserError: as `tokens` (but for prompts that are not alike long), or a prompt leaves no room for an answer.
        """
        answers: dict[int, Answer] = {}
        of_length = sorted(range(len(_listed(prompts))), key=lambda place: len(prompts[place]))
        for _, group in groupby(of_length, key=lambda place: len(prompts[place])):
            places = list(group)
            answers |= zip(places, self._said([prompts[place] for place in places]), strict=True)
        return [answers[place] for place in range(len(prompts))]

    @torch.no_grad()
    def _said(self, prompts: Sequence[str]) -> Iterator[Answer]:
        tokens, longest = self.tokens(prompts), len(self.ablation.task.answer_positions)
        shares: list[Tensor] = []
        room = 1 + self.length - tokens.shape[1]
        if room < longest and not self.ablation.task.end:  # where answers have an end, a shorter one is one
            raise UserError(f"prompt {shorten(prompts[0])}: leaves room for {room} of an answer's {longest} characters")
        for _ in range(min(longest, room)):
            at = torch.full((len(tokens), 1), tokens.shape[1] - 1)
            share, token = self.module(tokens, at)[:, 0].softmax(-1).max(-1)
            tokens, shares = torch.cat((tokens, token[:, None]), dim=1), [*shares, share]
        for said, probabilities in zip(tokens[:, len(prompts[0]) :], torch.stack(shares, dim=1), strict=True):
            text = "".join(self.vocabulary[token] for token in said)
            text, end, _ = text.partition(self.ablation.task.end) if self.ablation.task.end else (text, "", "")
            yield Answer(text, probabilities[: len(text) + len(end)].prod().item())

    def predict_all_orders(self, prompt: str) -> pd.DataFrame:
        """What it answers over the orders of the tokens before the prompt's last (`orders`): a row per answer, the
        commonest first: `answer, orders, example`."""
        asked = all_orders(prompt)
        table = pd.DataFrame({"answer": [answer.text for answer in self.predict(asked)], "example": asked})
        counted = table.groupby("answer", sort=False)["example"].agg(orders="size", example="first").reset_index()
        return counted.sort_values("orders", ascending=False, kind="stable", ignore_index=True)

    def logits(self, prompts: Sequence[str]) -> xarray.DataArray:
        """What the model makes of each next token: `prompt, token`."""
        logits, _ = run_with_cache(self.module, self.tokens(prompts))
        return _named(logits, prompt=list(prompts), token=self.vocabulary)

    def residual_stream(self, prompts: Sequence[str]) -> xarray.DataArray:
        """The states at each depth (0: the embeddings): `depth, prompt, position, unit`."""
        _, seen = run_with_cache(self.module, self.tokens(prompts))
        left = [seen[f"blocks.{layer}.hook_resid_post"] for layer in range(self.ablation.model.layers)]
        states = torch.stack([seen["blocks.0.hook_resid_pre"], *left])
        return _named(states, depth=None, prompt=list(prompts), position=None, unit=None)

    def attention(self, prompts: Sequence[str]) -> xarray.DataArray:
        """How much every position draws from every other: `layer, prompt, head, query, key`."""
        _, seen = run_with_cache(self.module, self.tokens(prompts))
        patterns = [seen[f"blocks.{layer}.attn.hook_pattern"] for layer in range(self.ablation.model.layers)]
        return _named(torch.stack(patterns), layer=None, prompt=list(prompts), head=None, query=None, key=None)

    def run_with_cache(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "prompts vocabulary"], dict[str, Tensor]]:
        """Logits, and all that passed on the way to them, under TransformerLens's names (`blocks.0.hook_resid_post`,
        `blocks.1.attn.hook_pattern`, ...)."""
        return run_with_cache(self.module, self.tokens(prompts))

    def measure(self, name: str) -> pd.DataFrame:
        """A measurement of the report, of this member: a row per place (depth, position, ...).

        Raises:
            UserError: there is no such measurement, it says nothing of this task, or the rows it is taken on are not to
                be had again.
        """
        if name not in measurements():
            raise UserError(f"measurement {shorten(name)}: there is none{suggest(name, measurements())}")
        asked = measurements()[name]
        if asked.counts_answers and self.ablation.task.score != EXACT_MATCH:
            raise UserError(f"measurement {name!r}: counts right answers, which {self.ablation.dataset} has none of")
        random = draw_random_tokens(RANDOM_ROWS, self.length, len(self.vocabulary))
        held_out = _draw_again("validation", self.artifact)
        return asked.function(MeasurementInput(deepcopy(self.module).double(), self.ablation, held_out, random))


def _listed(prompts: Sequence[str]) -> Sequence[str]:
    """The prompts, if they are no single text, whose characters would be taken for prompts."""
    if isinstance(prompts, str):
        raise UserError(f"prompts: a list of texts is meant, such as [{shorten(prompts)}], not the text itself")
    return prompts


def _draw_again(split: str, artifact: Artifact) -> Examples:
    """The examples of a split that the artifact was trained with, drawn again.

    Raises:
        UserError: that gives another one than the model was trained on.
    """
    task = artifact.ablation.task
    table = task.splits()[split]
    if files.digest(files.as_csv(table)) != artifact.dataset_digests[f"{split}.csv"]:
        raise UserError(
            f"{split}.csv of {task.name}: drawn again, it is not what the model was trained with; the file or "
            f"package that it is from has changed"
        )
    return encode(table, artifact.vocabulary, task.end, length=artifact.length + 1)


def all_orders(prompt: str) -> list[str]:
    """The prompt, and every other order of its tokens before the last; `MOST_ORDERS` drawn at random (always the same
    ones) where there are more."""
    earlier, last = prompt[:-1], prompt[-1:]
    if len(earlier) <= ENUMERATED:
        every = sorted({"".join(order) for order in permutations(earlier)} - {earlier})
        return [prompt, *(one + last for one in every)]
    drawn = np.random.default_rng(0)
    others = ("".join(drawn.permutation(list(earlier))) for _ in range(MOST_ORDERS - 1))
    return list(dict.fromkeys([prompt, *(other + last for other in others)]))


def _named(values: Tensor, **axes: Sequence[str] | None) -> xarray.DataArray:
    """With these axes; an axis of which the names are not given is numbered."""
    named = {
        axis: range(size) if names is None else list(names)
        for (axis, names), size in zip(axes.items(), values.shape, strict=True)
    }
    return xarray.DataArray(values.detach().numpy(), coords=named, dims=list(axes))


def load(where: str | Path, *, seed: int | None = None) -> TrainedModel:
    """A trained member: of the ablation of that name (in `models/` here, then in the project's, then what the project
    ships), or of the folder `where`. `seed`: which; without, the first.

    Raises:
        UserError: there is no such ablation or seed, or a file of it is missing or altered.
    """
    folder = _folder(Path(where))
    artifact = Artifact.read(folder, parse_task, made_by=_made_by(folder))
    seeds = list(artifact.weights)
    chosen = seeds[0] if seed is None and seeds else seed
    if chosen not in seeds:
        raise UserError(f"{folder}: has no seed {chosen} (there: {', '.join(map(str, seeds)) or 'none'})")
    inputs: dict[str, Any] = {"vocabulary": len(artifact.vocabulary), "length": artifact.length}
    if artifact.ablation.model.uses_donors:
        inputs["donors"] = _draw_again("train", artifact).tokens[:DONOR_EXAMPLES]
    return TrainedModel(artifact, chosen, artifact.model(chosen, inputs))


def trained_ablations() -> list[str]:
    """The names of all ablations that `load` finds from here."""
    return sorted({path.parent.name for home in HOMES for path in home.glob(f"*/{CONFIG}")})


def ship(where: str | Path, *, seed: int | None = None) -> Path:
    """Put a trained member among those that the project ships; its folder there."""
    model = load(where, seed=seed)
    shipped = SHIPPED / model.ablation.name
    weights = {model.seed: model.artifact.weights[model.seed]}
    replace(model.artifact, history=model.artifact.history.iloc[:0], weights=weights, snapshots={}).write(shipped)
    return shipped


def _folder(where: Path) -> Path:
    """The first folder of that name that holds a trained ablation."""
    named = where.parts == (where.name,)
    found = (folder for folder in (where, *(home / where for home in HOMES if named)) if (folder / CONFIG).exists())
    if folder := next(found, None):
        return folder
    raise UserError(
        f"ablation {shorten(str(where))}: nothing trained is there{suggest(where.name, trained_ablations())}"
    )


def _made_by(folder: Path) -> str:
    """The command that makes what is in an ablation's folder."""
    return f"git checkout {folder}" if folder.parent == SHIPPED else f"python -m pipeline train {folder.name}"
