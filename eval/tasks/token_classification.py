"""Named entity recognition: a tag for each word, in files of CoNLL columns or of JSON lines (Devlin et al., 2019).

An example is a dict: `words` and `tags` ("O", "B-TYPE", "I-TYPE"), one for each word.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from eval.metrics.ner import ner_scores
from eval.tasks.task import Loaded, Task, logits_of, needs_own_copy, row_length
from modeling_spanbert import SpanBertForTokenClassification
from modeling_spanbert.files import decode_json, numbered_lines, parse_json, require


TAG = re.compile(r"O|[BI]-\S+")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenClassification(Task):
    """A data set of sentences with tags."""

    name: str
    max_seq_length: int = 512

    model_class: ClassVar = SpanBertForTokenClassification
    pipeline_tag: ClassVar = "token-classification"

    def load(self, data_file: str | None, split: str, training: bool = False) -> Loaded:
        """See `Task.load`. Raises ValueError, with file:line, for another number of columns or what is no IOB tag.

        CoNLL columns: white space between them, the word first and its tag last, a blank line after a sentence;
        "-DOCSTART-" is left out. JSON lines: `tokens`, and `ner_tags` or `tags`, by name.
        """
        if data_file is None:
            raise needs_own_copy(self.name)
        first = next((line for _, line in numbered_lines(data_file) if line.strip()), "")
        read = _from_json_lines if _is_object(first) else _from_columns
        examples = list(read(data_file))
        if not examples:
            raise ValueError(f"{data_file} holds no sentence")
        return Loaded(examples)

    def config_fields(self, examples, tokenizer) -> dict[str, Any]:
        types = sorted({tag[2:] for example in examples for tag in example["tags"] if tag != "O"})
        labels = ["O", *(f"{place}-{name}" for name in types for place in "BI")]
        return {"id2label": dict(enumerate(labels)), "label2id": {label: id for id, label in enumerate(labels)}}

    def featurize(self, examples, tokenizer, config) -> list[dict]:
        """Rows of whole words with `labels`: that of a word at its first piece, -100 at all other tokens.

        Raises ValueError for a tag that the model's config does not have.
        """
        rows = []
        for number, input_ids, places in self._rows(examples, tokenizer, config):
            labels = [-100] * len(input_ids)
            for word, place in places.items():
                tag = examples[number]["tags"][word]
                if tag not in config.label2id:
                    raise ValueError(f"sentence {number}: unknown tag {tag!r}; known: {', '.join(config.label2id)}")
                labels[place] = config.label2id[tag]
            rows.append({"input_ids": input_ids, "labels": labels})
        return rows

    def _rows(self, examples, tokenizer, config) -> Iterator[tuple[int, list[int], dict[int, int]]]:
        """The sentence's number, the ids, and at which of them each of its words begins.

        A sentence that is too long goes on in a next row; of a word that is longer than a row, the beginning counts.
        """
        room = row_length(self, config) - 2
        words = list({word for example in examples for word in example["words"]})
        # The [SEP] of a text is letters and brackets, not the token.
        encoded = tokenizer(words, add_special_tokens=False, split_special_tokens=True, verbose=False) if words else {}
        pieces = {word: ids[:room] for word, ids in zip(words, encoded.get("input_ids", []), strict=True)}
        for number, example in enumerate(examples):
            body, places = [], {}
            for n, word in enumerate(example["words"]):
                if body and len(body) + len(pieces[word]) > room:
                    yield number, [tokenizer.cls_token_id, *body, tokenizer.sep_token_id], places
                    body, places = [], {}
                if pieces[word]:  # nothing is left of a control character
                    places[n] = 1 + len(body)
                    body = body + pieces[word]
            if body:
                yield number, [tokenizer.cls_token_id, *body, tokenizer.sep_token_id], places

    def predict(self, model, tokenizer, examples, batch_size) -> list[list[str]]:
        """The tags of each example's words, those of their first pieces; "O" for a word without any.

        Raises ValueError for a model whose labels are no tags; a warning lists tags that it does not know.
        """
        names = model.config.id2label
        if wrong := [name for name in names.values() if not TAG.fullmatch(name)]:
            raise ValueError(f"the model's label {wrong[0]!r} is no tag: expected O, B-TYPE and I-TYPE in its config")
        if unknown := {tag for example in examples for tag in example["tags"]} - set(names.values()):
            logger.warning("%s: the model has no label for %s", self.name, ", ".join(sorted(unknown)))
        rows = list(self._rows(examples, tokenizer, model.config))
        logits = logits_of(model, tokenizer, [{"input_ids": ids} for _, ids, _ in rows], batch_size)
        tags = [["O"] * len(example["words"]) for example in examples]
        for (number, _, places), of_row in zip(rows, logits, strict=True):
            best = of_row.argmax(-1).tolist()  # (T,)
            for word, place in places.items():
                tags[number][word] = names[best[place]]
        return tags

    def baseline(self, training, examples) -> list[list[str]]:
        """The most frequent tag, for every word."""
        [(tag, _)] = Counter(tag for example in training for tag in example["tags"]).most_common(1)
        return [[tag] * len(example["words"]) for example in examples]

    def score(self, predictions, examples) -> dict:
        """See `ner_scores`: in seqeval's default mode (as conlleval); `strict_*` are in its strict mode (IOB2)."""
        golds = [example["tags"] for example in examples]
        strict = ner_scores(predictions, golds, "strict")
        strict = {f"strict_{name}": strict[f"overall_{name}"] for name in ("precision", "recall", "f1")}
        return ner_scores(predictions, golds) | strict

    def main_metric(self, examples) -> str:
        return "overall_f1"

    def write(self, predictions, examples, folder: Path, split: str) -> None:
        """predictions_<name>.txt: word, its tag and the predicted tag, as the conlleval script reads them."""
        sentences = []
        for tags, example in zip(predictions, examples, strict=True):
            rows = zip(example["words"], example["tags"], tags, strict=True)
            sentences.append("".join(f"{'_'.join(word.split()) or '_'} {gold} {tag}\n" for word, gold, tag in rows))
        (folder / f"predictions_{self.name}.txt").write_text("\n".join(sentences), encoding="utf-8")

    def usage(self, config) -> str:
        return USAGE


