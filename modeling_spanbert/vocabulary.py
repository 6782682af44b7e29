"""Vocabulary files of BERT and of the original SpanBERT -> pieces, and a BERT tokenizer of them."""

from collections import Counter
from pathlib import Path

from transformers import BertTokenizer


SPECIALS = {  # BERT's
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def read_vocab(path: Path) -> list[str]:
    """The pieces of a BERT vocab.txt, one a line, or of an original dict.txt, one a line with its count.

    Raises ValueError that names the lines that are empty or repeated.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text, expected one piece of the vocabulary a line") from None
    lines = [line.removesuffix("\r") for line in lines]
    if lines and lines[-1] == "":
        lines.pop()
    empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if empty:
        raise ValueError(f"{path} has empty lines: {_some(empty)}; a line is a piece, its id the line's number - 1")
    pieces = lines
    counted = [line.rpartition(" ") for line in lines]
    if all(piece and count.isdigit() for piece, _, count in counted):  # no piece of BERT has a space
        pieces = [piece for piece, _, _ in counted]
    repeated = {piece for piece, count in Counter(pieces).items() if count > 1}
    if repeated:
        where = [f"{number} {piece!r}" for number, piece in enumerate(pieces, 1) if piece in repeated]
        raise ValueError(f"{path} has duplicate lines: {_some(where)}; every piece may occur once")
    return pieces


def bert_tokenizer(
    path: Path, pieces: list[str], do_lower_case: bool = False, model_max_length: int = 512
) -> BertTokenizer:
    """A tokenizer of the `pieces` of the file `path`. Raises ValueError if one of BERT's special pieces is missing."""
    ids = {piece: id for id, piece in enumerate(pieces)}
    missing = [special for special in SPECIALS.values() if special not in ids]
    if missing:
        raise ValueError(f"{path} has no line {', '.join(missing)}; add what is missing to the vocabulary")
    return BertTokenizer(vocab=ids, do_lower_case=do_lower_case, model_max_length=model_max_length)


def has_capitals(pieces: list[str]) -> bool:
    """Whether the vocabulary is a cased one; names in brackets, as [CLS] and [unused1], say nothing of that."""
    return any(piece != piece.lower() for piece in pieces if not (piece.startswith("[") and piece.endswith("]")))


def _some(items: list) -> str:
    return ", ".join(map(str, items[:6])) + (f" and {len(items) - 6} more" if len(items) > 6 else "")
