"""The model a pre-training run starts from: from scratch at a named size, or from any BERT or SpanBERT checkpoint."""

import json
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedTokenizerBase

from modeling_spanbert import SIZES, SpanBertConfig, SpanBertForPreTraining
from training.arguments import ModelArguments


def initial_model(
    arguments: ModelArguments, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, seed: int
) -> tuple[SpanBertForPreTraining, list[str]]:
    """The model, in fp32, and what should be said about it before the run.

    Random weights, of new heads or of a whole new model, follow from `seed`. Raises ValueError where configuration,
    tokenizer, row length and checkpoint do not go together.
    """
    changes = {
        name: getattr(arguments, name)
        for name in ("objectives", "hidden_dropout_prob", "attention_probs_dropout_prob")
        if getattr(arguments, name) is not None
    }
    if bool(arguments.config_name) == bool(arguments.model_name_or_path):
        raise ValueError(
            f"config_name={arguments.config_name}, model_name_or_path={arguments.model_name_or_path}: give one of "
            "them, a size to start from scratch or weights to start from"
        )
    torch.manual_seed(seed)
    try:
        if arguments.model_name_or_path:
            model, notes = _from_checkpoint(arguments.model_name_or_path, changes)
        else:
            model, notes = _from_scratch(arguments.config_name, tokenizer, changes), []
    except StrictDataclassError as error:
        raise ValueError(f"model configuration: {error.__cause__ or error}") from None
    notes += _check(model.config, tokenizer, max_seq_length)
    # On a CPU the products of eager attention beat torch's fused one, in bf16 by more than twice.
    model.set_attn_implementation("sdpa" if torch.cuda.is_available() else "eager")
    return model, notes


def _from_scratch(config_name: str, tokenizer: PreTrainedTokenizerBase, changes: dict) -> SpanBertForPreTraining:
    changes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id} | changes
    if config_name in SIZES:
        return SpanBertForPreTraining(SpanBertConfig(**(SIZES[config_name] | changes)))
    path = Path(config_name, "config.json") if Path(config_name).is_dir() else Path(config_name)
    if not path.is_file():
        raise ValueError(f"config_name={config_name}: neither a folder with a config.json nor one of {list(SIZES)}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    return SpanBertForPreTraining(SpanBertConfig.from_dict(fields | changes))


def _from_checkpoint(name: str, changes: dict) -> tuple[SpanBertForPreTraining, list[str]]:
    try:
        model, info = SpanBertForPreTraining.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, **changes
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"model_name_or_path={name} does not load: {str(error).strip().splitlines()[0]}") from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # a class of the extension module, which does not export it
            raise
        raise ValueError(f"model_name_or_path={name}: its weights are damaged ({error}); fetch them again") from error
    missing = sorted(info["missing_keys"])
    if encoder := [key for key in missing if key.startswith("bert.") and not key.startswith("bert.pooler.")]:
        raise ValueError(
            f"model_name_or_path={name} lacks {len(encoder)} tensors of the encoder, such as {encoder[0]}: "
            "it is not a BERT or SpanBERT checkpoint, or a damaged one"
        )
    heads = sorted({".".join(key.split(".")[:2]) for key in missing})
    return model, [f"new in this model, not in {name}: {', '.join(heads)}"] if heads else []


def _check(config: SpanBertConfig, tokenizer: PreTrainedTokenizerBase, max_seq_length: int) -> list[str]:
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} pieces, the model vocab_size={config.vocab_size}: "
            "take the tokenizer that belongs to the model"
        )
    if tokenizer.pad_token_id != config.pad_token_id:
        raise ValueError(
            f"the tokenizer's [PAD] is {tokenizer.pad_token_id}, the model's pad_token_id={config.pad_token_id}: "
            "take the tokenizer that belongs to the model"
        )
    if max_seq_length > config.max_position_embeddings:
        raise ValueError(
            f"max_seq_length={max_seq_length}, but the model has max_position_embeddings="
            f"{config.max_position_embeddings}: lower max_seq_length"
        )
    if len(tokenizer) < config.vocab_size:
        return [f"the tokenizer has {len(tokenizer)} of the model's {config.vocab_size} pieces"]
    return []
