"""Original SpanBERT weights (https://github.com/facebookresearch/SpanBERT) -> a folder that `from_pretrained` reads.

    python -m modeling_spanbert.convert_original_checkpoint model.pt spanbert-large-cased --vocab_file vocab.txt

or, the same, `spanbert convert …`. It takes what the authors' programs write and what they released:

* a checkpoint of their pre-training (fairseq): {args, model, optimizer_history, last_optimizer_state, extra_state};
* `model.pt` of spanbert_large_with_head: the encoder and the heads, the boundary head among them;
* `pytorch_model.bin`: the encoder alone; and the same keys in a `.safetensors` file.

Nothing that a pickle names is run: it may hold tensors and the few classes of `ORIGINAL_CLASSES`, which are replaced
by empty ones; any other is refused by its name before it is made.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import BertTokenizer

from .configuration_spanbert import SpanBertConfig
from .export import flush, verify
from .modeling_spanbert import SpanBertForPreTraining, SpanBertModel, SpanBertPreTrainedModel
from .vocabulary import bert_tokenizer, has_capitals, read_vocab


class OriginalObject:
    """Takes the attributes of an object of the original program, and none of its code."""


# All that a checkpoint of the original program pickles, beside tensors, numbers, text and their containers.
ORIGINAL_CLASSES = [
    argparse.Namespace,
    *(
        (OriginalObject, f"fairseq.{name}")
        for name in (
            "meters.AverageMeter",
            "meters.StopwatchMeter",
            "meters.TimeMeter",
            "models.hf_bert.BertConfig",  # in `args.config`
            "models.pair_bert.BertConfig",
        )
    ),
]

WEIGHTS = ("*.pt", "*.bin", "*.safetensors")
EXPECTED = "expected a fairseq checkpoint, model.pt, pytorch_model.bin or .safetensors of SpanBERT"

ENCODER = ("embeddings", "encoder", "pooler")  # what the keys of an encoder without prefix start with
BOUNDARY_HEAD = {
    "pair_target_predictions.position_embeddings": "span_boundary.span_position_embeddings",
    "pair_target_predictions.mlp_layer_norm.linear": "span_boundary.dense",
    "pair_target_predictions.mlp_layer_norm.layer_norm": "span_boundary.norm",
    "pair_target_predictions": "span_boundary",
}

# What weights do not tell. The checkpoint's own `args` are asked, then config.json beside it, then the command line.
FIELDS = (
    "num_attention_heads",
    "layer_norm_eps",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "pad_token_id",
)


# What a config.json beside the weights may not say otherwise.
TOLD_BY_SHAPES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


@dataclass
class Original:
    """What a file of the authors holds: tensors under its own names, and what was beside them."""

    tensors: dict[str, torch.Tensor]
    args: dict = field(default_factory=dict)
    num_updates: int | None = None
    not_carried_over: list[str] = field(default_factory=list)


def convert(
    source: str | os.PathLike,
    output_dir: str | os.PathLike,
    vocab_file: str | os.PathLike | None = None,
    num_attention_heads: int | None = None,
    layer_norm_eps: float | None = None,
) -> list[str]:
    """Writes the model of `source`, a file or a folder with one, into the new folder `output_dir`.

    Numbers stay exactly what they are; fp16 and bf16 are written as fp32, which holds all of them. The vocabulary is
    `vocab_file`, else a vocab.txt beside the weights. Returns what there is to say of it, line by line.

    Raises:
        ValueError: the file is not of the original program, or names code; a key, a shape, the vocabulary or a
            configuration does not fit; `output_dir` is not empty; what was written does not read back as the model.
            Nothing is written then.
        OSError: a file is not there, or cannot be read or written.
    """
    output_dir = Path(output_dir).expanduser()
    if output_dir.is_file() or (output_dir.is_dir() and any(output_dir.iterdir())):
        raise ValueError(f"{output_dir} exists and is not empty; give a new folder")
    file = weights_file(Path(source).expanduser())
    original = read_original(file)
    beside = json_object(file.with_name("config.json"))
    options = {"num_attention_heads": num_attention_heads, "layer_norm_eps": layer_norm_eps}
    settings, origins = {}, dict.fromkeys(FIELDS, "by default")
    for values, origin in ((original.args, "from its args"), (beside, "from config.json"), (options, "as given")):
        known = {name: values[name] for name in FIELDS if values.get(name) is not None}
        settings |= known
        origins |= dict.fromkeys(known, origin)
    try:
        model = model_of(original.tensors, settings)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    refuse_contradictions(file, model.config, beside, original.args)
    tokenizer, told = tokenizer_of(file, vocab_file, model.config)
    write(model, tokenizer, output_dir)

    return [*description(file, original, model, origins), *told, how_to_load(model, output_dir)]


def description(file: Path, original: Original, model: SpanBertPreTrainedModel, origins: dict[str, str]) -> list[str]:
    """What was read, what it became, where each field of its configuration is from, and what was left."""
    config = model.config
    stored = "/".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in original.tensors.values()}))
    after = f" after {original.num_updates} updates" if original.num_updates is not None else ""
    lines = [
        f"read {file}{after}: {len(original.tensors)} tensors in {stored}",
        f"{config.num_hidden_layers} layers, hidden size {config.hidden_size}, vocabulary {config.vocab_size}, "
        f"{config.max_position_embeddings} positions: {model.num_parameters():,} parameters, written in float32",
    ]
    for origin in dict.fromkeys(origins.values()):
        fields = [f"{name}={getattr(config, name)}" for name in FIELDS if origins[name] == origin]
        lines.append(f"{origin}: {', '.join(fields)}")
    if isinstance(model, SpanBertModel):
        lines.append(f"the encoder alone, no heads; objectives for training it on: {', '.join(config.objectives)}")
    else:
        positions = f"; {config.max_span_positions} span positions of size {config.span_position_size}"
        lines.append(f"objectives: {', '.join(config.objectives)}{positions if 'sbo' in config.objectives else ''}")
    if original.not_carried_over:
        lines.append(f"not carried over: {', '.join(original.not_carried_over)}")
    return lines


def how_to_load(model: SpanBertPreTrainedModel, output_dir: Path) -> str:
    name = type(model).__name__
    load = f"model = {name}.from_pretrained({str(output_dir)!r})"
    return f"the model is in {output_dir}: from modeling_spanbert import {name}; {load}"


# Reading


def weights_file(source: Path) -> Path:
    """The file of weights that `source` is, or that the folder `source` has."""
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there; {EXPECTED}, or a folder with one")
    if source.is_file():
        return source
    files = sorted(path for pattern in WEIGHTS for path in source.glob(pattern))
    if len(files) != 1:
        found = f"has {', '.join(path.name for path in files)}; give one of them" if files else "has no weights"
        raise ValueError(f"{source} {found}; {EXPECTED}")
    return files[0]


def read_original(file: Path) -> Original:
    """The content of a file of weights. Raises ValueError for anything but weights, in one line."""
    if file.suffix == ".safetensors":
        try:
            content = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is not a whole safetensors file ({error}); fetch it again") from None
    else:
        content = read_pickle(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; {EXPECTED}")
    original = Original(content)
    if isinstance(content.get("model"), dict):
        args = content.get("args")
        if isinstance(args, argparse.Namespace):
            own_config = getattr(args, "config", None)
            original.args = vars(args) | (vars(own_config) if isinstance(own_config, OriginalObject) else {})
            # Their baselines without the boundary head (`hf_bert.py`); `pair_bert.py` has 1e-12.
            if "bert_hf" in str(original.args.get("arch")):
                original.args["layer_norm_eps"] = 1e-5
        history = content.get("optimizer_history")
        if isinstance(history, list) and history and isinstance(history[-1], dict):
            num_updates = history[-1].get("num_updates")
            original.num_updates = num_updates if isinstance(num_updates, int) else None
        original.tensors = content["model"]
        original.not_carried_over = [str(key) for key in content if key not in ("args", "model")]
    for key, tensor in original.tensors.items():
        if not isinstance(key, str):
            raise ValueError(f"{file}: the key {key!a} is a {type(key).__name__}, not text; {EXPECTED}")
        if not torch.is_tensor(tensor):
            raise ValueError(f"{file}: {key!a} is a {type(tensor).__name__}, not a tensor; {EXPECTED}")
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
            kind = "nested" if tensor.is_nested else "without numbers" if tensor.is_meta else str(tensor.layout)
            raise ValueError(f"{file}: {key!a} is {kind}, expected a dense tensor; {EXPECTED}")
    return original


def read_pickle(file: Path) -> object:
    """What `torch.save` wrote, in its present or its old format, once it is sure that it is data alone."""
    with file.open("rb") as opened:
        zipped = opened.read(4) == b"PK\x03\x04"
    try:
        with torch.serialization.safe_globals(ORIGINAL_CLASSES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on what it is about to refuse
            # Mapped: the optimizer's state, twice the model, stays on the disk.
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # of a foreign file torch raises many kinds, most in many lines
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{file} is refused, and nothing in it was run: it names {refused[1]}, where only tensors and the "
                "meters, args and BertConfig of fairseq belong; get the file from its authors, or save its tensors "
                "alone as .safetensors"
            ) from None
        reason = re.split(r"\n|\. ", str(error).rpartition("WeightsUnpickler error: ")[2].strip())[0]
        raise ValueError(
            f"{file} is not whole weights of PyTorch ({type(error).__name__}: {reason}); {EXPECTED}"
        ) from None


def json_object(file: Path) -> dict:
    """The content of a config.json; nothing, where there is none."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}); mend it or move it away") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a JSON object; mend it or move it away")
    return content


