"""Opens what fine-tuning has saved, for a predictor: the model with its own head, and its tokenizer."""

import os

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


def open_fine_tuned(
    model_class: type[PreTrainedModel],
    name: str | os.PathLike,
    purpose: str,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    **kwargs,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, on `device`, and the tokenizer of a folder or a repository of the Hub.

    `device`: by default the GPU where there is one. `dtype`: by default float32. `kwargs`: what of transformers'
    `from_pretrained` finds files (`revision`, `token`, …).

    Raises `OSError` where there is no model, and `ValueError` for one whose head is not trained for the `purpose`.
    """
    model, info = model_class.from_pretrained(name, dtype=dtype or torch.float32, output_loading_info=True, **kwargs)
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ValueError(f"{name} is not fine-tuned for {purpose} (no {missing}); fine-tune it first")
    # With the config, because a repository with only vocab.txt is cased where the config is SpanBERT's.
    tokenizer = AutoTokenizer.from_pretrained(name, config=model.config, **kwargs)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), tokenizer
