"""An ablation that does not fit into memory: the error says what to lower. A real limit and a real allocation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import dataset
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS

pytestmark = pytest.mark.faults
ABLATION = "learned-causal"
LIMIT = 4 << 30
"""Bytes of memory that the process may allocate; imports take half of them."""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's memory is Linux's")
def test_an_ablation_that_does_not_fit_is_refused_with_what_to_lower(tmp_path: Path, empty_store: Path) -> None:
    yaml = YAML()
    content = yaml.load(PRESETS / "smoke.yaml")
    content["model"] |= {"width": 4096, "heads": 2}
    shutil.copy(empty_store, tmp_path)
    yaml.dump(content, tmp_path / "params.yaml")
    dataset.write(tmp_path / "data" / "addition", read_params(tmp_path / "params.yaml").task("addition"))
    script = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_AS, ({0}, {0})); "
    script += "sys.argv = ['pipeline', 'train', '{1}']; runpy.run_module('pipeline', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script.format(LIMIT, ABLATION)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PRESETS.parent.parent)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: train {ABLATION}: too little memory (")
    assert "lower model.width, training.batch_size or the number of training.seeds" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()
