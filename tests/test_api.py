"""Trained models, loaded from anywhere, give the same results as the stages."""

import doctest
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import pipeline
from pipeline import api, cli, dataset
from pipeline.errors import UserError
from pipeline.measurement.common.scoring import decode_greedily
from pipeline.measurement.registry import MeasurementInput
from pipeline.measurement.token_probe import token_probe
from pipeline.params import Ablation
from pipeline.tasks.registry import parse_task
from pipeline.training.artifact import read_artifact_trained_on
from pipeline.training.fit import fit
from tests.conftest import ablation, easy, task


def train(folder: Path, chosen: Ablation) -> dataset.Dataset:
    """Train an ablation into `folder/models/<name>`, and return its dataset."""
    dataset.write(folder / "data", chosen.task)
    data = dataset.read(folder / "data", chosen.task)
    fit(chosen, data).write(folder / "models" / chosen.name)
    return data


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def data(home: Path) -> dataset.Dataset:
    """Dataset of `easy`, which is trained below `home`."""
    return train(home, easy(snapshots=2))


@pytest.fixture(scope="module")
def prompts(data: dataset.Dataset) -> list[str]:
    prompts: list[str] = data.tables["test"]["prompt"].tolist()
    return prompts


@pytest.fixture
def model(home: Path, data: dataset.Dataset, monkeypatch: pytest.MonkeyPatch) -> api.TrainedModel:
    monkeypatch.chdir(home)
    return pipeline.load("easy")


