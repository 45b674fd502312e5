"""What only a cluster can do, and how it says that it cannot."""

import sys
from pathlib import Path

import pytest

from pipeline.engines import ENGINES, Command
from pipeline.errors import UserError

pytestmark = pytest.mark.faults


def python(code: str, *arguments: str) -> Command:
    return Command((sys.executable, "-c", code, *arguments))


@pytest.mark.timeout(300)
def test_commands_can_share_a_gpu(cluster: None, tmp_path: Path) -> None:
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    paths = [tmp_path / "one", tmp_path / "two"]
    assert ENGINES["ray"].run([python(code, str(path)) for path in paths], workers=2, gpus=0.5) == [0, 0]
    assert [path.read_text() for path in paths] == ["0", "0"]


def test_without_ray_one_line_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--engine ray: Ray is not installed \(pip install"):
        ENGINES["ray"].run([python("")], workers=1, gpus=None)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_cluster_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="--engine ray: no cluster answers") as refused:
        ENGINES["ray"].run([python("")], workers=1, gpus=None)
    assert "\n" not in str(refused.value)
