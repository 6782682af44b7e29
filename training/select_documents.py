"""Takes those documents of a text that have an annotation, for arms of a study that are to read the same texts.

    python -m training.select_documents --train_file wiki.jsonl.gz --annotation_file wiki-spans.jsonl.gz \
        --output_file annotated.jsonl.gz
"""

# ruff: noqa: RUF009 -- `option` makes a dataclass field

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from modeling_spanbert.files import written
from training.arguments import TextArguments, one_line_errors, option, parse_recipe


@dataclass
class SelectionArguments:
    """Selection."""

    annotation_file: list[str] | None = option(None, "Files of training/annotate.py; their documents are taken.")
    output_file: str | None = option(None, "File to write, with an id and a text a line: .jsonl or .jsonl.gz.")

    def __post_init__(self):
        if not self.annotation_file:
            raise ValueError("annotation_file is missing: give the files of python -m training.annotate")
        if not self.output_file or not self.output_file.endswith((".jsonl", ".jsonl.gz")):
            raise ValueError(f"output_file={self.output_file}: give a file that ends in .jsonl or .jsonl.gz")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    text, selection = parse_recipe((TextArguments, SelectionArguments), argv, __doc__)
    from training.annotations import Annotations
    from training.corpus import Corpus

    path = Path(selection.output_file)
    if path.exists():
        raise FileExistsError(f"output_file={path} exists; give another name, or move it away")
    annotations = Annotations(selection.annotation_file, "noun_phrase_spans")
    num_documents = num_words = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as file:
        for document in Corpus(text.train_file, **text.reading()).documents():
            if document.id in annotations:
                file.write(json.dumps({"id": document.id, "text": document.raw}) + "\n")
                num_documents += 1
                num_words += len(document.raw.split())
        if not num_documents:
            raise ValueError(f"none of the documents is in {selection.annotation_file[0]}; are they of this text?")
    print(f"{path}: {num_documents:,} documents, {num_words:,} words")


if __name__ == "__main__":
    sys.exit(main())
