"""What several test files share: where vectors and corpora are, a tiny tokenizer, a tiny model."""

import os
import string
from pathlib import Path

import pytest
from transformers import BertTokenizer


ROOT = Path(__file__).resolve().parent.parent
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "the a of and to in is was it that he she they we you an football game played by team in their city year first "
    "last won lost before after with for on at from this which had has been were are not but all one two three new "
    "old great small house river king queen war peace law state union people man woman child day night time world"
)
PIECES = "##s ##ed ##ing ##er ##ly ##a ##b ##c ##d ##e ##i ##n ##o ##r ##t ##al ##ion".split()


def testdata_file(*parts: str) -> Path:
    """A vector file: under $SPANBERT_TESTDATA where it is there, else in tests/data, else the test is skipped."""
    folders = [os.environ.get("SPANBERT_TESTDATA"), ROOT / "tests" / "data"]
    for folder in folders:
        if folder and (path := Path(folder, *parts)).exists():
            return path
    pytest.skip(f"no {'/'.join(parts)} in SPANBERT_TESTDATA or tests/data")


testdata_file.__test__ = False  # pytest would collect it by its name


def data_file(*parts: str) -> Path:
    """A corpus or task file under $SPANBERT_DATA; the test is skipped where there is none."""
    folder = os.environ.get("SPANBERT_DATA")
    if not folder or not (path := Path(folder, *parts)).exists():
        pytest.skip(f"no {'/'.join(parts)} in SPANBERT_DATA")
    return path


def tiny_tokenizer(words: str = WORDS, **kwargs) -> BertTokenizer:
    """A cased WordPiece tokenizer of about a hundred pieces: specials, `words`, letters and continuation pieces."""
    letters = [*string.ascii_letters, ".", ","]
    pieces = dict.fromkeys([*SPECIALS, *letters, *words.split(), *PIECES])
    return BertTokenizer(
        vocab={piece: id for id, piece in enumerate(pieces)}, do_lower_case=False, model_max_length=64, **kwargs
    )


def tiny_config(**kwargs):
    """A model that trains in milliseconds."""
    from modeling_spanbert import SpanBertConfig

    defaults = {
        "vocab_size": len(tiny_tokenizer()),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    return SpanBertConfig(**(defaults | kwargs))