# "first": what the model has learnt is the tag of a word at its first piece.
USAGE = """\
from transformers import pipeline

tag = pipeline("token-classification", model={model}, trust_remote_code=True, aggregation_strategy="first")
for entity in tag("Ada Lovelace works at a library in London."):
    print(entity)
"""


def _is_object(line: str) -> bool:
    try:
        return isinstance(decode_json(line), dict)
    except json.JSONDecodeError:
        return False


def _from_columns(path: str) -> Iterator[dict]:
    words, tags, num_columns = [], [], None
    for number, line in numbered_lines(path):
        columns = re.split(r"[ \t]+", line.strip(" \t"))
        if columns == [""] or columns[0] == "-DOCSTART-":
            if words:
                yield {"words": words, "tags": tags}
            words, tags = [], []
            continue
        num_columns = num_columns or len(columns)
        where = f"{path}:{number}"
        if len(columns) != num_columns or num_columns < 2:
            expected = num_columns if num_columns > 1 else "2 at least, a word and its tag"
            raise ValueError(f"{where} has {len(columns)} columns, expected {expected}")
        _check_tag(columns[-1], where)
        words.append(columns[0])
        tags.append(columns[-1])
    if words:
        yield {"words": words, "tags": tags}


def _from_json_lines(path: str) -> Iterator[dict]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        record = parse_json(line, where)
        words = require(record, "tokens", list, where)
        tags = require(record, "tags" if "tags" in record else "ner_tags", list, where)
        if len(words) != len(tags):
            raise ValueError(f"{where} has {len(words)} tokens and {len(tags)} tags")
        if wrong := [word for word in words if not isinstance(word, str)]:
            raise ValueError(f"{where}: token {wrong[0]!r:.60}: expected text")
        for tag in tags:
            _check_tag(tag, where)
        if words:
            yield {"words": words, "tags": tags}


def _check_tag(tag: Any, where: str) -> None:
    if not isinstance(tag, str) or not TAG.fullmatch(tag):
        raise ValueError(f"{where}: tag {tag!r:.60}: expected O, B-TYPE or I-TYPE")


ROWS = (TokenClassification("ner"),)
