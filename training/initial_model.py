"""The model that a run starts from: from scratch at a named size, or from any BERT or SpanBERT checkpoint."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from modeling_spanbert import SIZES, SpanBertConfig, SpanBertForPreTraining
from modeling_spanbert.files import decode_json
from modeling_spanbert.modeling_spanbert import SpanBertPreTrainedModel
from training.arguments import WeightsArguments
from training.hardware import attention_form
from training.vocabulary import check_vocabulary


def initial_model(
    arguments: WeightsArguments,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    seed: int,
    device: torch.device,
    model_class: type[SpanBertPreTrainedModel] = SpanBertForPreTraining,
    fields: dict[str, Any] | None = None,
    mixed_precision: str = "no",
) -> tuple[SpanBertPreTrainedModel, list[str]]:
    """The model, in fp32 whatever `mixed_precision` it computes in, and what should be said about it before the run.

    `fields` are set in its configuration, before what `arguments` say. Random weights, of new heads or of a whole new
    model, follow from `seed`. Raises ValueError where configuration, tokenizer, row length and checkpoint do not go
    together.
    """
    changes = (fields or {}) | arguments.config_changes()
    is_head_new = False
    if arguments.model_name_or_path and fields:
        is_head_new, labels = _head_of(arguments.model_name_or_path, model_class, fields)
        changes |= labels
    if bool(arguments.config_name) == bool(arguments.model_name_or_path):
        raise ValueError(
            f"config_name={arguments.config_name}, model_name_or_path={arguments.model_name_or_path}: give one of "
            "them, a size to start from scratch or weights to start from"
        )
    torch.manual_seed(seed)
    try:
        if arguments.model_name_or_path:
            model, notes = _from_checkpoint(model_class, arguments.model_name_or_path, changes, is_head_new)
        else:
            model, notes = model_class(_named_config(arguments.config_name, tokenizer, changes)), []
    except StrictDataclassError as error:
        raise ValueError(f"model configuration: {error.__cause__ or error}") from None
    notes += check_vocabulary(tokenizer, model.config)
    if max_seq_length > model.config.max_position_embeddings:
        raise ValueError(
            f"max_seq_length={max_seq_length}, but the model has max_position_embeddings="
            f"{model.config.max_position_embeddings}: lower max_seq_length"
        )
    model.set_attn_implementation(attention_form(device, mixed_precision))
    return model, notes


def _named_config(config_name: str, tokenizer: PreTrainedTokenizerBase, changes: dict) -> SpanBertConfig:
    if config_name in SIZES:
        vocabulary = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        return SpanBertConfig(**(SIZES[config_name] | vocabulary | changes))
    path = Path(config_name, "config.json") if Path(config_name).is_dir() else Path(config_name)
    if not path.is_file():
        raise ValueError(f"config_name={config_name}: neither a folder with a config.json nor one of {list(SIZES)}")
    try:
        fields = decode_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); expected a model's configuration") from None
    if not isinstance(fields, dict) or fields.get("model_type", "bert") not in ("bert", "spanbert"):
        found = f"of model_type {fields.get('model_type')!r}" if isinstance(fields, dict) else "not a JSON object"
        raise ValueError(f"{path} is {found}; expected the configuration of a bert or spanbert model")
    try:
        return SpanBertConfig.from_dict(fields | changes)
    except StrictDataclassError:
        raise
    except Exception as error:  # what transformers raises of values that no field may have, before it looks at them
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} is no configuration ({reason}); expected that of a bert or spanbert model"
        ) from error


def _head_of(name: str, model_class: type[SpanBertPreTrainedModel], fields: dict) -> tuple[bool, dict]:
    """Whether the head of the weights `name` is of another task than that of `fields`, and the labels to go on with.

    It is the task's own where the class is the same, and the labels are, whose order is the head's then: a row of it
    must not come to stand for another label. `from_pretrained` looks at shapes alone.
    """
    try:
        before, _ = SpanBertConfig.get_config_dict(name)
    except OSError:
        return False, {}  # told when the weights are opened
    architectures = before.get("architectures") or []
    if model_class.__name__ not in (*architectures, *(f"Span{each}" for each in architectures)):
        return True, {}
    labels = before.get("label2id") or {"LABEL_0": 0, "LABEL_1": 1}
    if set(labels) != set(fields["label2id"]):
        return True, {}
    return False, {"label2id": labels, "id2label": {id: label for label, id in labels.items()}}


def _from_checkpoint(
    model_class: type[SpanBertPreTrainedModel], name: str, changes: dict, is_head_new: bool
) -> tuple[SpanBertPreTrainedModel, list[str]]:
    """Also from pytorch_model.bin, all that the released SpanBERT has: read as tensors alone, no code runs."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # no table of what is missing: it is told in one line below
    try:
        model, info = model_class.from_pretrained(
            name,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name, but for the heads of tasks
            **changes,
        )
    except StrictDataclassError:
        raise
    except Exception as error:  # whatever a foreign file makes torch, safetensors or transformers raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"model_name_or_path={name} does not load ({reason}); expected the folder or Hub id of a BERT or SpanBERT "
            "with whole weights, in safetensors or as plain tensors in pytorch_model.bin"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    of_tasks = [key for key, *_ in info["mismatched_keys"] if not key.startswith(("bert.", "cls."))]
    if is_head_new:
        fresh = model_class(model.config)
        of_tasks = [key for key in fresh.state_dict() if not key.startswith("bert.")]
        model.load_state_dict({key: fresh.state_dict()[key] for key in of_tasks}, strict=False)
    if mismatched := sorted(key for key in info["mismatched_keys"] if key[0] not in of_tasks):
        key, found, expected = mismatched[0]
        raise ValueError(
            f"model_name_or_path={name}: {key} is {tuple(found)}, by its config.json {tuple(expected)} is expected: "
            "the two do not belong together; fetch both again"
        )
    missing = sorted({*info["missing_keys"], *of_tasks})
    if encoder := [key for key in missing if key.startswith("bert.") and not key.startswith("bert.pooler.")]:
        raise ValueError(
            f"model_name_or_path={name} lacks {len(encoder)} tensors of the encoder, such as {encoder[0]}: "
            "it is not a BERT or SpanBERT checkpoint, or a damaged one"
        )
    heads = sorted({".".join(key.split(".")[: 2 if key.startswith(("bert.", "cls.")) else 1]) for key in missing})
    return model, [f"new in this model, not in {name}: {', '.join(heads)}"] if heads else []