def test_load_finds_a_model_by_name_or_folder_and_takes_the_first_seed(
    model: api.TrainedModel, home: Path, prompts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_folder = pipeline.load(home / "models" / "easy")
    assert by_folder.seed == model.seed == 1
    assert by_folder.predict(prompts) == model.predict(prompts)
    other = pipeline.load(home / "models" / "easy", seed=2)
    assert not other.logits(prompts).equals(model.logits(prompts))
    assert all(word in repr(other) for word in ("easy", "seed 2", "learned"))
    assert len(repr(other)) < 200


def test_snapshots_are_loaded_by_their_step(model: api.TrainedModel, prompts: list[str]) -> None:
    (first, *_) = sorted(step for seed, step in model.artifact.snapshots if seed == model.seed)
    snapshot = pipeline.load("easy", step=first)
    assert not snapshot.logits(prompts).equals(model.logits(prompts))
    expected = model.artifact.snapshots[model.seed, first]
    assert all(torch.equal(value, expected[name].float()) for name, value in snapshot.network.named_parameters())
    with pytest.raises(UserError, match=rf"step 7 .*{first}"):
        pipeline.load("easy", step=7)


def test_answers_are_those_of_the_evaluation(
    model: api.TrainedModel, data: dataset.Dataset, prompts: list[str]
) -> None:
    produced = decode_greedily(model.network, data.examples["test"])
    texts = ["".join(model.vocabulary[token] for token in row) for row in produced]
    answers = [answer.text for answer in model.predict(prompts)]
    assert answers == [text.partition(data.task.end_token or "\0")[0] for text in texts]


def test_a_probability_is_the_product_over_all_tokens_of_the_answer(
    model: api.TrainedModel, prompts: list[str]
) -> None:
    (answer,) = model.predict(prompts[:1])
    product, so_far = 1.0, prompts[0]
    for character in answer.text + model.ablation.task.end_token:
        share = torch.tensor(model.logits([so_far]).values).softmax(-1)[0]
        product *= share[model.vocabulary.index(character)].item()
        so_far += character
    assert answer.probability == pytest.approx(product, rel=1e-4)


def test_answers_keep_the_order_of_prompts_of_different_lengths(model: api.TrainedModel, prompts: list[str]) -> None:
    mixed = [prompts[0], prompts[1][1:], prompts[0]]
    with pytest.warns(UserWarning, match=re.escape(repr(mixed[1]))):
        assert [answer.text for answer in model.predict(mixed)] == [model.predict([one])[0].text for one in mixed]


def test_logits_states_and_attention_are_labelled_and_consistent(model: api.TrainedModel, prompts: list[str]) -> None:
    five = prompts[:5]
    states, attention, logits = model.residual_stream(five), model.attention(five), model.logits(five)
    assert states.dims == ("depth", "prompt", "position", "unit")
    assert attention.dims == ("layer", "prompt", "head", "query", "key")
    assert list(logits["token"].values) == model.vocabulary
    assert list(states["prompt"].values) == five
    np.testing.assert_allclose(attention.sum("key"), 1.0, atol=1e-5)
    assert not attention.sel(query=0, key=1).any()
    last = torch.tensor(states.isel(depth=-1, position=-1).values)
    np.testing.assert_allclose(model.network.logits(last[:, None])[:, 0].detach(), logits, atol=1e-5)
    with_cache, cache = model.run_with_cache(five)
    np.testing.assert_array_equal(with_cache, logits)
    np.testing.assert_array_equal(cache["blocks.0.hook_resid_pre"], states.sel(depth=0))


def test_a_measurement_is_that_of_the_stage_analyze(model: api.TrainedModel, data: dataset.Dataset) -> None:
    subject = MeasurementInput(pipeline.load("easy").network.double(), easy(), data.examples["validation"])
    assert model.measure("token_probe").equals(token_probe(subject))
    assert next(model.network.parameters()).dtype == torch.float32


def test_a_blind_model_gives_one_answer_to_all_orders(tmp_path: Path) -> None:
    blind = ablation("blind", model_={"attention": "full"}, steps=4, seeds=[1])
    train(tmp_path, blind)
    table = pipeline.load(tmp_path / "models" / "blind").predict_all_orders("12+34=")
    assert table["orders"].tolist() == [120]
    assert len(api.list_orders("11+11=")) == 5
    assert 4900 < len(set(api.list_orders("123456789="))) <= 5040


def test_donors_are_drawn_again(tmp_path: Path) -> None:
    switches = {"residual_free": [0], "residual_substitute": "donor-deranged"}
    chosen = ablation("substituted", model_=switches, steps=4, seeds=[1])
    data = train(tmp_path, chosen)
    folder, test = tmp_path / "models" / "substituted", data.examples["test"]
    loaded = pipeline.load(folder).network
    read = read_artifact_trained_on(folder, chosen, data).load_model(1, data.transformer_arguments)
    assert loaded.donors.equal(read.donors)
    assert decode_greedily(loaded, test).equal(decode_greedily(read, test))


def test_data_that_have_changed_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "own.txt"
    letters = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 400))
    source.write_text(letters)
    sizes = {"train_size": 20, "validation_size": 4, "test_size": 4}
    of_text = parse_task({"name": "text", "path": str(source), "window": 6, **sizes})
    chosen = ablation("read", model_={"residual_free": [0], "residual_substitute": "position-mean"}, steps=4, seeds=[1])
    train(tmp_path, chosen.model_copy(update={"task": of_text}))
    loaded = pipeline.load(tmp_path / "models" / "read")
    assert len(loaded.measure("token_probe"))
    with pytest.raises(UserError, match="'position_erasure'"):
        loaded.measure("position_erasure")
    source.write_text(letters.replace("a", "!"))
    reread = loaded.ablation.model_copy(update={"task": parse_task(of_text.model_dump())})
    again = replace(loaded, artifact=replace(loaded.artifact, ablation=reread))
    with pytest.raises(UserError, match=r"validation\.csv of text: drawn again"):
        again.measure("token_probe")
    with pytest.raises(UserError, match=r"train\.csv of text: drawn again"):
        pipeline.load(tmp_path / "models" / "read")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.predict(["1x"]), "easy does not know the character 'x'"),
        (lambda model: model.predict([""]), "must have 1 to"),
        (lambda model: model.predict(["1" * 50]), "characters, not 50"),
        (lambda model: model.predict("123="), r"prompts: .*\['123='\]"),
        (lambda model: model.logits("123="), "prompts: .*list"),
        (lambda model: model.logits([]), "the list is empty"),
        (lambda model: model.predict(["12345="]), "leaves room for 1 of an answer's 3 characters"),
        (lambda model: model.logits(["12", "1"]), "must be as long as the first, '12'"),
        (lambda model: model.measure("token_prob"), "did you mean 'token_probe'"),
        (lambda model: pipeline.load("esy"), "did you mean 'easy'"),
        (lambda model: pipeline.load("easy", seed=7), r"seed 7 \(allowed: 1, 2, 3\)"),
    ],
)
def test_mistakes_are_refused(model: api.TrainedModel, call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(model)


@pytest.mark.parametrize("name", ["learned-causal", "nope-causal", "nope-full"])
def test_shipped_models_answer_new_examples_in_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = pipeline.load(api.SHIPPED_MODELS_FOLDER / name)
    assert pipeline.load(name).predict(["123+456="])[0].text == "9750" or name == "nope-full"
    assert sum(path.stat().st_size for path in (api.SHIPPED_MODELS_FOLDER / name).iterdir()) < 400_000
    fresh = task(name="addition", digits=3, train_size=10, validation_size=10, test_size=300, seed=5)
    table = fresh.draw_splits()["test"]
    answers = model.predict(table["prompt"].tolist())
    share = np.mean([answer.text == true for answer, true in zip(answers, table["answer"], strict=True)])
    assert share < 0.1 if model.ablation.model.attention == "full" else share > 0.97


def test_the_examples_of_docs_api_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(api.PACKAGE_FOLDER.parent / "docs" / "api.md"), module_relative=False)
    assert results.attempted > 10
    assert results.failed == 0


