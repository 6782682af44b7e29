"""Coreference: OntoNotes, and any file of CoNLL-2012 columns or of the authors' JSON lines (Section 4.1).

An example is a dict: `doc_key`, `part` (as the file writes it), `sentences` (lists of words), `speakers` (of each
word) and `clusters` of mentions (first and last word of the document, both included). OntoNotes is licensed
(LDC2013T19): `data_file` is the user's own copy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from eval.metrics.conll_coref import conll_coref_scores
from eval.tasks.same_string import same_string_clusters
from eval.tasks.task import Loaded, Task, needs_own_copy, row_length
from modeling_spanbert import SpanBertConfig, SpanBertForCoreference
from modeling_spanbert.conll import CoreferenceDocument, read_conll, read_jsonlines, write_conll
from modeling_spanbert.coreference import (
    Cluster,
    EncodedDocument,
    collate_documents,
    document_clusters,
    encode_document,
    to_word_clusters,
)
from modeling_spanbert.files import numbered_lines


@dataclass(frozen=True)
class Coreference(Task):
    """A set of documents. All but the name are of a new model's config, None for its own; see `SpanBertConfig`.

    `max_seq_length` is that of a segment, `config.max_segment_length`.
    """

    name: str
    max_seq_length: int | None = None
    max_training_sentences: int = 3
    coref_depth: int = 2
    restore_brackets: bool = False
    ffnn_size: int | None = None
    mention_loss_coef: float | None = None

    model_class: ClassVar = SpanBertForCoreference
    pipeline_tag: ClassVar = "token-classification"  # the Hub has no name for it

    def load(self, data_file: str | None, split: str, training: bool = False) -> Loaded:
        """See `Task.load`. Raises ValueError, with file:line, for what is no document (`modeling_spanbert.conll`)."""
        if data_file is None:
            raise needs_own_copy(self.name)
        names = ("doc_key", "part", "sentences", "speakers", "clusters")
        return Loaded([{name: getattr(each, name) for name in names} for each in read_documents(data_file)])

    def config_fields(self, examples, tokenizer) -> dict:
        fields = {
            "max_segment_length": self.max_seq_length or SpanBertConfig.max_segment_length,
            "max_training_sentences": self.max_training_sentences,
            "coref_depth": self.coref_depth,
            "restore_brackets": self.restore_brackets,
            "ffnn_size": self.ffnn_size,
            "mention_loss_coef": self.mention_loss_coef,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def featurize(self, examples, tokenizer, config) -> list[EncodedDocument]:
        """The documents in segments; a batch of documents has all of one, or a window of them."""
        length = row_length(self, config)
        return [
            encode_document(
                example["sentences"],
                tokenizer,
                length,
                example["speakers"],
                as_document(example).genre,
                example["clusters"],
                config.restore_brackets,
            )
            for example in examples
        ]

    @torch.no_grad()
    def predict(self, model, tokenizer, examples, batch_size) -> list[list[Cluster]]:
        """The clusters of each document; `batch_size` has no effect, a document is a batch.

        With singletons where the model was trained to find them.
        """
        found = []
        for example in examples:
            [document] = self.featurize([example | {"clusters": []}], tokenizer, model.config)
            batch = collate_documents([document], tokenizer.pad_token_id, model.config.genres)
            output = model(**{name: values.to(model.device) for name, values in batch.items()})
            [clusters] = document_clusters(output, 1, singletons=model.config.mention_loss_coef > 0)
            found.append(to_word_clusters(clusters, document.subtoken_map))
        return found

    def baseline(self, training, examples) -> list[list[Cluster]]:
        """Mentions of the same words: see `same_string_clusters`."""
        return same_string_clusters(training, examples)

    def score(self, predictions, examples) -> dict[str, float]:
        """See `conll_coref_scores`."""
        return conll_coref_scores(predictions, [example["clusters"] for example in examples])

    def main_metric(self, examples) -> str:
        return "conll_f1"

    def write(self, predictions, examples, folder: Path, split: str) -> None:
        """predictions_<name>.conll, as the official scorer reads it."""
        pairs = zip(examples, predictions, strict=True)
        documents = [as_document(example | {"clusters": clusters}) for example, clusters in pairs]
        write_conll(documents, folder / f"predictions_{self.name}.conll")

    def usage(self, config) -> str:
        return USAGE


USAGE = """\
from modeling_spanbert import CoreferenceResolver

resolve = CoreferenceResolver.from_pretrained({model})
print(resolve.predict("Ada saw the Queen. She waved at her.").strings())
"""


def read_documents(path: str) -> Iterator[CoreferenceDocument]:
    """The documents of a file, whose content tells its format."""
    first = next((line for _, line in numbered_lines(path) if line.strip()), "")
    return read_jsonlines(path) if first.lstrip().startswith("{") else read_conll(path)


def as_document(example: dict) -> CoreferenceDocument:
    return CoreferenceDocument(**example)


ROWS = (Coreference("ontonotes_coref"),)
