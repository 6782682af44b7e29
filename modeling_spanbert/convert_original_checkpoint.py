"""Weights of other programs -> an export: what `from_pretrained`, the Hub and `spanbert push` take.

    spanbert convert model.pt spanbert-large-cased --vocab_file vocab.txt
    spanbert convert squad2.tar.gz spanbert-large-cased-squad2 --vocab_file vocab.txt
    spanbert convert SpanBERT/spanbert-base-cased spanbert-base-cased

or `python -m modeling_spanbert.convert_original_checkpoint …`. It takes a file, a folder, a .tar.gz or a repository of
the Hub with

* the released encoders: `pytorch_model.bin`, fp16 or not, `config.json` with or without `model_type`;
* `model.pt` of spanbert_large_with_head: the encoder and the heads, the boundary head among them;
* a checkpoint of the original pre-training (fairseq): {args, model, optimizer_history, last_optimizer_state, …};
* what run_squad.py, run_mrqa.py, run_glue.py and run_tacred.py leave: `qa_outputs` or `classifier`;
* a coreference model of coref-hoi, the PyTorch port of the original's;
* the same keys in a `.safetensors` file.

Nothing that a pickle names is run (`original_files`).
"""

import hashlib
import os
import platform
import shlex
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import BertTokenizer

from .configuration_spanbert import SpanBertConfig
from .export import SNIPPET, export
from .files import read_json, require
from .modeling_spanbert import (
    SpanBertForPreTraining,
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
    SpanBertForSequenceClassification,
    SpanBertForTokenClassification,
    SpanBertModel,
    SpanBertPreTrainedModel,
)
from .modeling_spanbert_coref import SpanBertForCoreference
from .original_files import (
    Original,
    fetched,
    json_object,
    names_a_repository,
    no_answer_threshold,
    read_original,
    unpacked,
    weights_file,
)
from .original_names import class_of, left_out, new_heads, our_name, sizes
from .vocabulary import bert_tokenizer, has_capitals, read_vocab


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

# The part of the card that says how a model is used, and the Hub's name of what it does.
FEATURES = """\
from transformers import pipeline

extract = pipeline("feature-extraction", model={model}, trust_remote_code=True)
vectors = extract("Ada Lovelace works at a library in London.")[0]
print(len(vectors), "pieces,", len(vectors[0]), "numbers each")
"""
ANSWER = """\
from transformers import pipeline

answer = pipeline("span-question-answering", model={model}, trust_remote_code=True)
print(answer(question="Where does Ada work?", context="Ada Lovelace works at a library in London."))
"""
CLASSIFY = """\
from transformers import pipeline

classify = pipeline("TASK", model={model}, trust_remote_code=True)
print(classify("Ada Lovelace works at a library in London."))
"""
RELATE = """\
from modeling_spanbert import RelationExtractor

extract = RelationExtractor.from_pretrained({model})
text = "Ada Lovelace works at a library in London."
print(extract(text=text, subject=(0, 12), object=(35, 41), subject_type=SUBJECT, object_type=OBJECT))
"""
RESOLVE = """\
from modeling_spanbert import CoreferenceResolver

resolve = CoreferenceResolver.from_pretrained({model})
print(resolve.predict("Ada saw the Queen. She waved at her.").strings())
"""
USES = {
    SpanBertModel: ("feature-extraction", FEATURES),
    SpanBertForPreTraining: ("fill-mask", SNIPPET),
    SpanBertForQuestionAnswering: ("question-answering", ANSWER),
    SpanBertForSequenceClassification: ("text-classification", CLASSIFY.replace("TASK", "text-classification")),
    SpanBertForTokenClassification: ("token-classification", CLASSIFY.replace("TASK", "token-classification")),
    SpanBertForRelationExtraction: ("text-classification", RELATE),
    SpanBertForCoreference: ("token-classification", RESOLVE),  # the Hub has no name for it
}


@dataclass
class Task:
    """What a fine-tuned model needs beside its weights: fields of its configuration, and what there is to say."""

    fields: dict = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