@pytest.mark.filterwarnings("ignore:Module 'model:UserWarning")  # a layer of ours is called output, as all of theirs
def test_nnsight_can_intervene_in_the_module() -> None:
    """With all states of another prompt after the first layer, the prediction is that for the other prompt."""
    nnsight = pytest.importorskip("nnsight", reason="not installed: pip install -e '.[nnsight]'")

    model = pipeline.load("nope-causal")
    tokens, last = model.encode_prompts(["123+456=", "321+456="]), torch.tensor([[7], [7]])
    expected = model.network(tokens, last)
    seen: Any = nnsight.NNsight(model.network)
    with seen.trace(tokens, last):
        seen.blocks[0].mlp.output[0] = seen.blocks[0].mlp.output[1]
        logits = seen.output.save()
    assert torch.equal(logits[0], logits[1])
    torch.testing.assert_close(logits[0], expected[1])
    assert not torch.allclose(logits[0], expected[0], atol=0.1)


def test_a_prompt_of_another_form_than_the_tasks_gets_a_warning_with_an_example(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = api.load("nope-causal")
    for prompt in ("1+2=", "123+456", "12+3456="):
        with pytest.warns(UserWarning, match=re.escape(repr(prompt)) + r": .*addition.* \d{3}\+\d{3}="):
            model.predict([prompt])
    model.predict(["001+002=", model.example_prompt])  # warnings are errors here
    model.predict_all_orders("123=")
    assert cli.run_command(["predict", "nope-causal", "123+456=", "1+2="]) == 0
    output = capsys.readouterr()
    assert output.err.splitlines() == [line for line in output.err.splitlines() if "'1+2='" in line]
    assert re.search(r"^warning: .* \d{3}\+\d{3}=", output.err)
    assert len(output.out.splitlines()) == 2


@pytest.mark.parametrize("prompts", [None, 3, [3], "123+456=", [None, "123+456="]])
def test_what_is_not_a_list_of_texts_is_refused(prompts: object) -> None:
    model = api.load("nope-causal")
    for method in (model.predict, model.logits, model.encode_prompts):
        with pytest.raises(UserError, match=r"^prompt"):
            method(prompts)  # type: ignore[operator]
    if not isinstance(prompts, str):
        with pytest.raises(UserError, match=r"^prompt .* must be a text"):
            model.predict_all_orders(prompts)  # type: ignore[arg-type]


def test_a_task_whose_prompts_have_many_forms_gets_no_warning() -> None:
    unpadded = ablation("unpadded")
    for options in ({"zero_pad": False}, {"zero_pad": True}):
        model = api.TrainedModel(
            SimpleNamespace(ablation=unpadded.model_copy(update={"task": task(**options)})), 1, None
        )  # type: ignore[arg-type]
        assert bool(model.example_prompt) == options["zero_pad"]
