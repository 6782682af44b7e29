"""The nine tasks of GLUE (Wang et al., 2019; Section 4.1 and appendix B of the paper).

Files are GLUE's own TSVs: one item a line, no quoting, CoLA's without a header. An example is a dict: `texts` (one or
two), `label` (its name, or a float for STS-B; None in a test set) and `index`, its number in a submission.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from eval.metrics.glue import glue_scores
from eval.tasks.task import Loaded, Task, load_from_hub, logits_of, row_length
from modeling_spanbert import SpanBertForSequenceClassification
from modeling_spanbert.files import numbered_lines, shown


MALFORMED = "lines with another number of columns, left out"
COLA_COLUMNS = ("source", "label", "mark", "sentence")


@dataclass(frozen=True)
class Glue(Task):
    """One of the tasks.

    `texts` and `label` are the columns of its files. `labels` maps what the files and submissions say to the label's
    name in a model's config, in the order of the ids that `glue_scores` takes; it is empty for the regression. `hub`
    is the configuration of the Hub's `nyu-mll/glue`, `hub_texts` its columns where they are named otherwise.
    """

    name: str
    submission: str
    texts: tuple[str, ...]
    labels: dict[str, str] = field(hash=False)
    label: str = "label"
    metric: str = "accuracy"
    hub: tuple[str, ...] = ()
    hub_texts: tuple[str, ...] = ()
    hub_suffix: str = ""  # of its splits validation and test
    headless: bool = False  # train and dev sets without header
    skip_malformed: bool = False
    max_seq_length: int = 128

    model_class: ClassVar = SpanBertForSequenceClassification
    pipeline_tag: ClassVar = "text-classification"

    def load(self, data_file: str | None, split: str, training: bool = False) -> Loaded:
        """See `Task.load`. Items without label are accepted in split "test" only, for their predictions alone.

        Raises ValueError also, with file:line, for another number of columns than the header's (QQP's own files have
        such lines: there they are counted) and for a label that is none of the task's.
        """
        loaded = Loaded([])
        source = data_file or "/".join(self.hub)
        found = self._from_file(data_file, loaded) if data_file is not None else self._from_hub(split)
        loaded.examples.extend(found)
        if not loaded.examples:
            raise ValueError(f"{source} holds no example")
        if any(example["label"] is None for example in loaded.examples) and (training or split != "test"):
            use = "learn from" if training else "score; for predictions alone give --split test"
            raise ValueError(f"{source}: split {split!r} has no labels, so nothing to {use}")
        return loaded

    def _from_file(self, path: str, loaded: Loaded) -> Iterator[dict]:
        lines = numbered_lines(path)
        first = next(lines, None)
        if first is None or not first[1].strip():
            raise ValueError(f"{path} is empty")
        columns = first[1].split("\t")
        rows: Iterator[tuple[int, str]] = lines
        if self.headless and "sentence" not in columns:
            columns, rows = list(COLA_COLUMNS), numbered_lines(path)
        if missing := [column for column in self.texts if column not in columns]:
            raise ValueError(f"{path}:1 has no column {missing[0]!r}; found: {', '.join(map(shown, columns))[:200]}")
        for number, line in rows:
            values = line.split("\t")
            where = f"{path}:{number}"
            if len(values) != len(columns):
                if not self.skip_malformed:
                    raise ValueError(f"{where} has {len(values)} columns, expected {len(columns)}, as in the header")
                loaded.count(MALFORMED, where)
                continue
            record = dict(zip(columns, values, strict=True))
            index = record.get("index", record.get("id", str(len(loaded.examples))))
            texts = [record[column] for column in self.texts]
            yield {"texts": texts, "label": self._label(record.get(self.label), where), "index": index}

    def _label(self, given: str | None, where: str) -> str | float | None:
        if given is None or given == "-1":
            return None
        if self.labels:
            if given not in self.labels:
                raise ValueError(f"{where}: unknown label {given!r:.60}; known: {', '.join(self.labels)}")
            return self.labels[given]
        try:
            value = float(given)
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            raise ValueError(f"{where}: {self.label}={given!r:.60}: expected a number")
        return value

    def _from_hub(self, split: str) -> Iterator[dict]:
        rows = load_from_hub(self.name, self.hub, split if split == "train" else split + self.hub_suffix)
        names = getattr(rows.features.get("label"), "names", None)
        for number, row in enumerate(rows):
            label = row["label"]
            if self.labels and not isinstance(label, str):
                # By name: the Hub's order of MNLI's labels is not GLUE's.
                label = names[label] if names and label >= 0 else label
                label = {name: given for given, name in self.labels.items()}.get(label, label)
            texts = [row[column] for column in self.hub_texts or self.texts]
            where = f"{self.hub[0]}: row {number}"
            label = self._label(None if label is None else "-1" if label == -1 else str(label), where)
            yield {"texts": texts, "label": label, "index": str(row.get("idx", number))}

    def config_fields(self, examples, tokenizer) -> dict[str, Any]:
        if not self.labels:
            return {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}, "problem_type": "regression"}
        return {
            "id2label": dict(enumerate(self.labels.values())),
            "label2id": {name: id for id, name in enumerate(self.labels.values())},
            "problem_type": "single_label_classification",
        }

    def featurize(self, examples, tokenizer, config) -> list[dict]:
        """`[CLS] text [SEP]` or `[CLS] text [SEP] text [SEP]`, cut at the end of the longer text; and `labels`."""
        if not examples:
            return []
        encoded = tokenizer(
            *(list(texts) for texts in zip(*(example["texts"] for example in examples), strict=True)),
            truncation="longest_first",
            max_length=row_length(self, config),
            split_special_tokens=True,  # the [SEP] of a text is letters and brackets, not the token
            verbose=False,
        )
        names = ("input_ids", "token_type_ids")
        rows = [dict(zip(names, ids, strict=True)) for ids in zip(*(encoded[name] for name in names), strict=True)]
        ids = self._model_ids(config) if self.labels else None
        for row, example in zip(rows, examples, strict=True):
            if example["label"] is not None:
                row["labels"] = example["label"] if ids is None else ids[example["label"]]
        return rows

    def _model_ids(self, config) -> dict[str, int]:
        """The model's id of each of the task's labels, by name, whatever the order.

        A label may also be called what it is in GLUE's files; and, where that is a number, by transformers' own name
        for it (LABEL_0). Raises ValueError for a model with other labels.
        """
        for names in (
            {name: name for name in self.labels.values()},
            {name: given for given, name in self.labels.items()},
            {name: f"LABEL_{given}" for given, name in self.labels.items() if given.isdigit()},
        ):
            if set(names.values()) == set(config.label2id):
                return {name: config.label2id[theirs] for name, theirs in names.items()}
        theirs, ours = ", ".join(list(config.label2id)[:8]), ", ".join(self.labels.values())
        raise ValueError(f"the model's labels are {theirs}, those of {self.name} {ours}: name them so in its config")

    def predict(self, model, tokenizer, examples, batch_size) -> list[str | float]:
        """The name of each example's label, or its value."""
        if not self.labels and model.config.num_labels != 1:
            raise ValueError(f"the model has {model.config.num_labels} labels; {self.name} needs one, a value")
        names = {id: name for name, id in self._model_ids(model.config).items()} if self.labels else None
        rows = self.featurize(examples, tokenizer, model.config)
        logits = logits_of(model, tokenizer, rows, batch_size)
        return [of_row.item() if names is None else names[of_row.argmax().item()] for of_row in logits]

    def baseline(self, training, examples) -> list[str | float]:
        """The most frequent label, or the mean value."""
        labels = [example["label"] for example in training]
        guess = Counter(labels).most_common(1)[0][0] if self.labels else fmean(labels)
        return [guess] * len(examples)

    def score(self, predictions, examples) -> dict[str, float]:
        """See `glue_scores`; nothing for examples without labels."""
        golds = [example["label"] for example in examples]
        if None in golds:
            return {}
        ids = {name: id for id, name in enumerate(self.labels.values())}
        if ids:
            predictions, golds = ([ids[name] for name in names] for names in (predictions, golds))
        return glue_scores(self.name, predictions, golds)

    def main_metric(self, examples) -> str:
        return self.metric

    def write(self, predictions, examples, folder: Path, split: str) -> None:
        """predictions_<name>.txt: a label or value a line, as GLUE's files write it. Of a test set also a submission.

        That is GLUE's own file (CoLA.tsv, …) with the columns index and prediction.
        """
        given = {name: given for given, name in self.labels.items()}
        lines = [given[prediction] if given else str(prediction) for prediction in predictions]
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"predictions_{self.name}.txt").write_text(text, encoding="utf-8")
        if split == "test":
            pairs = zip((example["index"] for example in examples), lines, strict=True)
            text = "index\tprediction\n" + "".join(f"{index}\t{line}\n" for index, line in pairs)
            (folder / f"{self.submission}.tsv").write_text(text, encoding="utf-8")

    def usage(self, config) -> str:
        if len(self.texts) == 1:
            return USAGE.replace("{texts}", '"Ada has written a wonderful book."')
        return USAGE.replace("{texts}", '{"text": "Ada has written a book.", "text_pair": "There is a book by Ada."}')


