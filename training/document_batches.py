"""Documents -> batches for coreference: whole ones, or windows that are a function of the sample number."""

import hashlib
import json
from dataclasses import asdict
from functools import partial

import numpy as np
import torch

from modeling_spanbert import SpanBertConfig
from modeling_spanbert.coreference import EncodedDocument, collate_documents, segment_window
from training.arguments import UpdateArguments
from training.batches import Batches


class Documents(list[EncodedDocument]):
    """What a run trains on; see `training.task_batches.Rows`."""

    @property
    def lengths(self) -> np.ndarray:
        """Pieces of each document."""
        return np.array([document.offsets[-1] for document in self])

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for document in self:
            digest.update(json.dumps(asdict(document), sort_keys=True).encode())
        return digest.hexdigest()


class DocumentBatches(Batches):
    """Batches of documents; of a long one, `config.max_training_sentences` segments in a row, from a random one on.

    Which ones is a function of (seed, sample number), so that each pass sees others, and a resumed run the same ones.
    """

    held_out_name = "development set"

    def __init__(
        self,
        documents: Documents,
        pad_token_id: int,
        config: SpanBertConfig,
        optimization: UpdateArguments,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
    ):
        collate = partial(collate_documents, pad_token_id=pad_token_id, genres=config.genres, with_gold=True)
        super().__init__(documents, collate, optimization, seed, process_index, num_processes)
        self.num_segments = config.max_training_sentences

    def _example(self, sample_number: int) -> EncodedDocument:
        document = super()._example(sample_number)
        last = len(document.segments) - self.num_segments
        if last <= 0:
            return document
        first = np.random.default_rng([self.seed, sample_number]).integers(last, endpoint=True)
        return segment_window(document, int(first), self.num_segments)

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, int]:
        """Documents: the loss of one is a sum over its mentions."""
        return {"num_items_in_batch": len(batch["genre_ids"])}
