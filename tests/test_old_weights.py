"""Weights as they were published over the years load key for key, say what is new, and BERT's classes read ours."""

import json

import pytest
import torch
import transformers
from helpers import tiny_config, tiny_tokenizer
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertTokenizer

import modeling_spanbert
from modeling_spanbert import SpanBertForPreTraining, SpanBertModel, SpanBertTokenizer
from training.vocabulary import load_tokenizer


# What each class has that an encoder without pooler has not.
TRANSFORM = [f"cls.predictions.transform.{name}" for name in ("dense", "LayerNorm")]
BOUNDARY = [f"cls.span_boundary.{name}" for name in ("dense1", "dense2", "norm1", "norm2")]
NEW = {
    "SpanBertModel": [],
    "SpanBertForMaskedLM": ["cls.predictions.bias", *TRANSFORM],
    "SpanBertForPreTraining": [
        "cls.predictions.bias",
        *TRANSFORM,
        "cls.span_boundary.bias",
        "cls.span_boundary.span_position_embeddings.weight",
        *BOUNDARY,
    ],
    "SpanBertForQuestionAnswering": ["qa_outputs"],
    "SpanBertForRelationExtraction": ["bert.pooler.dense", "classifier"],
    "SpanBertForSequenceClassification": ["bert.pooler.dense", "classifier"],
    "SpanBertForTokenClassification": ["classifier"],
}
# Historic shapes: what the file has beside the encoder, and how it is written.
SHAPES = {
    "google_2018": {"has": "pooler mlm nsp", "names": "gamma beta", "file": "bin", "model_type": None},
    "spanbert_2019": {"has": "", "names": "", "file": "bin", "model_type": None},
    "spanbert_on_the_hub": {"has": "", "names": "", "file": "bin", "model_type": "bert", "dtype": torch.float16},
    "spanbert_gamma_beta": {"has": "mlm sbo", "names": "gamma beta", "file": "bin", "model_type": "spanbert"},
    "bare_encoder": {"has": "pooler", "names": "bare", "file": "bin", "model_type": "bert"},
    "bare_gamma_beta": {"has": "", "names": "bare gamma beta", "file": "safetensors", "model_type": None},
    "transformers_2": {"has": "pooler mlm nsp extras", "names": "", "file": "bin", "model_type": "bert"},
    "bare_with_extras": {"has": "pooler extras", "names": "bare", "file": "bin", "model_type": None},
    "today": {"has": "pooler mlm", "names": "", "file": "safetensors", "model_type": "bert"},
    "ours_in_fp16": {
        "has": "mlm sbo",
        "names": "",
        "file": "safetensors",
        "model_type": "spanbert",
        "dtype": torch.float16,
    },
}
PARTS = {
    "pooler": "bert.pooler.",
    "mlm": "cls.predictions.",
    "nsp": "cls.seq_relationship.",
    "sbo": "cls.span_boundary.",
}


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Random weights of all objectives under today's names; the tied decoders are left out."""
    torch.manual_seed(0)
    model = SpanBertForPreTraining(tiny_config(objectives=["mlm", "nsp", "sbo"]))
    weights = {key: torch.randn_like(value) for key, value in model.state_dict().items()}
    return {key: value for key, value in weights.items() if not key.endswith("decoder.weight")}


