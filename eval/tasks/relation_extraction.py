"""Relation extraction: TACRED, TACREV, Re-TACRED, and any file in TACRED's layout (Section 4.1; run_tacred.py).

An example is a dict of that layout, see `modeling_spanbert.relations`. The data sets are licensed: `data_file` is the
user's own copy.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.metrics.tacred import tacred_scores
from eval.tasks.task import Loaded, Task, needs_own_copy, row_length
from modeling_spanbert import RelationExtractor, SpanBertForRelationExtraction
from modeling_spanbert.files import read_json, require, shown
from modeling_spanbert.relations import (
    RelationFeaturizer,
    add_entity_tokens,
    check_spans,
    closest,
    label_ids,
    make_entity_token_map,
    relation_labels,
)


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RelationExtraction(Task):
    """A data set of sentences with a subject, an object and their relation.

    `negative_label` is the relation that is none, which the scores leave out; "none" where every label counts.
    `relation_input` and `relation_pooling` are those of a new model's config.
    """

    name: str
    negative_label: str = "no_relation"
    relation_input: str = "entity_mask"
    relation_pooling: str = "cls"
    max_seq_length: int = 128

    model_class: ClassVar = SpanBertForRelationExtraction
    pipeline_tag: ClassVar = "text-classification"

    def load(self, data_file: str | None, split: str, training: bool = False) -> Loaded:
        """See `Task.load`. Raises ValueError, with the id, for no relation and for what `check_spans` refuses."""
        if data_file is None:
            raise needs_own_copy(self.name)
        examples = read_json(data_file)
        if not isinstance(examples, list) or not examples:
            raise ValueError(f"{data_file}: expected a list of examples in TACRED's layout, and one at least")
        for number, example in enumerate(examples):
            where = f"{data_file}: example {shown(example.get('id', number) if isinstance(example, dict) else number)}"
            relation = require(example, "relation", str, where)
            if relation.splitlines() not in ([], [relation]):  # predictions are written with a label a line
                raise ValueError(f"{where}: relation={relation!r:.60}: expected a name on one line")
            require(example, "token", list, where)
            check_spans(example, where)
        return Loaded(examples)

    def config_fields(self, examples, tokenizer) -> dict:
        """`label2id`, `id2label` and the entity map: functions of the sets and counts of the training examples.

        Raises ValueError where no training example has the `negative_label`.
        """
        known = {example["relation"] for example in examples}
        if self.negative_label not in (*known, "none"):
            raise ValueError(
                f"negative_label={self.negative_label} is the relation of no training example"
                f"{closest(self.negative_label, known)}; give --negative_label (none: every label counts)"
            )
        labels = relation_labels(examples, None if self.negative_label == "none" else self.negative_label)
        types = ({example.get(f"{role}_type") for example in examples} for role in ("subj", "obj"))
        return {
            "id2label": dict(enumerate(labels)),
            "label2id": {label: id for id, label in enumerate(labels)},
            "relation_input": self.relation_input,
            "relation_pooling": self.relation_pooling,
            "entity_token_map": make_entity_token_map(self.relation_input, tokenizer, *types),
        }

    def prepare_model(self, model, tokenizer) -> None:
        add_entity_tokens(model, tokenizer)

    def check(self, examples, tokenizer, config) -> None:
        RelationFeaturizer(tokenizer, config, row_length(self, config))(examples)
        self._tell_unknown(examples, config.label2id)

    def featurize(self, examples, tokenizer, config) -> list[dict]:
        """See `RelationFeaturizer`; `labels` are ids of `config.label2id`."""
        rows = RelationFeaturizer(tokenizer, config, row_length(self, config))(examples)
        return [row | {"labels": id} for row, id in zip(rows, label_ids(examples, config.label2id), strict=True)]

    def predict(self, model, tokenizer, examples, batch_size) -> list[str]:
        """The label of each example, by its name.

        Raises ValueError where the model has no `negative_label`, since all that it predicts would then count as a
        relation. Relations that the model does not know count as missed, as in the official scorer; a warning lists
        them.
        """
        known = model.config.label2id
        if self.negative_label not in (*known, "none"):
            raise ValueError(
                f"negative_label={self.negative_label} is no label of the model{closest(self.negative_label, known)}; "
                "give --negative_label (none: every label counts)"
            )
        self._tell_unknown(examples, known)
        extractor = RelationExtractor(model, tokenizer, batch_size, row_length(self, model.config))
        return [found["label"] for found in extractor.predict(examples)]

    def _tell_unknown(self, examples: list[dict], known: Iterable[str]) -> None:
        if unknown := sorted({example["relation"] for example in examples} - set(known)):
            logger.warning("%s: the model has no label for %s: they count as missed", self.name, ", ".join(unknown))

    def baseline(self, training, examples) -> list[str]:
        return [Counter(example["relation"] for example in training).most_common(1)[0][0]] * len(examples)

    def score(self, predictions, examples) -> dict[str, float]:
        """See `tacred_scores`."""
        return tacred_scores(predictions, [example["relation"] for example in examples], self.negative_label)

    def main_metric(self, examples) -> str:
        return "f1"

    def write(self, predictions, examples, folder: Path, split: str) -> None:
        """predictions_<name>.txt: one label a line, as the official scorer reads it."""
        text = "".join(f"{label}\n" for label in predictions)
        (folder / f"predictions_{self.name}.txt").write_text(text, encoding="utf-8")

    def usage(self, config) -> str:
        """With the first of the model's types for each entity, where it is shown types."""
        types = ""
        for role, name in (("SUBJ", "subject"), ("OBJ", "object")):
            known = [each.split("=", 1)[1] for each in config.entity_token_map or {} if each.startswith(f"{role}=")]
            types += f", {name}_type={known[0]!r}" if known else ""
        return USAGE.replace("{types}", types)


USAGE = """\
from modeling_spanbert import RelationExtractor

extract = RelationExtractor.from_pretrained({model})
text = "Ada Lovelace works at a library in London."
print(extract(text=text, subject=(0, 12), object=(35, 41){types}))
"""


ROWS = tuple(RelationExtraction(name) for name in ("relation_extraction", "tacred", "tacrev", "retacred"))