# Translating


def our_name(key: str) -> str:
    """Our name of an original parameter: BERT's, with `cls.span_boundary` for their `cls.pair_target_predictions`."""
    name = key.removeprefix("decoder.")
    if name.split(".")[0] in ENCODER:
        name = f"bert.{name}"
    name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
    if name.startswith("cls.pair_target_predictions."):
        for theirs, ours in BOUNDARY_HEAD.items():
            name = name.replace(theirs, ours)
    return name


def model_of(tensors: dict[str, torch.Tensor], settings: dict) -> SpanBertForPreTraining | SpanBertModel:
    """The model, in fp32, of tensors under the original's names; `settings` are fields that no shape tells.

    With heads it is a `SpanBertForPreTraining` of the objectives that they are for, without a `SpanBertModel`.

    Raises ValueError in one line for keys that are unknown, missing or twice there, for shapes and types that do not
    fit, and for output embeddings that are not the word embeddings (the original ties them).
    """
    keys = {}
    for key in tensors:
        if (name := our_name(key)) in keys:
            raise ValueError(f"{keys[name]} and {key} are both {name}; expected one of them")
        keys[name] = key
    weights = {name: tensors[key] for name, key in keys.items()}
    fields = sizes(weights)
    if "num_attention_heads" not in settings and fields["hidden_size"] % 64:
        raise ValueError(
            f"hidden size {fields['hidden_size']} is not a multiple of 64, so its number of heads is not known; "
            "give --num_attention_heads"
        )
    try:
        config = SpanBertConfig(**(fields | settings))
    except StrictDataclassError as error:
        raise ValueError(" ".join(str(error.__cause__ or error).split())) from None
    with_heads = any(name.startswith("cls.") for name in weights)
    with torch.device("meta"):  # shapes alone: every tensor is replaced below
        model = (SpanBertForPreTraining if with_heads else SpanBertModel)(config)
    if not with_heads:
        weights = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
        keys = {name.removeprefix("bert."): key for name, key in keys.items()}

    expected = model.state_dict()
    tied = dict(model._tied_weights_keys or {}) if with_heads else {}
    copies = tied | {"cls.predictions.decoder.bias": "cls.predictions.bias"}  # its second name in transformers' BERT
    known = expected | {copy: expected[source] for copy, source in copies.items() if source in expected}
    for name, tensor in weights.items():
        if name not in known:
            raise ValueError(
                f"unknown key {keys[name]!a}; expected the parameters of SpanBERT and its pre-training heads"
            )
        if tensor.shape != known[name].shape:
            found, fitting = tuple(tensor.shape), tuple(known[name].shape)
            raise ValueError(f"{keys[name]} is {found}, expected {fitting} by the other shapes; fetch the file again")
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"{keys[name]} is {tensor.dtype}, expected float32, float16 or bfloat16")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{keys[name]} holds NaN or Inf; give an earlier checkpoint")
    if missing := [name for name in expected if name not in weights and name not in tied]:
        raise ValueError(f"{missing[0]} is missing ({len(missing)} tensors in all); fetch the file again")
    for copy, source in copies.items():
        if copy in weights and not torch.equal(weights.pop(copy), weights[source]):
            raise ValueError(
                f"{keys[copy]} differs from {keys[source]}, which the original ties it to; fetch it again"
            )

    weights = {name: tensor.float() for name, tensor in weights.items()}
    model.load_state_dict(weights | {copy: weights[source] for copy, source in tied.items()}, assign=True)
    model.tie_weights()
    return model.eval()


