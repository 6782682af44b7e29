"""Opens a checkpoint for a predictor: the model with its head, and its tokenizer."""

import os

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


def open_checkpoint(
    model_class: type[PreTrainedModel],
    name: str | os.PathLike,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    **kwargs,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str]]:
    """The model, on `device`, and the tokenizer of a folder or a repository of the Hub; and the keys that it lacks.

    `device`: by default the GPU where there is one. `dtype`: by default float32. `kwargs`: what of transformers'
    `from_pretrained` finds files (`revision`, `token`, …).

    Raises `OSError` where there is no model.
    """
    model, info = model_class.from_pretrained(name, dtype=dtype or torch.float32, output_loading_info=True, **kwargs)
    # With the config, because a repository with only vocab.txt is cased where the config is SpanBERT's.
    tokenizer = AutoTokenizer.from_pretrained(name, config=model.config, **kwargs)
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model, tokenizer, sorted(info["missing_keys"])


def open_fine_tuned(
    model_class: type[PreTrainedModel], name: str | os.PathLike, purpose: str, *places, **kwargs
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """As `open_checkpoint`; raises `ValueError` too, for a model whose head is not trained for the `purpose`."""
    model, tokenizer, missing = open_checkpoint(model_class, name, *places, **kwargs)
    if missing:
        raise ValueError(f"{name} is not fine-tuned for {purpose} (no {', '.join(missing[:3])}); fine-tune it first")
    return model, tokenizer
