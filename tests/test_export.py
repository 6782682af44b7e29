"""An export is complete, verified, replaced as a whole or not at all, and its card says what its JSON says."""

import json
from pathlib import Path

import jinja2
import pytest
import torch
import yaml
from card_facts import RESULTS, RUN
from helpers import ROOT, tiny_config, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from modeling_spanbert import SpanBertForPreTraining
from modeling_spanbert import export as export_module
from modeling_spanbert.export import export, main, render_card, verify, verify_remote_code


TOKEN = "hf_thisTokenMustNotBeWritten"
CARDS = sorted((ROOT / "model_cards" / "results").glob("*.json"))


def tiny_model(**kwargs) -> SpanBertForPreTraining:
    torch.manual_seed(0)
    return SpanBertForPreTraining(tiny_config(**kwargs))


def quick_export(model, folder) -> Path:
    return export(model, tiny_tokenizer(), folder, RUN, RESULTS, in_clean_process=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """An export with all that belongs to one: it was also opened where the package cannot be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        return export(tiny_model(), tiny_tokenizer(), tmp_path_factory.mktemp("run") / "export", RUN, RESULTS)


def test_an_export_holds_weights_tokenizer_code_and_card_and_nothing_else(exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md",
        "config.json",
        "configuration_spanbert.py",
        "model.safetensors",
        "modeling_spanbert.py",
        "results.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert not any(TOKEN.encode() in path.read_bytes() for path in exported.iterdir())
    assert [path.name for path in exported.parent.iterdir()] == ["export"]


def test_every_auto_class_is_named_with_code_that_is_there(exported):
    auto_map = json.loads((exported / "config.json").read_text())["auto_map"]
    assert {"AutoConfig", "AutoModel", "AutoModelForPreTraining", "AutoModelForMaskedLM"} <= set(auto_map)
    assert all((exported / f"{name.split('.')[0]}.py").is_file() for name in auto_map.values())


def test_the_tokenizer_of_an_export_is_cased(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert tokenizer.tokenize("A a") == ["A", "a"]
    assert tokenizer.model_max_length == 64


def test_the_card_shows_what_its_snippet_printed_on_these_weights(exported):
    card, example = (
        (exported / "README.md").read_text(),
        json.loads((exported / "results.json").read_text())["results"],
    )
    assert len(example["example"]["output"].splitlines()) == 5
    assert example["example"]["output"] in card


def test_the_card_of_an_export_is_rendered_from_its_results_alone(exported, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "made-up.json").write_bytes((exported / "results.json").read_bytes())
    main([str(tmp_path / "results" / "made-up.json")])
    assert (tmp_path / "made-up.md").read_bytes() == (exported / "README.md").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [["mlm"], ["mlm", "nsp", "sbo"]])
def test_models_of_other_objectives_open_without_the_package_too(tmp_path, objectives):
    folder = export(tiny_model(objectives=objectives), tiny_tokenizer(), tmp_path / "export", RUN, RESULTS)
    assert json.loads((folder / "results.json").read_text())["run"]["model"]["objectives"] == objectives


@pytest.mark.slow
def test_an_export_whose_code_needs_the_package_is_refused(tmp_path):
    model = tiny_model()
    folder = quick_export(model, tmp_path / "export")
    code = folder / "modeling_spanbert.py"
    code.write_text(code.read_text().replace("from .configuration_spanbert", "from modeling_spanbert"))
    with pytest.raises(RuntimeError, match="does not load without the package"):
        verify_remote_code(folder, model)


def test_weights_with_nan_are_refused_before_anything_is_written(tmp_path):
    model = tiny_model()
    model.bert.embeddings.LayerNorm.bias.data[3] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or Inf: bert\.embeddings\.LayerNorm\.bias \(1 tensors"):
        quick_export(model, tmp_path / "export")
    assert not list(tmp_path.iterdir())


def test_a_tensor_that_changed_or_vanished_on_the_disk_is_found(tmp_path):
    model = tiny_model()
    folder = quick_export(model, tmp_path / "export")
    tensors = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.bias"

    save_file(tensors | {name: tensors[name] + 1e-7}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RuntimeError, match=name):
        verify(model, folder)

    del tensors[name]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RuntimeError, match=name):
        verify(model, folder)


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    model = tiny_model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quick_export(model, tmp_path / "export")
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_failed_export_leaves_the_older_one_and_no_part_of_itself(tmp_path, monkeypatch):
    folder = quick_export(tiny_model(), tmp_path / "export")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    with monkeypatch.context() as patch:
        patch.setattr(export_module, "render_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            quick_export(tiny_model(objectives=["mlm"]), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]

    quick_export(tiny_model(objectives=["mlm"]), folder)
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_export_left_is_cleared_and_the_older_one_comes_back(tmp_path, monkeypatch):
    folder = quick_export(tiny_model(), tmp_path / "export")
    folder.rename(tmp_path / "export.older")  # killed between the two renames …
    (tmp_path / "export.partial").mkdir()
    (tmp_path / "export.partial" / "half.txt").write_text("half")
    monkeypatch.setattr(export_module, "verify", lambda *_: 1 / 0)  # … and the next one fails
    with pytest.raises(ZeroDivisionError):
        quick_export(tiny_model(), folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_with_something_else_in_it_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not delete")
    with pytest.raises(ValueError, match="holds something that is not an export"):
        quick_export(tiny_model(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# The card


def facts(run: dict | None = None, results: dict | None = None) -> tuple[dict, dict]:
    model = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "vocab_size": 144}
    model |= {"objectives": ["mlm", "sbo"], "num_parameters": 38944}
    return RUN | {"model": model} | (run or {}), RESULTS | {"example": None} | (results or {})


def test_the_card_has_valid_metadata_and_every_figure():
    card = render_card(*facts())
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "language": "en",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["spanbert", "bert", "span-masking", "pretraining"],
        "metrics": ["accuracy"],
    }
    for figure in (
        "38,944", "567,890", "1.2%", "0123456789abcdef", "1 h 2 min 5 s", "4.568", "5.432", "6.700", "25.6%", "5.1%",
        "12.3%", "| 11+ | 50 | 11.0% | - |", "made-up CPU", "torch 2.13.0", "geometric_spans", RUN["command"],
    ):  # fmt: skip
        assert figure in text
    assert "\n\n\n" not in text.replace("\n\n\n## Use", "")


def test_weights_that_continue_others_carry_no_licence_of_ours():
    card = render_card(*facts({"arguments": RUN["arguments"] | {"model_name_or_path": "org/some-bert"}}))
    assert "license:" not in card and "trained on from `org/some-bert`" in card


def test_a_card_without_held_out_text_says_so():
    assert "No text was held out" in render_card(*facts(results={"held_out": None}))


def test_a_missing_figure_is_an_error_and_not_a_blank():
    without = {key: value for key, value in RUN["data"].items() if key != "num_tokens"}
    with pytest.raises(jinja2.UndefinedError, match="num_tokens"):
        render_card(*facts({"data": without}))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_committed_cards_are_rendered_and_not_typed(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    card = (path.parent.parent / f"{path.stem}.md").read_text(encoding="utf-8")
    again = f"python -m modeling_spanbert.export {path.relative_to(ROOT)}"
    assert card == render_card(record["run"], record["results"]), f"render it again: {again}"
