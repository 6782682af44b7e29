"""What masking has to know of a tokenizer: which ids are special, and which start a word."""

import numpy as np
from transformers import PreTrainedTokenizerBase


def required_special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens that are never masked: all specials but [UNK], which stands for a word.

    Raises ValueError where [MASK], [PAD], [CLS] or [SEP] is missing, or two of them are one.
    """
    needed = {name: getattr(tokenizer, name) for name in ("mask_token", "pad_token", "cls_token", "sep_token")}
    for name, token in needed.items():
        if token is None:
            bert_name = f"[{name.removesuffix('_token').upper()}]"
            raise ValueError(
                f"the tokenizer has no {name}; set it with tokenizer.add_special_tokens({{'{name}': '{bert_name}'}}), "
                "or take a tokenizer made for BERT"
            )
    if len(set(needed.values())) < len(needed):
        raise ValueError(f"mask_token, pad_token, cls_token and sep_token must be four different tokens; got {needed}")
    words = {tokenizer.unk_token_id} - {tokenizer.bos_token_id, tokenizer.eos_token_id}
    words -= set(tokenizer.convert_tokens_to_ids(list(needed.values())))
    return [id for id in tokenizer.all_special_ids if id not in words]


def word_start_table(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """True for each id (V,) that starts a word, by the tokenizer's own marker. Tokens added later start words.

    WordPiece marks pieces that continue a word ("##"); byte-level BPE ("Ġ") and Unigram ("▁") mark pieces that start
    one. Raises ValueError for a tokenizer that tells neither.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer; masking takes word starts from one")
    vocabulary = tokenizer.get_vocab()
    starts = np.ones(max(vocabulary.values()) + 1, dtype=bool)
    if type(backend.model).__name__ == "WordLevel":
        return starts

    continuation = getattr(backend.model, "continuing_subword_prefix", None)
    if continuation:
        continues = [id for piece, id in vocabulary.items() if piece.startswith(continuation)]
    else:
        markers = (space_marker(backend), "Ċ", "ĉ", "č")  # byte-level BPE's line feed, tab, carriage return
        continues = [id for piece, id in vocabulary.items() if not piece.startswith(markers)]
    starts[continues] = False
    starts[[*backend.get_added_tokens_decoder(), *tokenizer.all_special_ids]] = True
    return starts


def space_marker(backend) -> str:
    """The character that a tokenizer puts for the space before a word."""
    text = "a a" if backend.normalizer is None else backend.normalizer.normalize_str("a a")
    if backend.pre_tokenizer is not None:
        text = "".join(piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    marker = text[-2:-1]
    if marker in ("", " ", "a"):
        raise ValueError(
            f"cannot tell where words start in this {type(backend.model).__name__} tokenizer: it marks neither pieces "
            "that start a word nor pieces that continue one; use WordPiece, byte-level BPE or Unigram"
        )
    return marker