USAGE = """\
from transformers import pipeline

classify = pipeline("text-classification", model={model}, trust_remote_code=True)
print(classify({texts}))
"""
PAIR = ("sentence1", "sentence2")
ENTAILMENT = {"entailment": "entailment", "not_entailment": "not_entailment"}
EQUIVALENT = {"0": "not_equivalent", "1": "equivalent"}
# The order of SpanBERT's and BERT's code; only names count.
NLI = {name: name for name in ("contradiction", "entailment", "neutral")}
HUB = "nyu-mll/glue"
MNLI = Glue(
    "mnli",
    "MNLI-m",
    PAIR,
    NLI,
    "gold_label",
    hub=(HUB, "mnli"),
    hub_texts=("premise", "hypothesis"),
    hub_suffix="_matched",
)
ROWS = (
    Glue(
        "cola",
        "CoLA",
        ("sentence",),
        {"0": "unacceptable", "1": "acceptable"},
        metric="matthews_correlation",
        hub=(HUB, "cola"),
        headless=True,
    ),
    Glue("sst2", "SST-2", ("sentence",), {"0": "negative", "1": "positive"}, hub=(HUB, "sst2")),
    Glue("mrpc", "MRPC", ("#1 String", "#2 String"), EQUIVALENT, "Quality", "f1", hub=(HUB, "mrpc"), hub_texts=PAIR),
    Glue("stsb", "STS-B", PAIR, {}, "score", "pearson", hub=(HUB, "stsb")),
    Glue(
        "qqp",
        "QQP",
        ("question1", "question2"),
        {"0": "not_duplicate", "1": "duplicate"},
        "is_duplicate",
        "f1",
        hub=(HUB, "qqp"),
        skip_malformed=True,
    ),
    MNLI,
    replace(MNLI, name="mnli_matched"),
    replace(MNLI, name="mnli_mismatched", submission="MNLI-mm", hub_suffix="_mismatched"),
    Glue("qnli", "QNLI", ("question", "sentence"), ENTAILMENT, hub=(HUB, "qnli")),
    Glue("rte", "RTE", PAIR, ENTAILMENT, hub=(HUB, "rte")),
    Glue("wnli", "WNLI", PAIR, {"0": "not_entailment", "1": "entailment"}, hub=(HUB, "wnli")),
)
