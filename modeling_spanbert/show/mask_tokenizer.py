"""The tokenizer to mask a text with: of a model, of a vocabulary, or none but the words of the text itself."""

from pathlib import Path
from typing import NamedTuple

from transformers import AutoConfig, AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from ..configuration_spanbert import SpanBertConfig
from ..vocabulary import SPECIALS, bert_tokenizer, has_capitals, read_vocab


class MaskTokenizer(NamedTuple):
    """A tokenizer with what the model that it is of says of masking, else the defaults."""

    tokenizer: PreTrainedTokenizerBase
    source: str  # in words
    max_span_positions: int = SpanBertConfig.max_span_positions
    max_seq_length: int = 512


def of_model(name: str) -> MaskTokenizer:
    """Of a folder or a repository of the Hub. Raises OSError or ValueError where config or tokenizer are not there."""
    config = AutoConfig.from_pretrained(name)
    # With the config, because a repository with only vocab.txt is cased where the config is SpanBERT's.
    tokenizer = AutoTokenizer.from_pretrained(name, config=config)
    span_positions = getattr(config, "max_span_positions", SpanBertConfig.max_span_positions)
    longest = min(512, tokenizer.model_max_length, getattr(config, "max_position_embeddings", 512))
    return MaskTokenizer(tokenizer, f"tokens of {name}", span_positions, longest)


def of_vocabulary(path: str | Path) -> MaskTokenizer:
    """Of a vocab.txt, cased where that has capitals. Raises OSError or ValueError, in one line, where it is none."""
    pieces = read_vocab(Path(path))
    is_cased = has_capitals(pieces)
    tokenizer = bert_tokenizer(Path(path), pieces, do_lower_case=not is_cased)
    return MaskTokenizer(tokenizer, f"{'' if is_cased else 'lower-cased '}tokens of {path}")


def of_words(text: str) -> MaskTokenizer:
    """Without a model: a token is a word of this text, or a sign, whole. Raises ValueError where the text has none."""
    specials = {piece: id for id, piece in enumerate(SPECIALS.values())}
    backend = BertTokenizer(vocab=specials, do_lower_case=False).backend_tokenizer
    words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))]
    if not words:
        raise ValueError("the text has no word to mask: expected one or more")
    vocabulary = {piece: id for id, piece in enumerate(dict.fromkeys([*specials, *words]))}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=False, model_max_length=512)
    return MaskTokenizer(tokenizer, "tokens: the words of the text (no model or vocabulary given)")
