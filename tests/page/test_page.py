"""The committed page is the command's output; its weights are the networks', and its links lead into the report."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import files
from pipeline.errors import UserError
from pipeline.page.build import FOLDER, SCRIPTS
from pipeline.params import Ablation
from pipeline.stages import page
from pipeline.training.artifact import Artifact
from pipeline.transformer.model import Transformer
from tests.conftest import ablation

PROJECT = Path(__file__).parent.parent.parent


def content_of(html: str) -> dict:
    """The data in a page."""
    match = re.search(r'<script id="content" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert match
    return json.loads(match[1])


def weights_of(network: dict, moment: int) -> dict[str, torch.Tensor]:
    """The weights of a network in a page, decoded."""
    stored = network["moments"][moment]
    kept = np.frombuffer(base64.b64decode(stored["numbers"]), np.uint8).reshape(-1, stored["bytes"])
    numbers = np.pad(kept, ((0, 0), (4 - stored["bytes"], 0))).copy().view("<f4")[:, 0]
    names, shapes = zip(*network["parameters"], strict=True)
    parts = np.split(numbers, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
    return {name: torch.tensor(part).view(shape) for name, shape, part in zip(names, shapes, parts, strict=True)}


def write_random_network(ablation: Ablation, folder: Path) -> Path:
    """Write a network with random weights, ten times as large as initial ones, so that every part of it matters."""
    torch.manual_seed(0)
    vocabulary, length = ablation.task.vocabulary, 8
    network = Transformer(
        ablation.model.model_copy(update={"residual_substitute": "none"}), vocabulary=12, length=length
    )
    weights = {name: 10 * value if value.ndim == 2 else value for name, value in network.state_dict().items()}
    tables = ablation.task.draw_splits()
    digests = {f"{split}.csv": files.compute_digest(files.format_csv(table)) for split, table in tables.items()}
    Artifact(ablation, vocabulary, length, 1, digests, pd.DataFrame(), {1: weights}).write(folder / ablation.name)
    return folder / ablation.name


@pytest.fixture(scope="module")
def html() -> str:
    return page.render_page(page.shipped_models())


def test_the_committed_page_is_the_output_of_the_command(html: str) -> None:
    assert (PROJECT / "reports/play.html").read_text() == html, "run `python -m pipeline page`"
    assert len(html.encode()) <= page.MAX_BYTES


def test_the_page_needs_no_network(html: str) -> None:
    assert "default-src 'none'" in html
    assert not re.search(r'(src|href)="(?!index\.html|data:)', html)


def test_weights_are_rounded_and_snapshots_exact(html: str) -> None:
    for model, network in zip(page.shipped_models(), content_of(html)["networks"], strict=True):
        *snapshots, trained = range(len(network["moments"]))
        for name, weights in weights_of(network, trained).items():
            expected = model.network.state_dict()[name]
            assert ((weights - expected).abs() <= 2.0**-16 * expected.abs() + 1e-30).all(), name
        for moment, (_, weights) in zip(snapshots, sorted(model.artifact.snapshots.items()), strict=True):
            assert all(weights[name].float().equal(exact) for name, exact in weights_of(network, moment).items())


def test_links_lead_to_sections_of_the_report(html: str) -> None:
    report = (PROJECT / "reports/index.html").read_text()
    anchors = set(re.findall(r'href="index\.html#([^"]+)"', html))
    assert len(anchors) >= 5
    assert all(f'id="{anchor}"' in report for anchor in anchors)


def test_every_script_is_in_the_page() -> None:
    assert {path.name for path in FOLDER.glob("*.js")} == set(SCRIPTS)


def test_ablations_that_cannot_be_on_a_page_are_refused(tmp_path: Path) -> None:
    """The message names the ablation, or the name that does not exist."""
    other = write_random_network(ablation("other"), tmp_path)
    switches = {"residual_free": [0], "residual_substitute": "noise"}
    noise = write_random_network(ablation("noise", model_=switches), tmp_path)
    for arguments, named in (
        (["nope-full", str(other)], "other"),
        ([str(noise)], "noise"),
        (["nope-cuasal"], "cuasal"),
    ):
        with pytest.raises(UserError, match=named):
            page.run(arguments)
