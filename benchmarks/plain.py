"""A plain decoder and training step in the manner of nanoGPT (A. Karpathy, MIT licence), to compare speed with.

It trains one run, computes every layer at every position, and uses torch's own fused attention.
"""

from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.dataset import Examples
from pipeline.params import Ablation, Model
from pipeline.training.optimizers import ADAMW_RATE_SHARE


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(batch, length, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x)))
        return x + self.dropout(self.mlp(self.ln_2(x)))


class GPT(nn.Module):
    def __init__(self, vocabulary: int, length: int, config: Model) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, config.width), nn.Embedding(length, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config.width, config.heads, config.dropout) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.dropout(self.wte(tokens) + self.wpe.weight[: tokens.shape[1]])
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


class PlainTraining(NamedTuple):
    """A model and its optimizers: torch's Muon for hidden matrices if the ablation uses Muon, AdamW for the rest."""

    model: GPT
    optimizers: list[torch.optim.Optimizer]

    @classmethod
    def create(cls, ablation: Ablation, vocabulary: int, length: int, device: str = "cpu") -> "PlainTraining":
        """The model of an ablation with fresh weights. `vocabulary` and `length` are numbers of tokens."""
        training = ablation.training
        model, uses_muon = GPT(vocabulary, length, ablation.model).to(device), training.optimizer == "muon"
        hidden = [weights for weights in model.h.parameters() if weights.ndim == 2 and uses_muon]
        identities = {id(weights) for weights in hidden}
        rest = [weights for weights in model.parameters() if id(weights) not in identities]
        adamw = torch.optim.AdamW(
            rest,
            lr=(ADAMW_RATE_SHARE if uses_muon else 1.0) * training.learning_rate,
            betas=training.betas,
            weight_decay=training.weight_decay,
            fused=True,
        )
        if not uses_muon:
            return cls(model, [adamw])
        return cls(model, [torch.optim.Muon(hidden, lr=training.learning_rate, weight_decay=0.1), adamw])

    def step(self, batch: Examples, clip: float, precision: AbstractContextManager[object]) -> None:
        """One training step, in `precision`, with gradients clipped to the norm `clip`."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        with precision:
            logits = self.model(batch.tokens).gather(
                1, batch.positions[..., None].expand(-1, -1, self.model.wte.num_embeddings)
            )
            loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        for optimizer in self.optimizers:
            optimizer.step()
