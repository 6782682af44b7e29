"""Extractive question answering: SQuAD 1.1 and 2.0, the five sets of MRQA 2019, and files in either format.

Section 4.1 of the paper; run_squad.py and run_mrqa.py. A file's format is told by its content. An example is a dict:
`id`, `question`, `context`, `answers` (the gold texts; none where there is no answer), `answer` (the characters
(start, stop) to train on, or None) and `format` ("squad", "squad_v2" or "mrqa"), which decides the metric.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import ClassVar

from eval.metrics.mrqa import mrqa_scores
from eval.metrics.squad import squad_scores
from eval.metrics.squad_v2 import best_no_answer_threshold, squad_v2_scores
from eval.tasks.task import Loaded, Task, load_from_hub, row_length
from modeling_spanbert import QuestionAnswerer, SpanBertForQuestionAnswering
from modeling_spanbert.files import decode_json, numbered_lines, parse_json, read_json, require, shown
from modeling_spanbert.question_answering import (
    encode_questions,
    first_detected_answer,
    locate_answer,
    null_score_diff_threshold,
)


logger = logging.getLogger(__name__)
NOT_IN_CONTEXT = "answer not in its context"
REPAIRED = "answer_start was off, and is put right"
NO_HEADER = "no header line; the first line is read as data"
HALVES = ("dev-half", "test-half")


@dataclass(frozen=True)
class ExtractiveQa(Task):
    """A data set of questions, contexts and answers.

    `format` is None for a user's own file, whose content decides it. `hub` is the data set's place on the Hub, and
    `subset` its value of the column of that name.
    """

    name: str
    format: str | None = None
    hub: tuple[str, ...] = ()
    subset: str | None = None
    max_seq_length: int = 512
    doc_stride: int = 128

    model_class: ClassVar = SpanBertForQuestionAnswering
    pipeline_tag: ClassVar = "question-answering"

    def load(self, data_file: str | None, split: str, training: bool = False) -> Loaded:
        """See `Task.load`. The splits "dev-half" and "test-half" are those of `half`, of the file or of validation.

        In training, questions whose answer is not in the context are left out; in evaluation they stay, since their
        answers are still compared as texts. Both count them, and each `answer_start` that is put right.

        Raises ValueError also for a missing field, an id that is there twice, a negative `answer_start`, `char_spans`
        outside of the context (with file:line), a SQuAD 1.1 file for squad_v2, and no question at all.
        """
        loaded = Loaded([])
        source = data_file or "/".join(self.hub)
        if data_file is not None:
            found = self._from_file(data_file, loaded)
        else:
            found = self._from_hub("validation" if split in HALVES else split)
        seen = set()
        for example in found:
            if example["id"] in seen:
                raise ValueError(f"{source}: id {example['id']!r:.60} is there twice")
            seen.add(example["id"])
            fault = example.pop("fault", None)
            if fault:
                loaded.count(fault, shown(example["id"]))
            if not (training and fault == NOT_IN_CONTEXT):
                loaded.examples.append(example)
        if not loaded.examples:
            why = f" to learn from: {'; '.join(loaded.notes())}" if loaded.counts else ""
            raise ValueError(f"{source} holds no question{why}")
        if split in HALVES:
            loaded.examples = half(loaded.examples, split)
        return loaded

    def _from_file(self, path: str, loaded: Loaded) -> Iterator[dict]:
        first = next(((number, line) for number, line in numbered_lines(path) if line.strip()), None)
        if first is None:
            raise ValueError(f"{path} is empty")
        try:
            record = decode_json(first[1])
        except json.JSONDecodeError:
            record = None  # the first line of indented JSON, or broken: `read_json` says where
        if isinstance(record, dict) and ("header" in record or {"context", "qas"} <= set(record)):
            if "header" not in record:
                loaded.count(NO_HEADER, f"{path}:{first[0]}")
            return self._mrqa(path)
        return self._squad(path)

    def _squad(self, path: str) -> Iterator[dict]:
        content = read_json(path)
        where = str(path)
        articles = require(content, "data", list, where)
        paragraphs = [paragraph for article in articles for paragraph in require(article, "paragraphs", list, where)]
        questions = [
            (require(paragraph, "context", str, where), question)
            for paragraph in paragraphs
            for question in require(paragraph, "qas", list, where)
        ]
        version_2 = any(isinstance(question, dict) and "is_impossible" in question for _, question in questions)
        format = self.format or ("squad_v2" if version_2 else "squad")
        for number, (context, question) in enumerate(questions):
            id = require(question, "id", str, f"{path}: question {number}")
            where = f"{path}: question {shown(id)}"
            text, answers = require(question, "question", str, where), require(question, "answers", list, where)
            if format == "squad_v2" and not version_2:
                raise ValueError(f"{where} has no 'is_impossible': a file of SQuAD 1.1; give --task squad_v1")
            texts = [require(answer, "text", str, where) for answer in answers]
            starts = [require(answer, "answer_start", int, where) for answer in answers]
            yield self._squad_example(id, text, context, texts, starts, format, where)

    def _squad_example(self, id, question, context, texts, starts, format, where) -> dict:
        """Raises ValueError for a negative start, or where `format` needs an answer and there is none."""
        if negative := [start for start in starts if start < 0]:
            raise ValueError(f"{where}: answer_start={negative[0]}: expected a character of the context, from 0")
        if not texts and format != "squad_v2":
            raise ValueError(f"{where} has no answer; questions that may have none are those of squad_v2")
        example = {"id": id, "question": question, "context": context, "answers": texts, "answer": None}
        example["format"] = format
        if texts:
            try:
                example["answer"] = locate_answer(context, texts[0], starts[0])
            except ValueError:
                example["fault"] = NOT_IN_CONTEXT
            else:
                start, stop = example["answer"]
                if context[starts[0] : starts[0] + len(texts[0])] != context[start:stop]:
                    example["fault"] = REPAIRED
        return example

    def _mrqa(self, path: str) -> Iterator[dict]:
        for number, line in numbered_lines(path):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            record = parse_json(line, where)
            if isinstance(record, dict) and "header" in record:
                continue
            context = require(record, "context", str, where)
            for question in require(record, "qas", list, where):
                id = require(question, "qid", str, where)
                place = f"{where}: question {shown(id)}"
                detected = require(question, "detected_answers", list, place)
                for answer in detected:
                    for span in require(answer, "char_spans", list, place):
                        if not isinstance(span, list) or [type(character) for character in span] != [int, int]:
                            raise ValueError(f"{place}: char_spans has {shown(span)}: expected [first, last]")
                yield self._mrqa_example(
                    id,
                    require(question, "question", str, place),
                    context,
                    require(question, "answers", list, place),
                    detected,
                    place,
                )

    def _mrqa_example(self, id, question, context, answers, detected_answers, where) -> dict:
        if not answers or not all(isinstance(answer, str) for answer in answers):
            raise ValueError(f"{where}: answers={answers!s:.60}: expected texts, and one at least")
        example = {"id": id, "question": question, "context": context, "answers": answers, "answer": None}
        example["format"] = self.format or "mrqa"
        if not any(answer["char_spans"] for answer in detected_answers):
            return example | {"fault": NOT_IN_CONTEXT}
        try:
            example["answer"] = first_detected_answer(context, detected_answers)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        return example

    def _from_hub(self, split: str) -> Iterator[dict]:
        """The Hub's MRQA has its contexts stripped, but not their `char_spans` moved: they are put right, and counted.

        Raises ValueError where it has no such `subset`.
        """
        subsets = set()
        for row in load_from_hub(self.name, self.hub, split):
            if self.subset is None:
                where, answers = f"{self.hub[0]}: question {row['id']}", row["answers"]
                yield self._squad_example(
                    *(row[key] for key in ("id", "question", "context")),
                    *(answers["text"], answers["answer_start"], self.format, where),
                )
                continue
            subsets.add(row["subset"])
            if row["subset"] == self.subset:
                detected = row["detected_answers"]
                spans = [
                    (start, text)
                    for text, spans in zip(detected["text"], detected["char_spans"], strict=True)
                    for start in spans["start"]
                ]
                start, text = min(spans) if spans else (0, "")
                example = self._squad_example(
                    *(row["qid"], row["question"], row["context"], [text], [start]),
                    *(self.format, f"{self.hub[0]}: question {row['qid']}"),
                )
                yield example | {"answers": row["answers"]}
        if self.subset is not None and self.subset not in subsets:
            found = ", ".join(sorted(subsets)) or "nothing"
            raise ValueError(f"{self.hub[0]} has no subset {self.subset!r} in split {split!r}; found: {found}")

    def config_fields(self, examples, tokenizer) -> dict:
        return {}

    def featurize(self, examples, tokenizer, config) -> list[dict]:
        """Windows with `start_positions` and `end_positions`: 0 in those that do not have all of the answer.

        A question whose answer has no token, such as a control character, is left out, with a warning.
        """
        features = encode_questions(
            tokenizer,
            [example["question"] for example in examples],
            [example["context"] for example in examples],
            row_length(self, config),
            self.doc_stride,
        )
        rows = []
        for example, windows in zip(examples, features, strict=True):
            try:
                positions = windows.label_positions(example["answer"]).tolist()
            except ValueError as error:
                logger.warning("question %s is left out: %s", example["id"], error)
                continue
            for window, (start, end) in enumerate(positions):
                rows.append(windows[window] | {"start_positions": start, "end_positions": end})
        return rows

    def predict(self, model, tokenizer, examples, batch_size) -> list[dict]:
        """`{"id", "prediction_text", "no_answer_probability", "no_answer_threshold"}` of each question.

        The text is the best that is not empty. The "probability" is by how much, in logits, no answer scores more;
        the answer counts as "" where that is above the threshold, which fine-tuning has stored in the config.
        """
        length = row_length(self, model.config)
        answerer = QuestionAnswerer(model, tokenizer, batch_size, max_seq_length=length, doc_stride=self.doc_stride)
        n_best = answerer.n_best(
            [example["question"] for example in examples], [example["context"] for example in examples]
        )
        threshold = null_score_diff_threshold(model)
        return [
            {
                "id": example["id"],
                "prediction_text": found.answers[0].text if found.answers else "",
                "no_answer_probability": found.score_difference,
                "no_answer_threshold": threshold,
            }
            for example, found in zip(examples, n_best, strict=True)
        ]

    def calibrate(self, model, predictions, examples) -> list[dict]:
        """Of SQuAD 2.0: the threshold with the best F1, ties among questions minded, goes into the config."""
        if examples[0]["format"] != "squad_v2":
            return predictions
        # A context without a token has no answer whatever the threshold: its difference is infinite.
        open_ones = [each for each in predictions if isfinite(each["no_answer_probability"])]
        ids = {each["id"] for each in open_ones}
        golds = [reference for reference in in_squad_layout(examples) if reference["id"] in ids]
        threshold = best_no_answer_threshold(open_ones, golds)[0] if golds else 0.0
        model.config.null_score_diff_threshold = threshold
        return [prediction | {"no_answer_threshold": threshold} for prediction in predictions]

    def baseline(self, training, examples) -> list[dict]:
        """The most frequent answer, or none where that is the most frequent."""
        answers = Counter(example["answers"][0] if example["answers"] else "" for example in training)
        [(text, _)] = answers.most_common(1)
        common = {"prediction_text": text, "no_answer_probability": float(not text), "no_answer_threshold": 0.0}
        return [{"id": example["id"]} | common for example in examples]

    def score(self, predictions, examples) -> dict[str, float]:
        """See `squad_scores`, `squad_v2_scores` (its threshold is the model's) and `mrqa_scores`."""
        return SCORES[examples[0]["format"]](predictions, examples)

    def main_metric(self, examples) -> str:
        return "f1"

    def write(self, predictions, examples, folder: Path, split: str) -> None:
        """predictions_<name>.json: id -> text, "" where SQuAD 2.0's answer is that there is none."""
        may_be_empty = examples[0]["format"] == "squad_v2"
        texts = {
            each["id"]: ""
            if may_be_empty and each["no_answer_probability"] > each["no_answer_threshold"]
            else each["prediction_text"]
            for each in predictions
        }
        path = folder / f"predictions_{self.name}.json"
        path.write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def usage(self, config) -> str:
        return USAGE


USAGE = """\
from transformers import pipeline

answer = pipeline("span-question-answering", model={model}, trust_remote_code=True)
print(answer(question="Where does Ada work?", context="Ada Lovelace works at a library in London."))
"""


def in_squad_layout(examples: list[dict]) -> list[dict]:
    return [{"id": example["id"], "answers": {"text": example["answers"]}} for example in examples]


SCORES = {  # by format
    "squad": lambda predictions, examples: squad_scores(predictions, in_squad_layout(examples)),
    "squad_v2": lambda predictions, examples: squad_v2_scores(
        predictions, in_squad_layout(examples), predictions[0]["no_answer_threshold"]
    ),
    "mrqa": mrqa_scores,
}


def half(examples: list[dict], split: str) -> list[dict]:
    """One of the two halves of MRQA's development sets, of which the paper made a development and a test set.

    The authors' own halves were never released. These are a function of the set of contexts: the contexts (white
    space apart), from those with the most questions to those with the fewest, and among equals by the SHA-256 of their
    text, go each to the half that has fewer questions so far, the first to "dev-half". So no context is in both
    halves, and they are about equally large.
    """
    plain = {context: " ".join(context.split()) for context in {example["context"] for example in examples}}
    contexts = [plain[example["context"]] for example in examples]
    num_questions = Counter(contexts)
    by_hash = {context: hashlib.sha256(context.encode()).hexdigest() for context in num_questions}
    sizes, halves = [0, 0], {}
    for context in sorted(num_questions, key=lambda context: (-num_questions[context], by_hash[context])):
        side = int(sizes[1] < sizes[0])
        halves[context] = HALVES[side]
        sizes[side] += num_questions[context]
    return [example for example, context in zip(examples, contexts, strict=True) if halves[context] == split]


MRQA = ExtractiveQa("", format="mrqa", hub=("mrqa-workshop/mrqa",))
ROWS = (
    ExtractiveQa("extractive_qa"),
    ExtractiveQa("squad_v1", format="squad", hub=("rajpurkar/squad",)),
    ExtractiveQa("squad_v2", format="squad_v2", hub=("rajpurkar/squad_v2",)),
    replace(MRQA, name="newsqa", subset="NewsQA"),
    replace(MRQA, name="triviaqa", subset="TriviaQA-web"),
    replace(MRQA, name="searchqa", subset="SearchQA"),
    replace(MRQA, name="hotpotqa", subset="HotpotQA"),
    replace(MRQA, name="natural_questions", subset="NaturalQuestionsShort"),
)
