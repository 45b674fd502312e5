"""A training that was killed goes on from its last checkpoint, and ends as if nothing had happened.

Checkpoints lie outside of what DVC makes, because DVC removes that before it runs a stage. A folder holds those of one
training: of this ablation, this dataset and this code; what is another training has another folder. Nothing in them is
executed (`weights_only`), and what is altered or half-written is not used.
"""

import io
import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import CheckpointIO

from pipeline import files
from pipeline.params import Ablation

SHARE = 0.02
"""Of the time of a training that its checkpoints may take."""
KEPT = 2
CODE = Path(__file__).parents[1]
RUN = ("training", "transformer", "dataset", "params", "tasks")
"""The folders of code that decide what a training gives."""


def training_digest(ablation: Ablation, digests: Mapping[str, str]) -> str:
    """What a checkpoint must be of to be gone on from: the ablation, the dataset's files, the code, and torch."""
    code = [files.digest(path.read_bytes()) for part in RUN for path in sorted((CODE / part).rglob("*.py"))]
    said = [ablation.model_dump(mode="json"), dict(digests), code, torch.__version__]
    return files.digest(json.dumps(said, sort_keys=True).encode())[:16]


class Checkpoints:
    """The checkpoints of one training, for the one process that holds their folder. Use as a context, until what was
    trained is safe: what is left is removed when it ends well.

    Args:
        folder: of the ablation.
        ablation, digests: what is trained, and on what.
    """

    def __init__(self, folder: Path, ablation: Ablation, digests: Mapping[str, str]) -> None:
        name = training_digest(ablation, digests)
        self.ablation, self.folder = folder, folder / name
        self.lock = FileLock(folder / f"{name}.lock")
        self.mine = False

    def __enter__(self) -> "Checkpoints":
        try:
            self.ablation.mkdir(parents=True, exist_ok=True)
            self.lock.acquire(blocking=False)
            self.mine = True
        except Timeout:  # another process trains the same
            self.mine = False
        except OSError as error:
            _warn(self.ablation, error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.mine:
            if kind is None:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.lock.release()

    @property
    def last(self) -> Path | None:
        """The newest that is whole."""
        return next(filter(_is_whole, reversed(self._all())), None) if self.mine else None

    def path(self, step: int) -> Path:
        """Of the checkpoint after that many steps."""
        return self.folder / f"step-{step:09d}.ckpt"

    def remove_old(self) -> None:
        """All but the newest."""
        for path in self._all()[:-KEPT]:
            for one in (_digest(path), path):
                one.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.ckpt"))


def _warn(folder: Path, error: OSError) -> None:
    print(f"warning: no checkpoint can be kept in {folder} ({error.strerror}); training goes on", file=sys.stderr)


def _digest(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    try:
        return _digest(path).read_text() == files.digest(path.read_bytes())
    except OSError:
        return False


class DurableIO(CheckpointIO):
    """Lightning's checkpoints as files that are there whole or not at all, each with its digest beside it, written
    last. (Lightning's own writer leaves a truncated file over a good one when the disk is full.)"""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        files.write_bytes(Path(path), buffer.getvalue())
        files.write_text(_digest(Path(path)), files.digest(buffer.getvalue()))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        content = io.BytesIO(files.read_verified(Path(path), _digest(Path(path)).read_text(), made_by="train"))
        loaded: dict[str, Any] = torch.load(content, map_location=map_location, weights_only=True)
        return loaded

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class KeepCheckpoints(Callback):
    """Writes one as often as its time allows, after a step that nothing follows: no evaluation, and no snapshot. A disk
    that is full costs a line, and no training."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.next_at = time.monotonic()
        self.failed = not checkpoints.mine

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        population: Any = module
        step, begun = trainer.global_step, time.monotonic()
        followed = step % population.ablation.training.evaluate_every == 0 or step in population.snapshot_steps
        if self.failed or begun < self.next_at or followed:
            return
        try:
            trainer.save_checkpoint(self.checkpoints.path(step))
            self.checkpoints.remove_old()
        except OSError as error:
            self.failed = True
            _warn(self.checkpoints.folder, error)
        ended = time.monotonic()
        self.next_at = ended + (ended - begun) / SHARE
