"""Whole experiments, to be put in place of `params.yaml`."""

from pathlib import Path

PRESETS = {path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("*.yaml"))}
"""Name -> the file's content."""
