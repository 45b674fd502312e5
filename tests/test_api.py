"""A trained model, loaded from anywhere, says and shows what the stages saw of it."""

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pipeline
from pipeline import api, dataset
from pipeline.errors import UserError
from pipeline.measurement.common.scoring import greedy
from pipeline.measurement.registry import MeasurementInput, draw_random_tokens
from pipeline.measurement.token_probe import token_probe
from pipeline.params import Ablation
from pipeline.tasks.registry import parse_task
from pipeline.training.artifact import read_trained_on
from pipeline.training.fit import fit
from tests.conftest import ablation, easy, task


def trained(folder: Path, made: Ablation) -> dataset.Dataset:
    """Train an ablation into `folder/models/<name>`, and give its dataset back."""
    dataset.write(folder / "data", made.task)
    data = dataset.read(folder / "data", made.task)
    fit(made, data).write(folder / "models" / made.name)
    return data


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def data(home: Path) -> dataset.Dataset:
    """Of `easy`, which is trained below `home`, without anything else there."""
    return trained(home, easy())


@pytest.fixture
def model(home: Path, data: dataset.Dataset, monkeypatch: pytest.MonkeyPatch) -> api.TrainedModel:
    monkeypatch.chdir(home)
    return pipeline.load("easy")


def prompts(data: dataset.Dataset) -> list[str]:
    return data.tables["test"]["prompt"].tolist()