def convert(
    source: str | os.PathLike,
    output_dir: str | os.PathLike,
    vocab_file: str | os.PathLike | None = None,
    num_attention_heads: int | None = None,
    layer_norm_eps: float | None = None,
    tacred_dir: str | os.PathLike | None = None,
    revision: str | None = None,
) -> list[str]:
    """Writes the model of `source`, a file, a folder or an archive, as an export into the new folder `output_dir`.

    Where there is no `source` here, and it is OWNER/NAME, it is that repository of the Hub, at `revision`.

    Numbers stay exactly what they are; fp16 and bf16 are written as fp32, which holds all of them. The vocabulary is
    `vocab_file`, else a vocab.txt beside the weights. Returns what there is to say of it, line by line.

    Args:
        tacred_dir: of a classifier that run_tacred.py trained, the folder with its train.json and, if it had one,
            dev.json: in them are the names of the relations and the order in which entities got their tokens, which
            the original does not save. The model is a `SpanBertForRelationExtraction` then.

    Raises:
        ValueError: the file is not of a known program, or names code; a key, a shape, the vocabulary or a
            configuration does not fit; there is no vocabulary; `output_dir` is not empty; the Hub does not give the
            repository; what was written does not read back as the model. Nothing is written then.
        OSError: a file is not there, or cannot be read or written.
    """
    output_dir = Path(output_dir).expanduser()
    if output_dir.is_file() or (output_dir.is_dir() and any(output_dir.iterdir())):
        raise ValueError(f"{output_dir} exists and is not empty; give a new folder")
    repository = os.fspath(source) if names_a_repository(source) else None
    if revision and not repository:
        raise ValueError(f"revision={revision}: {source} is not OWNER/NAME of a repository of the Hub; leave it out")
    source = Path(source).expanduser()
    options = {"num_attention_heads": num_attention_heads, "layer_norm_eps": layer_norm_eps}
    with fetched(repository, revision) if repository else unpacked(source, output_dir.parent) as opened:
        file = weights_file(opened)
        original = read_original(file)
        beside = json_object(file.with_name("config.json"))
        settings, origins = {}, dict.fromkeys(FIELDS, "by default")
        for values, origin in ((original.args, "from its args"), (beside, "from config.json"), (options, "as given")):
            known = {name: values[name] for name in FIELDS if values.get(name) is not None}
            settings |= known
            origins |= dict.fromkeys(known, origin)
        architectures = ["SpanBertForRelationExtraction"] if tacred_dir else beside.get("architectures")
        architectures = architectures if isinstance(architectures, list) else []
        try:
            model_class = class_of({our_name(key) for key in original.tensors}, architectures)
            if tacred_dir and model_class is not SpanBertForRelationExtraction:
                raise ValueError(f"it is a {model_class.__name__}, which has no relations; leave out --tacred_dir")
            task = task_of(model_class, file, beside, tacred_dir)
            model = model_of(original.tensors, settings | task.fields, model_class)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        original.not_carried_over += [key for key in original.tensors if left_out(our_name(key), model_class)]
        refuse_contradictions(file, model.config, beside, original.args)
        tokenizer, of_tokenizer = tokenizer_of(file, vocab_file, model.config)
        told = [*description(file, original, model, origins), *task.told, of_tokenizer]
        told = [line.replace(str(opened), str(source)) for line in told]
        files = {"vocab_file": vocab_file, "tacred_dir": tacred_dir}
        run = run_record(source, file, output_dir.name, files, options, model, told)
        if repository:
            run = of_repository(run, repository, opened.name)
        write(model, tokenizer, output_dir, run)

    return [*told, how_to_load(model, output_dir)]


def description(file: Path, original: Original, model: SpanBertPreTrainedModel, origins: dict[str, str]) -> list[str]:
    """What was read, what it became, where each field of its configuration is from, what was left and what is new."""
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
    elif isinstance(model, SpanBertForPreTraining):
        positions = f"; {config.max_span_positions} span positions of size {config.span_position_size}"
        lines.append(f"objectives: {', '.join(config.objectives)}{positions if 'sbo' in config.objectives else ''}")
    if original.not_carried_over:
        lines.append(f"not carried over: {', '.join(original.not_carried_over)}")
    lines.append(f"not in the file, and random until trained: {new_heads(type(model), set(model.state_dict()))}")
    return lines


def how_to_load(model: SpanBertPreTrainedModel, output_dir: Path) -> str:
    name = type(model).__name__
    load = f"model = {name}.from_pretrained({str(output_dir)!r})"
    return f"the model is in {output_dir}: from modeling_spanbert import {name}; {load}"


# Tasks


