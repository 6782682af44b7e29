"""Tokenizers: loading with checks, training a cased WordPiece vocabulary, comparing with a model's config."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from huggingface_hub import snapshot_download
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from modeling_spanbert.vocabulary import SPECIALS, bert_tokenizer, has_capitals, read_vocab


MAX_ALPHABET = 1000  # the most frequent characters; a word with another one is [UNK]
logger = logging.getLogger(__name__)


def load_tokenizer(tokenizer_name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, a Hub id or a vocab.txt; nothing but a vocab.txt is cased where it has capitals.

    (transformers lower-cases then: the classic mistake with the repositories of the original authors.)

    Raises ValueError or OSError, in one line, if there is none, it has no fast form, or one of [PAD], [UNK], [CLS],
    [SEP], [MASK] is missing, or if lines of vocab.txt are empty or repeated.
    """
    path = Path(tokenizer_name).expanduser()
    if not path.exists():
        path = _download(tokenizer_name)
    vocab = path if path.is_file() else path / "vocab.txt"
    pieces = read_vocab(vocab) if vocab.is_file() else None
    if pieces is None or any((path / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds, most in several lines
            raise OSError(f"tokenizer_name={tokenizer_name!r} cannot be loaded: {_first_line(error)}") from error
    else:
        is_cased = has_capitals(pieces)
        if path.is_dir() or not is_cased:
            kind = "cased" if is_cased else "lower-casing: it has no capitals"
            logger.warning("%s has no tokenizer_config.json; its vocab.txt is taken as %s", tokenizer_name, kind)
        tokenizer = bert_tokenizer(vocab, pieces, do_lower_case=not is_cased)
    check_tokenizer(tokenizer, tokenizer_name)
    return tokenizer


def _download(tokenizer_name: str) -> Path:
    patterns = ["tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json", "config.json"]
    try:
        return Path(snapshot_download(tokenizer_name, allow_patterns=patterns))
    except Exception as error:  # no such repository, no network, no valid name
        hint = "expected a folder, a vocab.txt or a Hub id"
        raise OSError(f"tokenizer_name={tokenizer_name!r} cannot be loaded ({hint}): {_first_line(error)}") from error


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str = "the tokenizer") -> None:
    """Raises ValueError unless the tokenizer is a fast one and has [PAD], [UNK], [CLS], [SEP] and [MASK]."""
    if not tokenizer.is_fast:
        raise ValueError(f"{name} has no fast form (tokenizer.json); convert it with transformers, or use another")
    for role, usual in SPECIALS.items():
        if role != "unk_token" and getattr(tokenizer, role) is None:  # byte-level vocabularies need no [UNK]
            cure = f"tokenizer.add_special_tokens({{'{role}': '{usual}'}}) and save it"
            raise ValueError(f"{name} has no {role} ({usual}), which pre-training needs; {cure}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def train_tokenizer(texts: Callable[[], Iterable[str]], vocab_size: int) -> BertTokenizer:
    """A cased BERT tokenizer with `vocab_size` WordPieces learnt from `texts()`, which is read twice.

    The same texts give the same ids: `tokenizers` numbers the continuing characters ("##e") in the random order of a
    hash map, and breaks ties between pairs by these numbers, so they are given to it in an order of their own.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIALS["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def is_word(text: str) -> bool:
        return len(tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))) == 1

    counts: Counter[str] = Counter()
    for text in texts():
        counts.update(text)
    kept = [character for character in counts if not character.isspace()]
    kept = sorted(sorted(kept, key=lambda character: (-counts[character], character))[:MAX_ALPHABET])
    continuing = [f"##{character}" for character in kept if is_word(f"a{character}")]
    first = [*SPECIALS.values(), *continuing]
    if len(first) + len(kept) > vocab_size:
        needed = len(first) + len(kept)
        raise ValueError(f"vocab_size={vocab_size} is too small for this text: characters and specials are {needed}")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=first,  # that is: numbered first; the tokenizer made below knows BERT's five as special
        initial_alphabet=kept,
        limit_alphabet=len(kept),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    vocab = dict(sorted(tokenizer.get_vocab().items(), key=lambda piece: piece[1]))
    return BertTokenizer(vocab=vocab, do_lower_case=False, model_max_length=512)


def lower_cases(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer gives "A" and "a" the same ids."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("A") == normalizer.normalize_str("a")


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> list[str]:
    """Notes on how the tokenizer fits the model. Raises ValueError where it does not."""
    if len(tokenizer) > config.vocab_size:
        cure = f"set vocab_size to {len(tokenizer)} or give the model's own tokenizer"
        raise ValueError(f"tokenizer {len(tokenizer)} > model vocab_size {config.vocab_size}; {cure}")
    if config.pad_token_id is not None and tokenizer.pad_token_id != config.pad_token_id:
        what = f"tokenizer pad_token_id {tokenizer.pad_token_id} differs from the model's {config.pad_token_id}"
        raise ValueError(f"{what}; set pad_token_id in the config or give the model's own tokenizer")
    if len(tokenizer) < config.vocab_size:
        spare = config.vocab_size - len(tokenizer)
        return [f"tokenizer {len(tokenizer)} < model vocab_size {config.vocab_size}: {spare} embeddings stay unused"]
    return []