def sizes(weights: dict[str, torch.Tensor]) -> dict:
    """What the shapes and the names of all parameters tell of the configuration."""

    def shape(name: str) -> torch.Size:
        if name not in weights:
            raise ValueError(f"{name} is missing; {EXPECTED}")
        if weights[name].dim() != 2:
            raise ValueError(f"{name} is {tuple(weights[name].shape)}, expected two dimensions")
        return weights[name].shape

    embeddings = "bert.embeddings.{}_embeddings.weight"
    layers = {match[1] for name in weights if (match := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))}
    fields = {
        "vocab_size": shape(embeddings.format("word"))[0],
        "hidden_size": shape(embeddings.format("word"))[1],
        "max_position_embeddings": shape(embeddings.format("position"))[0],
        "type_vocab_size": shape(embeddings.format("token_type"))[0],
        "num_hidden_layers": len(layers),
        "intermediate_size": shape("bert.encoder.layer.0.intermediate.dense.weight")[0],
        "num_attention_heads": shape(embeddings.format("word"))[1] // 64,
    }
    has_boundary_head = any(name.startswith("cls.span_boundary.") for name in weights)
    if has_boundary_head:
        positions = shape("cls.span_boundary.span_position_embeddings.weight")
        fields |= {"max_span_positions": positions[0], "span_position_size": positions[1]}
    objectives = ["mlm"]
    if any(name.startswith(("bert.pooler.", "cls.seq_relationship.")) for name in weights):
        objectives.append("nsp")
    # Of an encoder alone nothing tells; what a SpanBERT is trained on, then.
    if has_boundary_head or not any(name.startswith("cls.") for name in weights):
        objectives.append("sbo")
    return fields | {"objectives": objectives}


