"""Finds the named entities and noun phrases of a text with spaCy, for the masking of the paper's Section 6.1.

    pip install -e ".[annotate]" && python -m spacy download en_core_web_sm
    python -m training.annotate --train_file wiki.jsonl.gz --output_file wiki-spans.jsonl.gz
    accelerate launch training/pretrain.py training/recipes/pretrain/ablations/named_entities.yaml \
        --train_file wiki.jsonl.gz --annotation_file wiki-spans.jsonl.gz …

The file is described in `training/annotations.py`. Entities are written with their types; the numeric ones are left
out when it is read. The paper's noun phrases are constituents; spaCy has no constituency parser, so ours are its noun
chunks: flat, without what follows the head ("the first day" and "school" of "the first day of school").
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeling_spanbert.files import written
from training.arguments import TextArguments, one_line_errors, option, parse_recipe


if TYPE_CHECKING:
    import spacy

    from training.corpus import Corpus

MAX_CHARACTERS = 100_000  # that spaCy gets at a time; it needs about 1 GB for each million


@dataclass
class AnnotationArguments:
    """Annotation."""

    output_file: str | None = option(None, "File to write: .jsonl or .jsonl.gz.")
    spacy_model: str = option("en_core_web_sm", "A spaCy pipeline with a tagger, a parser and an entity recognizer.")
    num_processes: int = option(1, "Processes of spaCy.")

    def __post_init__(self):
        if not self.output_file or not self.output_file.endswith((".jsonl", ".jsonl.gz")):
            raise ValueError(f"output_file={self.output_file}: give a file that ends in .jsonl or .jsonl.gz")
        if self.num_processes < 1:
            raise ValueError(f"num_processes={self.num_processes}: must be at least 1")


def annotate(corpus: Corpus, nlp: spacy.Language, num_processes: int = 1) -> Iterator[dict]:
    """A line of the file for each document of `corpus`, in its order."""
    pieces = ((text, (document.id, start)) for document in corpus.documents() for start, text in _pieces(document.raw))
    row = None
    for parsed, (id, start) in nlp.pipe(pieces, as_tuples=True, n_process=num_processes, batch_size=16):
        if start == 0:
            if row is not None:
                yield row
            row = {"id": id, "ents": [], "nps": []}
        row["ents"] += [[start + ent.start_char, start + ent.end_char, ent.label_] for ent in parsed.ents]
        row["nps"] += [[start + chunk.start_char, start + chunk.end_char] for chunk in parsed.noun_chunks]
    if row is not None:
        yield row


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The text in pieces of at most MAX_CHARACTERS with their starts, cut at a paragraph, a line or a blank."""
    start = 0
    while len(text) - start > MAX_CHARACTERS:
        end = start + MAX_CHARACTERS
        for mark in ("\n\n", "\n", " "):
            cut = text.rfind(mark, start + MAX_CHARACTERS // 2, end)
            if cut != -1:
                end = cut + len(mark)
                break
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def load_pipeline(name: str) -> spacy.Language:
    """Raises ValueError where spaCy or its pipeline is not installed, or the pipeline cannot do what is needed."""
    try:
        import spacy
    except ImportError:
        raise ValueError('annotation needs spaCy; run: pip install -e ".[annotate]"') from None
    try:
        nlp = spacy.load(name)
    except (OSError, ImportError) as error:
        raise ValueError(
            f"spacy_model={name} is not installed ({str(error).splitlines()[0]}); run: python -m spacy download {name}"
        ) from error
    missing = [task for task in ("parser", "ner") if task not in nlp.pipe_names]
    if missing:
        raise ValueError(f"spacy_model={name} has no {' and no '.join(missing)}; noun chunks and entities need both")
    return nlp


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    text, annotation = parse_recipe((TextArguments, AnnotationArguments), argv, __doc__)
    from tqdm import tqdm

    from training.corpus import Corpus

    path = Path(annotation.output_file)
    if path.exists():
        raise FileExistsError(f"output_file={path} exists; give another name, or move it away")
    corpus = Corpus(text.train_file, **text.reading())
    nlp = load_pipeline(annotation.spacy_model)
    num_documents = num_entities = num_phrases = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as file:
        for row in tqdm(annotate(corpus, nlp, annotation.num_processes), desc="annotating", unit=" documents"):
            file.write(json.dumps(row) + "\n")
            num_documents += 1
            num_entities += len(row["ents"])
            num_phrases += len(row["nps"])
    print(f"{path}: {num_documents:,} documents, {num_entities:,} named entities, {num_phrases:,} noun phrases")


if __name__ == "__main__":
    sys.exit(main())