def task_of(model_class: type, file: Path, beside: dict, tacred_dir: str | os.PathLike | None) -> Task:
    """What the files beside fine-tuned weights, and TACRED's, tell of the task. Raises ValueError for bad ones."""
    if model_class is SpanBertForQuestionAnswering:
        threshold = no_answer_threshold(file.parent)
        if threshold is None:
            return Task()
        said = f"no answer above a difference of {threshold:g} in logits (best_f1_thresh of eval_results.txt)"
        return Task({"null_score_diff_threshold": threshold}, [said])
    if model_class is SpanBertForRelationExtraction and tacred_dir:
        labels, tokens = tacred_names(Path(tacred_dir).expanduser())
        fields = {"id2label": dict(enumerate(labels)), "relation_input": "entity_mask", "entity_token_map": tokens}
        return Task(fields, [f"{len(labels)} relations and {len(tokens)} tokens of entities, by the files of TACRED"])
    if model_class is SpanBertForCoreference:
        return Task(
            {}, ["coreference: antecedents are taken in as `attended_antecedent` of coref-hoi; no key tells others"]
        )
    if model_class in (SpanBertForSequenceClassification, SpanBertForTokenClassification):
        if names := label_names(beside):
            return Task({"id2label": names}, [f"labels: {', '.join(list(names.values())[:8])}"])
        return Task(
            {}, ["note: nothing tells the names of its labels; of a model of run_tacred.py the data do (--tacred_dir)"]
        )
    return Task()


def label_names(beside: dict) -> dict[int, str]:
    """`id2label` of a config.json; empty where there is none that is one."""
    names = beside.get("id2label")
    if not isinstance(names, dict) or not all(key.isdigit() and isinstance(names[key], str) for key in names):
        return {}
    return {int(key): name for key, name in names.items()}


