"""What `AutoTokenizer` opens a SpanBERT repository with: a plain `BertTokenizer`, which keeps capitals.

SpanBERT is cased, but `BertTokenizer` lower-cases unless told not to, and the repositories of the original authors
have a vocab.txt and nothing that tells it.
"""

import logging
from pathlib import Path

from transformers import BertTokenizer
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import cached_file

from .files import read_json
from .vocabulary import has_capitals, read_vocab


logger = logging.getLogger(__name__)
# What, of the arguments of `from_pretrained`, finds a file.
WHERE = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")


class SpanBertTokenizer:
    """Opens tokenizers; it is none itself: a saved subclass of `BertTokenizer` would not load without this package."""

    @classmethod
    def from_pretrained(cls, name: str, *args, **kwargs) -> BertTokenizer:
        """As `BertTokenizer.from_pretrained`, which lower-cases where neither caller nor repository says whether to.

        Here it keeps capitals where the normalizer of tokenizer.json does, or where vocab.txt has any, and says so.
        """
        where = {key: kwargs[key] for key in WHERE if key in kwargs}
        if "do_lower_case" not in kwargs and "do_lower_case" not in get_tokenizer_config(name, **where):
            is_cased = keeps_capitals(name, where)
            logger.warning(
                "%s does not say whether to lower-case (do_lower_case in tokenizer_config.json); by its vocabulary it "
                "is taken as %s",
                name,
                "cased" if is_cased else "lower-casing",
            )
            kwargs = {"do_lower_case": not is_cased, "model_max_length": 512} | kwargs
        return BertTokenizer.from_pretrained(name, *args, **kwargs)


def keeps_capitals(name: str, where: dict) -> bool:
    """Whether a tokenizer without tokenizer_config.json is a cased one; so it is where nothing tells."""
    files = {
        file: cached_file(name, file, _raise_exceptions_for_missing_entries=False, **where)
        for file in ("tokenizer.json", "vocab.txt")
    }
    if files["tokenizer.json"]:
        normalizer = read_json(files["tokenizer.json"]).get("normalizer")
        return not (normalizer or {}).get("lowercase", False)
    return not files["vocab.txt"] or has_capitals(read_vocab(Path(files["vocab.txt"])))
