"""The converter, on the golden models wrapped as the original program saves them, through the command."""

import argparse
import json
import os
import runpy
import sys
import types
from pathlib import Path

import pytest
import torch
from helpers import SPECIALS, testdata_file
from safetensors.torch import load_file, save_file
from test_golden_models import batch_of, close
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from modeling_spanbert import SpanBertForPreTraining, SpanBertModel, convert_original_checkpoint
from modeling_spanbert import export as export_module
from modeling_spanbert.__main__ import main
from modeling_spanbert.convert_original_checkpoint import convert
from modeling_spanbert.original_files import read_original
from modeling_spanbert.original_names import our_name
from training.arguments import ModelArguments
from training.initial_model import initial_model
from training.vocabulary import load_tokenizer, lower_cases


ARCH = {"B_nsp_sbo": "bert_pair", "D_bert_1seq": "bert_hf"}
PIECES = [*SPECIALS, "London", "wins", "##s", *(f"w{i}" for i in range(112))]  # 120, as the golden models
VOCABULARY = "\n".join(PIECES) + "\n"


@pytest.fixture(autouse=True)
def without_clean_process(monkeypatch):
    """Exports without the check in a second Python, which takes seconds; one test makes it."""
    monkeypatch.setattr(
        convert_original_checkpoint, "export", lambda *args: export_module.export(*args, in_clean_process=False)
    )


def golden_weights(tag: str = "B_nsp_sbo") -> dict[str, torch.Tensor]:
    return load_file(testdata_file("original", f"{tag}.weights.safetensors"))


@pytest.fixture
def original_program(monkeypatch):
    """Makes an object of the original's class of that name, while its modules are there (as for those who pickled)."""

    def make(name: str, **attributes):
        module_name, _, class_name = name.rpartition(".")
        parts = module_name.split(".")
        for parent in (".".join(parts[: i + 1]) for i in range(len(parts))):
            module = sys.modules.get(parent) or types.ModuleType(parent)
            monkeypatch.setitem(sys.modules, parent, module)
        if not hasattr(module, class_name):
            setattr(module, class_name, type(class_name, (), {"__module__": module_name}))
        made = getattr(module, class_name)()
        vars(made).update(attributes)
        return made

    make.gone = lambda: [monkeypatch.delitem(sys.modules, name) for name in [*sys.modules] if "fairseq" in name]
    return make


