"""What `AutoTokenizer` opens a SpanBERT repository with: a plain `BertTokenizer`, which keeps capitals.

SpanBERT is cased, but `BertTokenizer` lower-cases unless told not to, and the repositories of the original authors
have a vocab.txt and nothing that tells it.
"""

import logging

from transformers import BertTokenizer
from transformers.models.auto.tokenization_auto import get_tokenizer_config


logger = logging.getLogger(__name__)
# What, of the arguments of `from_pretrained`, finds a file.
WHERE = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")


class SpanBertTokenizer:
    """Opens tokenizers; it is none itself: a saved subclass of `BertTokenizer` would not load without this package."""

    @classmethod
    def from_pretrained(cls, name: str, *args, **kwargs) -> BertTokenizer:
        """As `BertTokenizer.from_pretrained`, but cased, and says so, where neither caller nor repository decides."""
        where = {key: kwargs[key] for key in WHERE if key in kwargs}
        if "do_lower_case" not in kwargs and "do_lower_case" not in get_tokenizer_config(name, **where):
            logger.warning(
                "%s does not say whether to lower-case (do_lower_case in tokenizer_config.json); it is taken as "
                "cased: give do_lower_case=True if its vocabulary has small letters only",
                name,
            )
            kwargs = {"do_lower_case": False, "model_max_length": 512} | kwargs
        return BertTokenizer.from_pretrained(name, *args, **kwargs)