def refuse_contradictions(file: Path, config: SpanBertConfig, beside: dict, args: dict) -> None:
    """Raises ValueError where the weights and what is said of them are of different models."""
    for name in TOLD_BY_SHAPES:
        if beside.get(name) not in (None, getattr(config, name)):
            raise ValueError(
                f"{file.with_name('config.json')} says {name}={beside[name]}, but {file.name} has "
                f"{getattr(config, name)}: the two do not belong together; move the wrong one away"
            )
    layer = args.get("pair_target_layer", -1)
    if "sbo" in config.objectives and layer not in (-1, config.num_hidden_layers - 1):
        raise ValueError(
            f"{file}: its boundary head was trained on layer {layer} (pair_target_layer), and this model's reads the "
            "last one; it cannot be converted"
        )


# Writing


def tokenizer_of(
    file: Path, vocab_file: str | os.PathLike | None, config: SpanBertConfig
) -> tuple[BertTokenizer | None, list[str]]:
    """The tokenizer of the given vocabulary or of a vocab.txt beside the weights, and what there is to say of it."""
    path = Path(vocab_file).expanduser() if vocab_file else file.with_name("vocab.txt")
    if not vocab_file and not path.is_file():
        return None, [
            "note: no tokenizer was written; to have one, convert again with --vocab_file, a vocab.txt or an original "
            "dict.txt (the released SpanBERT has the vocabulary of bert-base-cased)"
        ]
    pieces = read_vocab(path)
    if len(pieces) != config.vocab_size:
        raise ValueError(
            f"{path} has {len(pieces)} pieces, but the model has {config.vocab_size} word embeddings; give "
            "--vocab_file with the vocabulary that it was trained with"
        )
    cased = has_capitals(pieces)
    tokenizer = bert_tokenizer(path, pieces, do_lower_case=not cased, model_max_length=config.max_position_embeddings)
    if tokenizer.pad_token_id != config.pad_token_id:
        raise ValueError(
            f"{path} has [PAD] at {tokenizer.pad_token_id}, but the model's pad_token_id is {config.pad_token_id}; "
            "give --vocab_file with the vocabulary that it was trained with"
        )
    kind = "cased" if cased else "lower-casing, because no piece has a capital"
    return tokenizer, [f"tokenizer: {kind}, {len(pieces)} pieces of {path}"]


def write(model: SpanBertPreTrainedModel, tokenizer: BertTokenizer | None, output_dir: Path) -> None:
    """Writes model, code and tokenizer; `output_dir` is there only once they have been read back."""
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{output_dir.name}.partial-", dir=output_dir.parent) as scratch:
        partial = Path(scratch, output_dir.name)
        model.save_pretrained(partial)  # brings the modelling file and its flat siblings along
        if tokenizer is not None:
            tokenizer.save_pretrained(partial)
        try:
            verify(model, partial)
        except RuntimeError as error:  # numbers so large that outputs are not, or a bad disk
            raise ValueError(
                f"the converted model does not compute or read back ({error}); fetch the file again"
            ) from None
        flush(partial)
        partial.rename(output_dir)


if __name__ == "__main__":
    from .__main__ import main

    sys.exit(main(["convert", *sys.argv[1:]]))