def tacred_names(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The relations in the order of their ids, and the tokens of the entities, as run_tacred.py has numbered them.

    Relations are no_relation and then the others of train.json from the most to the least frequent, equals in the
    order of the file. Entities got `[unused1]`, `[unused2]`, … in the order of their first use: of the markers, then
    of the types, subject before object, in dev.json where there is one and then in train.json.

    Raises ValueError or OSError for files that are not TACRED's.
    """
    examples = {name: read_json(folder / name) for name in ("dev.json", "train.json") if (folder / name).is_file()}
    if "train.json" not in examples:
        raise ValueError(f"{folder} has no train.json, whose relations the model was trained on")
    counts, names = Counter(), ["SUBJ_START", "SUBJ_END", "OBJ_START", "OBJ_END"]
    for name, content in examples.items():
        if not isinstance(content, list):
            raise ValueError(f"{folder / name} is a {type(content).__name__}, expected a list of examples")
        for number, example in enumerate(content):
            where = f"{folder / name}: example {number}"
            for role in ("SUBJ", "OBJ"):
                names.append(f"{role}={require(example, f'{role.lower()}_type', str, where)}")
            if name == "train.json":
                counts[require(example, "relation", str, where)] += 1
    labels = ["no_relation", *(label for label, _ in counts.most_common() if label != "no_relation")]
    return labels, {name: f"[unused{number}]" for number, name in enumerate(dict.fromkeys(names), start=1)}


# Translating


def model_of(
    tensors: dict[str, torch.Tensor], settings: dict, model_class: type | None = None
) -> SpanBertPreTrainedModel:
    """The model, in fp32, of tensors under the names of other programs; `settings` are fields that no shape tells.

    `model_class` is by default the one whose keys they are; with `cls.` ones a `SpanBertForPreTraining` of the
    objectives that these are for.

    Raises ValueError in one line for keys that are unknown, missing or twice there, for shapes and types that do not
    fit, and for output embeddings that are not the word embeddings (the original ties them).
    """
    keys = {}
    for key in tensors:
        if (name := our_name(key)) in keys:
            raise ValueError(f"{keys[name]} and {key} are both {name}; expected one of them")
        keys[name] = key
    model_class = model_class or class_of(set(keys), [])
    weights = {name: tensors[key] for name, key in keys.items() if not left_out(name, model_class)}
    fields = sizes(weights, model_class)
    if "num_attention_heads" not in settings and fields["hidden_size"] % 64:
        raise ValueError(
            f"hidden size {fields['hidden_size']} is not a multiple of 64, so its number of heads is not known; "
            "give --num_attention_heads"
        )
    if labels := settings.get("id2label"):
        if len(labels) != (num_labels := fields.pop("num_labels")):
            raise ValueError(f"its classifier has {num_labels} labels, but {len(labels)} are named; give those of it")
        settings = settings | {"label2id": {label: id for id, label in labels.items()}}
    try:
        config = SpanBertConfig(**(fields | settings))
    except StrictDataclassError as error:
        raise ValueError(" ".join(str(error.__cause__ or error).split())) from None
    with torch.device("meta"):  # shapes alone: every tensor is replaced below
        model = model_class(config)
    if model_class is SpanBertModel:
        weights = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
        keys = {name.removeprefix("bert."): key for name, key in keys.items()}

    expected = model.state_dict()
    tied = dict(model._tied_weights_keys or {})
    copies = tied | {"cls.predictions.decoder.bias": "cls.predictions.bias"}  # its second name in transformers' BERT
    known = expected | {copy: expected[source] for copy, source in copies.items() if source in expected}
    for name, tensor in weights.items():
        if name not in known:
            raise ValueError(f"unknown key {keys[name]!a}; expected the parameters of a {model_class.__name__}")
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
) -> tuple[BertTokenizer, str]:
    """The tokenizer of the given vocabulary or of a vocab.txt beside the weights, and what there is to say of it."""
    path = Path(vocab_file).expanduser() if vocab_file else file.with_name("vocab.txt")
    if not vocab_file and not path.is_file():
        raise ValueError(
            f"{file.parent} has no vocab.txt; give the vocabulary with --vocab_file, a vocab.txt or an original "
            "dict.txt (the released SpanBERT has that of bert-base-cased)"
        )
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
    return tokenizer, f"tokenizer: {kind}, {len(pieces)} pieces of {path}"


def run_record(
    source: Path,
    file: Path,
    model_id: str,
    files: dict,
    options: dict,
    model: SpanBertPreTrainedModel,
    told: list[str],
) -> dict:
    """What the card is rendered from (`export.render_card`): where the weights are from, and what became of them.

    It has the names of files and nothing of the folders that they were in.
    """
    command = ["spanbert", "convert", source.name, model_id]
    command += [word for name, path in files.items() if path for word in (f"--{name}", Path(path).name)]
    command += [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    for path in (source, file, *(Path(path).expanduser() for path in files.values() if path)):
        told = [line.replace(f"{path.parent}/", "") for line in told]
    pipeline_tag, usage = USES[type(model)]
    types = model.config.entity_token_map or {}
    for word, role in (("SUBJECT", "SUBJ="), ("OBJECT", "OBJ=")):
        usage = usage.replace(word, repr(next((name.removeprefix(role) for name in types if role in name), None)))
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    packages = ("huggingface_hub", "torch", "transformers")
    return {
        "model_id": model_id,
        "command": shlex.join(command),
        "arguments": {"model_name_or_path": None, "dataset_name": None},
        "data": {},
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
        "usage": usage,
        "converted": {
            "source": source.name,
            "file": file.name,
            "sha256": sha256,
            "model_class": type(model).__name__,
            "pipeline_tag": pipeline_tag,
            "told": told,
        },
    }


def of_repository(run: dict, repository: str, commit: str) -> dict:
    """`run` for weights from the Hub: what the card names is pinned to the commit that they were read at."""
    command = ["spanbert", "convert", repository, *shlex.split(run["command"])[3:], "--revision", commit]
    return run | {
        "command": shlex.join(command),
        "arguments": run["arguments"] | {"model_name_or_path": repository},
        "converted": run["converted"] | {"source": repository},
    }


def write(model: SpanBertPreTrainedModel, tokenizer: BertTokenizer, output_dir: Path, run: dict) -> None:
    """Writes a whole export; `output_dir` is there only once it has been read back."""
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{output_dir.name}.partial-", dir=output_dir.parent) as scratch:
        try:
            written = export(model, tokenizer, Path(scratch, output_dir.name), run, {})
        except RuntimeError as error:  # numbers so large that outputs are not, or a bad disk
            raise ValueError(
                f"the converted model does not compute or read back ({error}); fetch the file again"
            ) from None
        written.rename(output_dir)


if __name__ == "__main__":
    from .__main__ import main

    sys.exit(main(["convert", *sys.argv[1:]]))