@pytest.fixture
def fairseq_checkpoint(tmp_path, original_program):
    """Writes what the original's trainer saves of a golden model."""

    def save(tag="B_nsp_sbo", zipped=True, dtype=torch.float32, **changed_args) -> Path:
        info = json.loads(testdata_file("original", "models.json").read_text())[tag]
        own = {name: info["config"][name] for name in ("num_attention_heads", "hidden_act", "vocab_size")}
        model = "pair_bert" if ARCH[tag] == "bert_pair" else "hf_bert"
        own_config = original_program(f"fairseq.models.{model}.BertConfig", hidden_dropout_prob=0.2, **own)
        args = {"arch": ARCH[tag], "max_pair_targets": 10, "pair_target_layer": -1, "lr": [1e-4]} | changed_args
        weights = {key: tensor.to(dtype) for key, tensor in golden_weights(tag).items()}
        history = {"criterion_name": "X", "optimizer_name": "Y", "lr_scheduler_state": {}, "num_updates": 2400000}
        adam = {"state": {0: {"step": 7, "exp_avg": torch.zeros(9)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
        meters = {
            "train_loss": original_program("fairseq.meters.AverageMeter", val=1.5, avg=1.5, sum=3.0, count=2),
            "wps": original_program("fairseq.meters.TimeMeter", init=0, start=1.0, n=3),
            "train_wall": original_program("fairseq.meters.StopwatchMeter", sum=2.0, n=3, start_time=None),
        }
        checkpoint = {
            "args": argparse.Namespace(config=own_config, **args),
            "model": weights,
            "optimizer_history": [history],
            "last_optimizer_state": adam,
            "extra_state": {"epoch": 3, "train_meters": meters},
        }
        path = tmp_path / "checkpoint_last.pt"
        (tmp_path / "vocab.txt").write_text(VOCABULARY)
        torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
        original_program.gone()
        return path

    return save


@pytest.fixture
def flat_file(tmp_path):
    """Writes tensors under the original's names, with changes (None: without that key), as a file of that name."""

    def save(name="in/model.pt", changes=(), tag="B_nsp_sbo", zipped=True) -> Path:
        weights = {key: tensor for key, tensor in (golden_weights(tag) | dict(changes)).items() if tensor is not None}
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        (path.parent / "vocab.txt").write_text(VOCABULARY)
        if path.suffix == ".safetensors":
            save_file(weights, path)
        else:
            torch.save(weights, path, _use_new_zipfile_serialization=zipped)
        return path

    return save


def assert_logits_are_the_originals(model: SpanBertForPreTraining, tag: str):
    io = load_file(testdata_file("original", f"{tag}.io.safetensors"))
    batch = batch_of(io)
    batch.pop("labels")
    real = io["input.attention_mask"].bool()
    with torch.no_grad():
        output = model.eval()(**batch)
    assert close(output.prediction_logits[real], io["output.mlm_logits"][real])
    if tag == "B_nsp_sbo":
        assert close(output.boundary_logits, io["output.pair_logits"][io["input.pair_targets"].flatten(0, 1) != 0])
        assert close(output.seq_relationship_logits, io["output.nsp_logits"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("tag", ARCH)
def test_a_fairseq_checkpoint_gives_the_originals_logits(fairseq_checkpoint, tmp_path, capsys, tag, zipped, dtype):
    assert main(["convert", str(fairseq_checkpoint(tag, zipped, dtype)), str(tmp_path / "out")]) == 0

    model = SpanBertForPreTraining.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.float32 and model.config.hidden_dropout_prob == 0.2
    assert model.config.objectives == (["mlm", "nsp", "sbo"] if tag == "B_nsp_sbo" else ["mlm"])
    found, theirs = model.state_dict(), golden_weights(tag)
    assert {our_name(key) for key in theirs} == set(found)
    for key, tensor in theirs.items():
        assert torch.equal(found[our_name(key)], tensor.to(dtype).float()), key
    if dtype == torch.float32:
        assert_logits_are_the_originals(model, tag)

    printed = capsys.readouterr().out
    assert f"after 2400000 updates: {len(theirs)} tensors in {str(dtype).removeprefix('torch.')}\n" in printed
    assert "from its args: num_attention_heads=4, " in printed
    assert "\nnot carried over: optimizer_history, last_optimizer_state, extra_state\n" in printed
    assert f"\ntokenizer: cased, 120 pieces of {tmp_path}/vocab.txt\n" in printed
    last = printed.splitlines()[-1].partition(": ")[2]
    assert last == (
        "from modeling_spanbert import SpanBertForPreTraining; "
        f"model = SpanBertForPreTraining.from_pretrained({str(tmp_path / 'out')!r})"
    )


@pytest.mark.parametrize("name", ["in/model.pt", "in/pytorch_model.bin", "in/x.safetensors"])
def test_flat_files_and_their_folders_give_the_originals_logits(flat_file, tmp_path, name):
    path = flat_file(name)
    main(["convert", str(path), str(tmp_path / "file"), "--num_attention_heads", "4"])
    (tmp_path / "in" / "config.json").write_text(
        '{"num_attention_heads": 4, "hidden_size": 32, "directionality": "x"}'
    )
    main(["convert", str(path.parent), str(tmp_path / "folder")])
    for folder in ("file", "folder"):
        assert_logits_are_the_originals(SpanBertForPreTraining.from_pretrained(tmp_path / folder), "B_nsp_sbo")


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_released_encoder_becomes_an_encoder(tmp_path, prefix, capsys):
    (tmp_path / "in").mkdir()
    weights = {
        key.replace("decoder.bert.", prefix): tensor.half()
        for key, tensor in golden_weights("D_bert_1seq").items()
        if key.startswith("decoder.bert.")
    }
    torch.save(weights, tmp_path / "in" / "pytorch_model.bin")
    (tmp_path / "in" / "config.json").write_text('{"num_attention_heads": 4, "layer_norm_eps": 1e-5}')
    (tmp_path / "in" / "vocab.txt").write_text(VOCABULARY)
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out")]) == 0

    printed = capsys.readouterr().out
    assert "\nfrom config.json: num_attention_heads=4, layer_norm_eps=1e-05\n" in printed
    assert "the encoder alone, no heads" in printed and "SpanBertModel.from_pretrained" in printed
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert type(model) is SpanBertModel and model.config.architectures == ["SpanBertModel"]
    io = load_file(testdata_file("original", "D_bert_1seq.io.safetensors"))
    real = io["input.attention_mask"].bool()
    with torch.no_grad():
        states = model(io["input.src_tokens"], attention_mask=real.long(), token_type_ids=io["input.segment_labels"])
    # Half precision keeps 11 bits of each weight; LayerNorm keeps the states near 1.
    assert (states.last_hidden_state[real] - io["output.sequence_output"][real]).abs().max() < 0.05


def test_an_encoder_with_a_pooler_keeps_it(flat_file, tmp_path):
    without_heads = {key: None for key in golden_weights() if key.startswith("decoder.cls.")}
    convert(flat_file("in/pytorch_model.bin", without_heads), tmp_path / "out", num_attention_heads=4)
    pooler = SpanBertModel.from_pretrained(tmp_path / "out").pooler
    assert torch.equal(pooler.dense.weight, golden_weights()["decoder.bert.pooler.dense.weight"])


def test_the_boundary_head_has_the_positions_that_its_table_has(flat_file, tmp_path):
    key = "decoder.cls.pair_target_predictions.position_embeddings.weight"
    convert(flat_file(changes={key: golden_weights()[key][:2].clone()}), tmp_path / "out", num_attention_heads=4)
    config = SpanBertForPreTraining.from_pretrained(tmp_path / "out").config
    assert (config.max_span_positions, config.span_position_size) == (2, 200)


def test_options_win_over_config_json_and_that_over_args(fairseq_checkpoint, tmp_path):
    path = fairseq_checkpoint()
    (tmp_path / "config.json").write_text('{"num_attention_heads": 8, "layer_norm_eps": 1e-6}')
    convert(path, tmp_path / "out", layer_norm_eps=1e-7)
    config = SpanBertModel.from_pretrained(tmp_path / "out").config
    assert (config.num_attention_heads, config.layer_norm_eps, config.hidden_dropout_prob) == (8, 1e-7, 0.2)


@pytest.mark.parametrize("name", ["vocab.txt", "dict.txt"])
def test_a_converted_checkpoint_with_its_vocabulary_is_pre_trained_further(flat_file, tmp_path, name):
    path, counts = flat_file(), name == "dict.txt"
    lines = [f"{piece} {1000 - i}" if counts else piece for i, piece in enumerate(PIECES)]
    (path.parent / "vocab.txt").unlink()
    (path.parent / name).write_text("\n".join(lines) + "\n")
    given = ["--vocab_file", str(path.parent / name)] if counts else []  # vocab.txt is found beside the weights
    assert main(["convert", str(path), str(tmp_path / "out"), "--num_attention_heads", "4", *given]) == 0

    tokenizer = load_tokenizer(str(tmp_path / "out"))
    assert tokenizer("London wins")["input_ids"] == [2, 5, 6, 3]
    assert not lower_cases(tokenizer) and tokenizer.model_max_length == 64
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == {p: i for i, p in enumerate(PIECES)}

    arguments = ModelArguments(model_name_or_path=str(tmp_path / "out"), objectives=["mlm", "sbo"])
    model, notes = initial_model(arguments, tokenizer, 64, 0, torch.device("cpu"))
    assert notes == [] and type(model) is SpanBertForPreTraining
    masked_lm = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    theirs = golden_weights()
    for key in ("decoder.cls.predictions.bias", "decoder.cls.pair_target_predictions.bias"):
        assert torch.equal(model.state_dict()[our_name(key)], theirs[key])
    assert torch.equal(masked_lm.cls.predictions.bias, theirs["decoder.cls.predictions.bias"])


def test_a_vocabulary_without_capitals_lower_cases_and_says_so(flat_file, tmp_path):
    path = flat_file()
    (path.parent / "vocab.txt").write_text("\n".join(piece.replace("London", "london") for piece in PIECES))
    lines = convert(path, tmp_path / "out", num_attention_heads=4)
    assert f"tokenizer: lower-casing, because no piece has a capital, 120 pieces of {path.parent}/vocab.txt" in lines
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("London")["input_ids"] == [2, 5, 3]


# What is refused: one line, exit status 2, nothing written


@pytest.fixture
def refused(tmp_path, capsys):
    def check(source: Path, message: str, *options: str):
        capsys.readouterr()
        assert main(["convert", str(source), str(tmp_path / "out"), *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert message in error
        assert not list(tmp_path.glob("out*"))

    return check


class Payload:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touch(path: str):
    Path(path).touch()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("place", ["args", "model"])
@pytest.mark.parametrize("kind", ["system", "eval", "touch", "getattr"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, refused, kind, place, zipped):
    canary, path = tmp_path / "canary", tmp_path / "checkpoint.pt"
    payload = {
        "system": Payload(os.system, f"touch {canary}"),
        "eval": Payload(eval, f"open({str(canary)!r}, 'w').close()"),
        "touch": Payload(touch, str(canary)),
        "getattr": Payload(getattr, Payload(touch, str(canary)), "__class__"),
    }[kind]
    torch.save({"model": golden_weights()} | {place: payload}, path, _use_new_zipfile_serialization=zipped)
    module = {"system": f"{os.system.__module__}.", "touch": f"{__name__}."}.get(kind, "")
    refused(path, f"is refused, and nothing in it was run: it names {module}{kind}, where only tensors and the meters")
    assert not canary.exists()

    torch.load(path, weights_only=False)  # it is ours: this canary can sing
    assert canary.exists()


@pytest.mark.parametrize(
    "name",
    ["argparse_.Namespace", "fairseq.meters.SumMeter", "fairseq_.meters.AverageMeter", "fairseq.models.BertConfig"],
)
def test_a_class_that_only_looks_like_one_of_the_originals_is_refused(tmp_path, refused, original_program, name):
    torch.save({"args": original_program(name, lr=1), "model": golden_weights()}, tmp_path / "checkpoint.pt")
    refused(tmp_path / "checkpoint.pt", f"it names {name}, where")


def test_the_classes_of_the_original_are_admitted_only_while_one_of_its_files_is_read(fairseq_checkpoint):
    path = fairseq_checkpoint()
    read_original(path)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


WORDS, QUERY = (
    "decoder.bert.embeddings.word_embeddings.weight",
    "decoder.bert.encoder.layer.1.attention.self.query.weight",
)
TABLE = "decoder.cls.pair_target_predictions.position_embeddings.weight"
TIED = "decoder.cls.pair_target_predictions.decoder.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"decoder.ner_outputs.weight": torch.ones(2)},
            "unknown key 'decoder.ner_outputs.weight'; expected",
        ),
        ({"decoder.qa_outputs.weight": torch.ones(2)}, "it has the heads cls. and qa_outputs.; expected one of them"),
        (
            {"decoder.bert.encoder.layer.7.output.dense.bias": torch.ones(32)},
            "unknown key 'decoder.bert.encoder.layer.7",
        ),
        ({"step": 3}, "'step' is a int, not a tensor"),
        ({WORDS: None}, "bert.embeddings.word_embeddings.weight is missing"),
        ({QUERY: None}, "bert.encoder.layer.1.attention.self.query.weight is missing (1 tensors in all)"),
        ({TABLE: None}, "cls.span_boundary.span_position_embeddings.weight is missing"),
        ({"decoder.cls.seq_relationship.bias": None}, "cls.seq_relationship.bias is missing"),
        ({WORDS: torch.ones(120)}, "word_embeddings.weight is (120,), expected two dimensions"),
        ({QUERY: torch.ones(32, 31)}, f"{QUERY} is (32, 31), expected (32, 32)"),
        ({TABLE: torch.ones(10, 100)}, "linear1.weight is (32, 264), expected (32, 164)"),
        ({QUERY: torch.ones(32, 32).double()}, f"{QUERY} is torch.float64, expected float32, float16 or bfloat16"),
        ({QUERY: torch.full((32, 32), torch.nan)}, f"{QUERY} holds NaN or Inf"),
        ({TIED: torch.ones(120, 32)}, f"{TIED} differs from {WORDS}, which the original ties it to"),
        ({WORDS[8:]: torch.ones(120, 32)}, f"{WORDS} and {WORDS[8:]} are both bert.embeddings.word_embeddings.weight"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_key_or_shape_that_does_not_fit_is_named(flat_file, refused, changes, message):
    refused(flat_file(changes=changes), message, "--num_attention_heads", "4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [],
            "hidden size 32 is not a multiple of 64, so its number of heads is not known; give --num_attention_heads",
        ),
        (["--num_attention_heads", "5"], "hidden_size=32 is not a multiple of num_attention_heads=5"),
        (["--num_attention_heads", "0"], "num_attention_heads=0: expected at least 1"),
        (["--num_attention_heads", "4", "--layer_norm_eps", "-1"], "layer_norm_eps=-1.0: expected a positive number"),
    ],
    ids=str,
)
def test_options_that_make_no_model(flat_file, refused, options, message):
    refused(flat_file(), message, *options)


def test_a_boundary_head_of_another_layer_is_refused(fairseq_checkpoint, refused):
    refused(fairseq_checkpoint(pair_target_layer=0), "its boundary head was trained on layer 0 (pair_target_layer)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"hidden_size": 64}',
            "config.json says hidden_size=64, but model.pt has 32: the two do not belong together",
        ),
        ('{"hidden_size": ', "config.json is not JSON"),
        ("[]", "config.json is not a JSON object"),
        ('{"num_attention_heads": "4"}', "num_attention_heads"),
    ],
)
def test_a_config_json_that_does_not_fit(flat_file, refused, content, message):
    path = flat_file()
    path.with_name("config.json").write_text(content)
    refused(path, message, *(["--num_attention_heads", "4"] if "num" not in content else []))


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (PIECES[:-1], "has 119 pieces, but the model has 120 word embeddings; give --vocab_file"),
        ([*PIECES, "more"], "has 121 pieces, but the model has 120 word embeddings"),
        ([*PIECES[1:], "[PAD]"], "has [PAD] at 119, but the model's pad_token_id is 0"),
        ([*PIECES[:-1], "wins"], "has duplicate lines: 7 'wins', 120 'wins'; every piece may occur once"),
        ([*PIECES[:-2], "", "x"], "has empty lines: 119"),
        (["[pad]", *PIECES[1:]], "has no line [PAD]; add what is missing"),
        (["[PAD] 9", *PIECES[1:]], "has no line [PAD]; add what is missing"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_vocabulary_that_is_not_the_models(flat_file, tmp_path, refused, pieces, message):
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    vocab_file = ["--vocab_file", str(tmp_path / "vocab.txt")]
    refused(flat_file(), message, "--num_attention_heads", "4", *vocab_file)


def test_a_vocabulary_that_is_not_there(flat_file, tmp_path, refused):
    refused(flat_file(), "no.txt", "--num_attention_heads", "4", "--vocab_file", str(tmp_path / "no.txt"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_short(flat_file, refused, share, zipped):
    path = flat_file(zipped=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, "is not whole weights of PyTorch (", "--num_attention_heads", "4")


def test_files_that_are_no_weights(flat_file, tmp_path, refused):
    cut = flat_file("cut/model.safetensors")
    cut.write_bytes(cut.read_bytes()[:1000])
    refused(cut, "is not a whole safetensors file")
    (tmp_path / "text.pt").write_text("<html>not found</html>")
    refused(tmp_path / "text.pt", "is not whole weights of PyTorch")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "holds a list; expected a fairseq checkpoint")
    refused(tmp_path / "absent.pt", "absent.pt is not there; expected")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty has no weights; expected")
    flat_file("two/checkpoint_best.pt"), flat_file("two/checkpoint_last.pt")
    refused(tmp_path / "two", "two has checkpoint_best.pt, checkpoint_last.pt; give one of them")


def test_a_folder_in_use_is_left_as_it_is(flat_file, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert main(["convert", str(flat_file()), str(tmp_path / "out"), "--num_attention_heads", "4"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'out'} exists and is not empty; give a new folder\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_failure_in_between_leaves_nothing(flat_file, tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("reads back otherwise")

    monkeypatch.setattr(export_module, "verify", fail)
    (tmp_path / "out.partial").mkdir()  # someone's own
    with pytest.raises(ValueError, match=r"does not compute or read back \(reads back otherwise\); fetch"):
        convert(flat_file(), tmp_path / "out", num_attention_heads=4)
    assert [path.name for path in tmp_path.glob("out*")] == ["out.partial"]


@pytest.mark.parametrize(
    ("key", "tensor", "message"),
    [
        (1, torch.ones(2), "the key 1 is a int, not text"),
        (("a",), torch.ones(2), "the key ('a',) is a tuple, not text"),
        ("a\ud800", torch.ones(2), r"unknown key 'a\ud800'"),
        ("coo", torch.eye(2).to_sparse(), "'coo' is torch.sparse_coo, expected a dense tensor"),
        ("csr", torch.eye(2).to_sparse_csr(), "'csr' is torch.sparse_csr, expected a dense tensor"),
        ("meta", torch.empty(2, device="meta"), "'meta' is without numbers, expected a dense tensor"),
        ("nested", torch.nested.nested_tensor([torch.zeros(2)]), "'nested' is nested, expected a dense tensor"),
    ],
)
def test_odd_keys_and_tensors_are_one_line(flat_file, refused, key, tensor, message):
    refused(flat_file(changes={key: tensor}), message, "--num_attention_heads", "4")


def test_the_module_is_the_same_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["convert_original_checkpoint.py", str(tmp_path / "absent.pt"), "out"])
    monkeypatch.delitem(sys.modules, "modeling_spanbert.convert_original_checkpoint")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("modeling_spanbert.convert_original_checkpoint", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'absent.pt'} is not there")