@pytest.fixture(params=SHAPES)
def old_folder(request, tensors, tmp_path):
    """The folder of a shape, and the weights that it has under today's names."""
    shape = SHAPES[request.param]
    prefixes = ("bert.embeddings.", "bert.encoder.", *(PARTS[part] for part in shape["has"].split() if part in PARTS))
    held = {key: value.to(shape.get("dtype")) for key, value in tensors.items() if key.startswith(prefixes)}

    written = {}
    for key, value in held.items():
        if "gamma" in shape["names"] and "LayerNorm" in key:
            key = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        written[key.removeprefix("bert.") if "bare" in shape["names"] else key] = value
    if "extras" in shape["has"]:
        prefix = "" if "bare" in shape["names"] else "bert."
        written[f"{prefix}embeddings.position_ids"] = torch.arange(64)[None]
        if "mlm" in shape["has"]:
            written["cls.predictions.decoder.bias"] = held["cls.predictions.bias"].clone()
            written["cls.predictions.decoder.weight"] = held["bert.embeddings.word_embeddings.weight"].clone()
    if shape["file"] == "bin":
        torch.save(written, tmp_path / "pytorch_model.bin")
    else:
        save_file(written, tmp_path / "model.safetensors", metadata={"format": "pt"})

    fields = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    config = {name: getattr(tiny_config(), name) for name in (*fields, "max_position_embeddings", "type_vocab_size")}
    config |= {"directionality": "bidi", "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02}
    if shape["model_type"]:
        config["model_type"] = shape["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path, held


@pytest.mark.parametrize("name", NEW)
def test_old_weights_load_key_for_key_and_what_is_new_is_named(name, old_folder):
    folder, held = old_folder
    model, info = getattr(modeling_spanbert, name).from_pretrained(folder, output_loading_info=True)
    prefix = "bert." if name == "SpanBertModel" else ""
    loaded = {prefix + key: value for key, value in model.state_dict().items()}

    for key in loaded.keys() & held.keys():
        assert loaded[key].dtype == held[key].dtype and torch.equal(loaded[key], held[key]), key
    assert {key for key in held if key.startswith(("bert.embeddings.", "bert.encoder."))} <= loaded.keys()
    new = {key for key in loaded if key.startswith(tuple(NEW[name])) and NEW[name]}
    assert info["missing_keys"] == new - held.keys()
    assert not info["mismatched_keys"]

    if name in ("SpanBertModel", "SpanBertForPreTraining"):  # transformers names what these leave out
        unused = {key.removeprefix("bert.") for key in held.keys() - loaded.keys()}
        unexpected = {key.removeprefix("bert.") for key in info["unexpected_keys"]}
        assert unexpected - {"cls.predictions.decoder.weight"} == unused
    else:  # that a task does without the heads of pre-training needs no alarm
        assert not info["unexpected_keys"]
    decoders = [module.decoder for module in model.modules() if hasattr(module, "decoder")]
    assert all(decoder.weight is model.get_input_embeddings().weight for decoder in decoders)
    with torch.no_grad():
        assert all(value.isfinite().all() for value in model.float()(torch.tensor([[2, 9, 3]])).values())


def test_fp16_weights_are_read_into_fp32_on_request(tensors, tmp_path):
    held = {key: value.half() for key, value in tensors.items() if "pooler" not in key and key.startswith("bert.")}
    torch.save(held, tmp_path / "pytorch_model.bin")
    tiny_config().save_pretrained(tmp_path)
    model = SpanBertModel.from_pretrained(tmp_path, dtype=torch.float32)
    for key, value in model.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, held[f"bert.{key}"].float())


@pytest.mark.parametrize("name", ["ForQuestionAnswering", "ForSequenceClassification", "ForTokenClassification"])
def test_fine_tuned_bert_loads_with_its_head_and_equal_outputs(name, tmp_path):
    torch.manual_seed(0)
    fields = {
        key: value for key, value in tiny_config().to_dict().items() if key in transformers.BertConfig().to_dict()
    }
    num_labels = 2 if name == "ForQuestionAnswering" else 3
    fields |= {"model_type": "bert", "initializer_range": 0.2, "num_labels": num_labels}
    bert = getattr(transformers, f"Bert{name}")(transformers.BertConfig(**fields)).eval()
    bert.save_pretrained(tmp_path)
    ours, info = getattr(modeling_spanbert, f"SpanBert{name}").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    compare(ours.eval(), bert)


@pytest.mark.parametrize(
    ("saved", "read"),
    [
        ("SpanBertForPreTraining", "BertModel"),
        ("SpanBertForPreTraining", "BertForMaskedLM"),
        ("SpanBertForPreTraining", "BertForPreTraining"),
        ("SpanBertModel", "BertModel"),
        ("SpanBertForMaskedLM", "BertForMaskedLM"),
        ("SpanBertForQuestionAnswering", "BertForQuestionAnswering"),
        ("SpanBertForSequenceClassification", "BertForSequenceClassification"),
        ("SpanBertForTokenClassification", "BertForTokenClassification"),
    ],
)
def test_plain_bert_classes_read_our_weights_with_equal_outputs(saved, read, tmp_path):
    torch.manual_seed(0)
    config = tiny_config(initializer_range=0.2, objectives=["mlm", "nsp", "sbo"])
    getattr(modeling_spanbert, saved)(config).save_pretrained(tmp_path)
    bert, info = getattr(transformers, read).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    compare(getattr(modeling_spanbert, f"Span{read}").from_pretrained(tmp_path).eval(), bert.eval())


def compare(ours, theirs) -> None:
    """Equal outputs for a padded batch of pairs; at padding, which ours leaves out, there are none to compare."""
    batch = {"input_ids": torch.randint(5, 100, (3, 12), generator=torch.Generator().manual_seed(0))}
    batch["attention_mask"] = (torch.arange(12) < torch.tensor([[12], [7], [9]])).long()
    batch["token_type_ids"] = (torch.arange(12) > 5).long().expand(3, 12)
    with torch.no_grad():
        found, expected = ours(**batch), theirs(**batch)
    assert found.keys() == expected.keys() and len(found)
    real = batch["attention_mask"] == 1
    for key in found:
        places = real if expected[key].shape[:2] == real.shape else ...
        assert torch.allclose(found[key][places], expected[key][places], atol=1e-5), key


# Tokenizers


@pytest.fixture
def vocabulary_only(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*tiny_tokenizer().get_vocab(), "London"]) + "\n")
    return tmp_path