def test_it_is_found_by_name_and_by_folder_and_is_the_first_seed(
    model: api.TrainedModel, home: Path, data: dataset.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = pipeline.load(home / "models" / "easy")
    assert elsewhere.seed == model.seed == 1
    assert elsewhere.predict(prompts(data)) == model.predict(prompts(data))
    other = pipeline.load(home / "models" / "easy", seed=2)
    assert other.logits(prompts(data)).values.tolist() != model.logits(prompts(data)).values.tolist()


def test_it_answers_as_it_was_evaluated(model: api.TrainedModel, data: dataset.Dataset) -> None:
    asked = prompts(data)
    produced = greedy(model.module, data.examples["test"])
    texts = ["".join(model.vocabulary[token] for token in row) for row in produced]
    assert [answer.text for answer in model.predict(asked)] == [text.partition(data.end or "\0")[0] for text in texts]
    assert [answer.text for answer in model.predict(asked[:1])] == [model.predict(asked)[0].text]


def test_a_probability_is_that_of_the_whole_answer(model: api.TrainedModel, data: dataset.Dataset) -> None:
    """By the chain rule, each character after the true ones before it."""
    prompt = prompts(data)[0]
    (answer,) = model.predict([prompt])
    product, so_far = 1.0, prompt
    for character in answer.text + model.ablation.task.end:
        share = torch.tensor(model.logits([so_far]).values).softmax(-1)[0]
        product *= share[model.vocabulary.index(character)].item()
        so_far += character
    assert answer.probability == pytest.approx(product, rel=1e-4)


def test_prompts_of_several_lengths_are_answered_in_their_order(model: api.TrainedModel, data: dataset.Dataset) -> None:
    one, other = prompts(data)[0], prompts(data)[1][1:]
    alone = [model.predict([prompt])[0].text for prompt in (one, other, one)]
    assert [answer.text for answer in model.predict([one, other, one])] == alone


def test_what_it_shows_has_names_and_fits_together(model: api.TrainedModel, data: dataset.Dataset) -> None:
    asked = prompts(data)[:5]
    states, attention, logits = model.residual_stream(asked), model.attention(asked), model.logits(asked)
    assert states.dims == ("depth", "prompt", "position", "unit")
    assert attention.dims == ("layer", "prompt", "head", "query", "key")
    assert list(logits["token"].values) == model.vocabulary
    assert list(states["prompt"].values) == asked
    np.testing.assert_allclose(attention.sum("key"), 1.0, atol=1e-5)
    assert not attention.sel(query=0, key=1).any()
    last = torch.tensor(states.isel(depth=-1, position=-1).values)
    np.testing.assert_allclose(model.module.logits(last[:, None])[:, 0].detach(), logits, atol=1e-5)
    with_cache, seen = model.run_with_cache(asked)
    np.testing.assert_array_equal(with_cache, logits)
    np.testing.assert_array_equal(seen["blocks.0.hook_resid_pre"], states.sel(depth=0))


def test_a_measurement_is_that_of_the_analysis(model: api.TrainedModel, data: dataset.Dataset) -> None:
    random = draw_random_tokens(api.RANDOM_ROWS, data.length, len(data.vocabulary))
    subject = MeasurementInput(pipeline.load("easy").module.double(), easy(), data.examples["validation"], random)
    assert model.measure("token_probe").equals(token_probe(subject))
    assert next(model.module.parameters()).dtype == torch.float32


def test_blindness_to_order_is_seen_over_the_orders(tmp_path: Path) -> None:
    blind = ablation("blind", model_={"attention": "full"}, steps=4, seeds=[1])
    trained(tmp_path, blind)
    table = pipeline.load(tmp_path / "models" / "blind").predict_all_orders("12+34=")
    assert table["orders"].tolist() == [120]
    assert len(api.all_orders("11+11=")) == 5
    assert 4900 < len(set(api.all_orders("123456789="))) <= 5040


def test_what_lends_its_states_is_drawn_again(tmp_path: Path) -> None:
    lending = ablation("lending", model_={"residual_free": [0], "residual_substitute": "other-row"}, steps=4, seeds=[1])
    data = trained(tmp_path, lending)
    read = read_trained_on(tmp_path / "models" / "lending", lending, data).model(1, data.inputs)
    asked = data.examples["test"]
    assert pipeline.load(tmp_path / "models" / "lending").module.donors.equal(read.donors)
    assert greedy(pipeline.load(tmp_path / "models" / "lending").module, asked).equal(greedy(read, asked))


def test_data_that_have_changed_meanwhile_are_told(tmp_path: Path) -> None:
    source = tmp_path / "own.txt"
    letters = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 400))
    source.write_text(letters)
    sizes = {"train_size": 20, "validation_size": 4, "test_size": 4}
    of_text = parse_task({"name": "text", "path": str(source), "window": 6, **sizes})
    made = ablation("read", model_={"residual_free": [0], "residual_substitute": "slot-mean"}, steps=4, seeds=[1])
    trained(tmp_path, made.model_copy(update={"task": of_text}))
    found = pipeline.load(tmp_path / "models" / "read")
    assert len(found.measure("token_probe"))
    with pytest.raises(UserError, match="'position_erasure': counts right answers"):
        found.measure("position_erasure")
    source.write_text(letters.replace("a", "!"))  # which makes other tokens of all
    fresh = replace(
        found.artifact, ablation=found.ablation.model_copy(update={"task": parse_task(of_text.model_dump())})
    )
    again = replace(found, artifact=fresh)
    with pytest.raises(UserError, match=r"validation\.csv of text: drawn again, it is not what"):
        again.measure("token_probe")
    with pytest.raises(UserError, match=r"train\.csv of text: drawn again"):
        pipeline.load(tmp_path / "models" / "read")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda model: model.predict(["1x"]), "easy does not know the character 'x'"),
        (lambda model: model.predict([""]), "must have 1 to"),
        (lambda model: model.predict(["1" * 50]), "characters, not 50"),
        (lambda model: model.predict("123="), r"a list of texts is meant, such as \['123='\]"),
        (lambda model: model.logits("123="), "a list of texts is meant"),
        (lambda model: model.logits([]), "the list is empty"),
        (lambda model: model.predict(["12345="]), "leaves room for 1 of an answer's 3 characters"),
        (lambda model: model.logits(["12", "1"]), "must be as long as the first, '12'"),
        (lambda model: model.measure("token_prob"), "did you mean 'token_probe'"),
        (lambda model: pipeline.load("esy"), "did you mean 'easy'"),
        (lambda model: pipeline.load("easy", seed=7), r"has no seed 7 \(there: 1, 2, 3\)"),
    ],
)
def test_mistakes_are_told(model: api.TrainedModel, ask, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ask(model)


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    made = ablation("altered", steps=4, seeds=[1])
    trained(tmp_path, made)
    weights = tmp_path / "models" / "altered" / "seed-1.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(UserError, match="altered or truncated"):
        pipeline.load(tmp_path / "models" / "altered")


def test_what_is_shipped_tells_the_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any folder: who sees order answers right, who does not gives the same answer for every order."""
    monkeypatch.chdir(tmp_path)
    right = {name: pipeline.load(name).predict(["123+456="])[0].text for name in ("nope-causal", "learned-causal")}
    assert set(right.values()) == {"9750"}
    assert len(pipeline.load("nope-full").predict_all_orders("123+456=")) == 1
    assert len(pipeline.load("nope-causal").predict_all_orders("123+456=")) > 100
    assert sum(path.stat().st_size for path in api.SHIPPED.rglob("*") if path.is_file()) < 1_200_000


@pytest.mark.parametrize("name", ["learned-causal", "nope-causal", "nope-full"])
def test_what_is_shipped_answers_fresh_problems(name: str) -> None:
    model = pipeline.load(api.SHIPPED / name)
    asked = task(name="addition", digits=3, train_size=10, validation_size=10, test_size=300, seed=5)
    table = asked.splits()["test"]
    answers = model.predict(table["prompt"].tolist())
    share = np.mean([answer.text == true for answer, true in zip(answers, table["answer"], strict=True)])
    assert share < 0.1 if model.ablation.model.attention == "full" else share > 0.97


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testfile(str(api.HERE.parent / "docs" / "api.md"), module_relative=False)
    assert found.attempted > 10
    assert found.failed == 0


@pytest.mark.filterwarnings("ignore:Module 'model:UserWarning")  # a layer of ours is called output, as all of theirs
def test_nnsight_intervenes_in_the_module_as_it_is() -> None:
    """With all states of another prompt after the first layer, it predicts what it does for that one."""
    nnsight = pytest.importorskip("nnsight", reason="not installed: pip install -e '.[nnsight]'")

    model = pipeline.load("nope-causal")
    tokens, last = model.tokens(["123+456=", "321+456="]), torch.tensor([[7], [7]])
    expected = model.module(tokens, last)
    seen: Any = nnsight.NNsight(model.module)
    with seen.trace(tokens, last):
        seen.blocks[0].output[0] = seen.blocks[0].output[1]
        found = seen.output.save()
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0], expected[1])
    assert not torch.allclose(found[0], expected[0], atol=0.1)
