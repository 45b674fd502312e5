"""Checkpoints, from which a killed training resumes; its results have the same bits as without the interruption.

They lie outside the outputs of DVC, because DVC deletes outputs before it runs a stage. A folder holds the checkpoints
of one ablation, dataset and version of the code, so that nothing else resumes from them. Reading a checkpoint executes
no code (`weights_only`). Altered and incomplete checkpoints are ignored.

Lightning's `ModelCheckpoint` does not serve: it saves at fixed intervals instead of a share of the time, also between a
step and its evaluation, which is then lost on resuming, and it stops training when the disk is full.
"""

import io
import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO

from pipeline import files
from pipeline.params import Ablation

MAX_TIME_SHARE = 0.02
"""Largest share of the training time that may be spent on writing checkpoints."""
KEPT_CHECKPOINT_COUNT = 2
"""Number of checkpoints that stay on disk: if the newest is damaged, training resumes from the one before."""
TRAINING_CODE = ("training/*.py", "transformer/*.py", "params/*.py", "tasks/*.py", "dataset.py", "environment.py")
"""Patterns of the code files, relative to `pipeline/`, on which the result of a training depends."""


def compute_training_digest(ablation: Ablation, dataset_digests: Mapping[str, str]) -> str:
    """Compute a digest of all that the result of a training depends on: ablation, dataset, code, version of torch."""
    package = Path(__file__).parents[1]
    paths = [path for pattern in TRAINING_CODE for path in sorted(package.glob(pattern))]
    code = [files.compute_digest(path.read_bytes()) for path in paths]
    inputs = [ablation.model_dump(mode="json"), dict(dataset_digests), code, torch.__version__]
    return files.compute_digest_of_values(inputs)[:16]


class Checkpoints(Callback):
    """Callback that writes the checkpoints of one training, to a folder inside `folder`.

    As a context manager, it deletes the checkpoints when the block ends without an error.

    Only one process at a time writes the checkpoints of a training. A second process trains without checkpoints, and so
    does a process that cannot write to the disk.
    """

    def __init__(self, folder: Path, ablation: Ablation, dataset_digests: Mapping[str, str]) -> None:
        name = compute_training_digest(ablation, dataset_digests)
        self.folder = folder / name
        self.lock = FileLock(folder / f"{name}.lock")
        self.next_checkpoint_time = math.inf
        """Time of `time.monotonic` in seconds at which the next checkpoint may be written; infinite for never."""

    def __enter__(self) -> "Checkpoints":
        try:
            self.lock.acquire(blocking=False)
            self.next_checkpoint_time = time.monotonic()
        except Timeout:
            pass  # another process runs the same training
        except OSError as error:
            self._stop_writing(error)
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if self.lock.is_locked:
            if error_type is None:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.lock.release()

    @property
    def newest_checkpoint(self) -> Path | None:
        """File of the newest undamaged checkpoint; None without one, or if another process trains the same."""
        if not self.lock.is_locked:
            return None
        return next(filter(_has_correct_digest, reversed(self._list_checkpoints())), None)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Write a checkpoint if enough time has passed, unless an evaluation or a snapshot follows this step."""
        population: Any = module
        step, started = trainer.global_step, time.monotonic()
        followed = step % population.ablation.training.evaluate_every == 0 or step in population.snapshot_steps
        if started < self.next_checkpoint_time or followed:
            return
        try:
            trainer.save_checkpoint(self.folder / f"step-{step:09d}.ckpt")
            for old in self._list_checkpoints()[:-KEPT_CHECKPOINT_COUNT]:
                _digest_path(old).unlink(missing_ok=True)
                old.unlink(missing_ok=True)
        except OSError as error:
            self._stop_writing(error)
        else:
            ended = time.monotonic()
            self.next_checkpoint_time = ended + (ended - started) / MAX_TIME_SHARE

    def _list_checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.ckpt"))

    def _stop_writing(self, error: OSError) -> None:
        self.next_checkpoint_time = math.inf
        message = f"no checkpoint can be kept in {self.folder.parent} ({error.strerror}); training goes on"
        print(f"warning: {message}", file=sys.stderr)


def _digest_path(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".sha256")


def _has_correct_digest(checkpoint: Path) -> bool:
    try:
        return _digest_path(checkpoint).read_text() == files.compute_digest(checkpoint.read_bytes())
    except OSError:
        return False


class AtomicCheckpointIO(TorchCheckpointIO):
    """Plug-in that writes each checkpoint of Lightning completely or not at all, and then a file with its digest.

    Lightning's own writer replaces a good checkpoint by a truncated one when the disk is full.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        files.write_bytes(Path(path), buffer.getvalue())
        files.write_text(_digest_path(Path(path)), files.compute_digest(buffer.getvalue()))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = None) -> Any:
        """Load a checkpoint, whose digest `newest_checkpoint` has verified."""
        return torch.load(path, weights_only=True)