def test_a_vocabulary_alone_is_taken_as_cased_and_says_so(vocabulary_only, caplog, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(vocabulary_only)
    assert tokenizer.tokenize("London") == ["London"] and tokenizer.model_max_length == 512
    [message] = caplog.messages
    assert "does not say whether to lower-case" in message and str(vocabulary_only) in message and "\n" not in message

    tokenizer.save_pretrained(tmp_path / "saved")  # a plain one, for programs without this package
    config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert (config["tokenizer_class"], config["do_lower_case"]) == ("BertTokenizer", False)
    assert "auto_map" not in config
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(again) is type(tokenizer) is BertTokenizer and again.tokenize("London") == ["London"]
    assert again("London").keys() == {"input_ids", "token_type_ids", "attention_mask"}


@pytest.mark.parametrize("told_by", ["caller", "repository"])
def test_who_says_lower_case_gets_it_without_a_word(told_by, vocabulary_only, caplog):
    told = {"do_lower_case": True}
    if told_by == "repository":
        (vocabulary_only / "tokenizer_config.json").write_text(json.dumps(told))
    tokenizer = AutoTokenizer.from_pretrained(vocabulary_only, **(told if told_by == "caller" else {}))
    assert tokenizer.tokenize("The") == ["the"] and not caplog.messages


@pytest.mark.parametrize("lower_cases", [True, False])
def test_a_normalizer_alone_decides(lower_cases, tmp_path):
    tiny_config().save_pretrained(tmp_path)
    pieces = [*tiny_tokenizer().get_vocab(), "London", "london"]
    tokenizer = BertTokenizer(vocab={piece: id for id, piece in enumerate(pieces)}, do_lower_case=lower_cases)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert SpanBertTokenizer.from_pretrained(tmp_path).tokenize("London") == ["london" if lower_cases else "London"]


def test_a_vocabulary_without_capitals_lower_cases(tmp_path, caplog):
    tiny_config().save_pretrained(tmp_path)
    pieces = [piece for piece in tiny_tokenizer().get_vocab() if piece == piece.lower() or piece.startswith("[")]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    assert AutoTokenizer.from_pretrained(tmp_path).tokenize("The") == ["the"]
    assert load_tokenizer(str(tmp_path)).tokenize("The") == ["the"]
    assert "taken as lower-casing" in caplog.messages[0] and "it has no capitals" in caplog.messages[1]
