"""Relation extraction: which relation holds between a subject and an object in a sentence (Section 4.1 of the paper).

    extract = RelationExtractor.from_pretrained("your-org/spanbert-base-cased-tacred")
    extract(text="Ada works at Acme.", subject=(0, 3), object=(13, 17), subject_type="PERSON", object_type="COMPANY")

Before that come the features, which training and evaluation use too. The model is shown the entities in one of five
ways, `config.relation_input`; of "Ada works at Acme" it reads:

    entity_mask                 <SUBJ=PERSON> works at <OBJ=COMPANY>
    entity_marker               <SUBJ_START> Ada <SUBJ_END> works at <OBJ_START> Acme <OBJ_END>
    entity_marker_punct         @ Ada @ works at # Acme #
    typed_entity_marker         <SUBJ=PERSON> Ada </SUBJ=PERSON> works at <OBJ=COMPANY> Acme </OBJ=COMPANY>
    typed_entity_marker_punct   @ * person * Ada @ works at # ^ company ^ Acme #

The first is the paper's; it and `entity_marker` are the modes "ner" and "text" of the original run_tacred.py. The
others are from Zhou and Chen (2022, arXiv 2102.01373). What is in angle brackets is one token, which
`config.entity_token_map` names. The original numbers these tokens in the order in which it meets the types, and does
not save the numbers; here they depend on the set of types only, and the config keeps them.

An example is a dict in the layout of TACRED: `token` (words), `subj_start`, `subj_end`, `obj_start`, `obj_end` (the
first and the last word, both included), and where they are needed `subj_type`, `obj_type`, `id`, `relation`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise
from numbers import Integral

import torch
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from .checks import check_unicode
from .configuration_spanbert import RELATION_INPUTS, SpanBertConfig
from .files import shown
from .modeling_spanbert import SpanBertForRelationExtraction
from .opening import open_fine_tuned
from .question_answering import groups
from .text import restore_bracket


MAX_SEQ_LENGTH = 128  # the paper's, appendix B
ROLES = {"SUBJ": "subject", "OBJ": "object"}
PUNCTUATION = {"SUBJ": ("@", "*"), "OBJ": ("#", "^")}  # around the entity, around its type


# Entity tokens and labels: what is decided once, before training, and saved in the config


def make_entity_token_map(
    relation_input: str,
    tokenizer: PreTrainedTokenizerBase,
    subject_types: Iterable[str] = (),
    object_types: Iterable[str] = (),
) -> dict[str, str]:
    """What stands for each marker and type, for `config.entity_token_map`: by the set of types, whatever their order.

    Tokens are the `[unusedN]` of the vocabulary, in the order of N: those of the sorted types of subjects, then of
    objects. Where there are too few, all are new ones ("[SUBJ=PERSON]"), which `add_entity_tokens` adds. With
    `typed_entity_marker_punct` the map has each type's words, as "state or province".

    Raises ValueError for another `relation_input`, and for one that shows types where there are none.
    """
    if relation_input not in RELATION_INPUTS:
        raise ValueError(f"unknown relation_input {relation_input!r}; known: {', '.join(RELATION_INPUTS)}")
    if relation_input == "entity_marker_punct":
        return {}
    if relation_input == "entity_marker":
        names = ["SUBJ_START", "SUBJ_END", "OBJ_START", "OBJ_END"]
    else:
        names = []
        for role, types in (("SUBJ", subject_types), ("OBJ", object_types)):
            types = set(types) - {None}
            if not types:
                raise ValueError(
                    f"relation_input={relation_input} shows the types of entities, but the {ROLES[role]}s have none: "
                    "take entity_marker or entity_marker_punct"
                )
            names += [f"{role}={name}" for name in sorted(types)]
    if relation_input == "typed_entity_marker_punct":
        return {name: name.split("=", 1)[1].replace("_", " ").lower() for name in names}
    if relation_input == "typed_entity_marker":
        names = [name for opening in names for name in (opening, f"/{opening}")]
    unused = [piece for piece in tokenizer.get_vocab() if re.fullmatch(r"\[unused\d+\]", piece)]
    unused.sort(key=lambda piece: int(piece[7:-1]))
    if len(unused) < len(names):
        return {name: f"[{name}]" for name in names}
    return dict(zip(names, unused, strict=False))


def add_entity_tokens(model: SpanBertForRelationExtraction, tokenizer: PreTrainedTokenizerBase) -> None:
    """Adds the tokens of the model's `entity_token_map` that the vocabulary lacks to `tokenizer` and `model`."""
    if model.config.relation_input == "typed_entity_marker_punct":
        return
    known = tokenizer.get_vocab()
    missing = [token for token in (model.config.entity_token_map or {}).values() if token not in known]
    tokenizer.add_tokens(missing, special_tokens=True)
    if len(tokenizer) > model.config.vocab_size:
        # As an [unusedN] would be: any vector, to be learnt.
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def relation_labels(examples: Iterable[dict], negative_label: str | None = "no_relation") -> list[str]:
    """Names in the order of the ids: `negative_label`, if any, then from the most to the least frequent.

    So does the original, which has equally frequent ones in the order of the file, here in that of the alphabet.
    """
    counts = Counter(example["relation"] for example in examples)
    ranked = sorted(counts, key=lambda label: (-counts[label], label))
    return [*([negative_label] if negative_label else []), *(label for label in ranked if label != negative_label)]


def label_ids(examples: list[dict], label2id: dict[str, int]) -> list[int]:
    """The id of each example's relation. Raises ValueError for one that `label2id` does not have."""
    for number, example in enumerate(examples):
        if example["relation"] not in label2id:
            what = f"unknown relation {example['relation']!r}{closest(example['relation'], label2id)}"
            raise ValueError(f"{name_of(example, number)}: {what}")
    return [label2id[example["relation"]] for example in examples]


# Features


class RelationFeaturizer:
    """Examples -> what `SpanBertForRelationExtraction` reads.

    Both entities are whole in every sequence. A sentence of more than `max_seq_length` tokens, with markers, [CLS] and
    [SEP], keeps what is between the entities and as much on either side of them. Where already that is too long, it
    keeps what is next to either entity of the tokens between them, without the middle, and nothing outside. (The
    original cuts the end, also of entities.)

    Args:
        tokenizer: WordPiece; words are tokenized one by one, and never taken for [SEP] or a marker.
        config: `relation_input`, `entity_token_map` and `max_position_embeddings`.
        max_seq_length: by default 128, as in the paper, or less where the model has fewer positions.

    Raises ValueError, with one line, where the three do not fit together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: SpanBertConfig, max_seq_length: int | None = None):
        if max_seq_length is None:
            max_seq_length = min(MAX_SEQ_LENGTH, config.max_position_embeddings)
        if not isinstance(max_seq_length, Integral) or not 4 <= max_seq_length <= config.max_position_embeddings:
            raise ValueError(
                f"max_seq_length={max_seq_length}: expected 4 to {config.max_position_embeddings}, the model's "
                "max_position_embeddings"
            )
        for special in ("cls_token", "sep_token", "pad_token"):
            if getattr(tokenizer, special) is None:
                raise ValueError(f"the tokenizer has no {special}: take the one that was saved with the model")
        if len(tokenizer) > config.vocab_size:
            raise ValueError(
                f"the tokenizer has {len(tokenizer)} pieces, but the model's vocab_size is {config.vocab_size}: take "
                "the one that was saved with the model, or resize the model with add_entity_tokens"
            )
        self.tokenizer = tokenizer
        self.relation_input = config.relation_input
        self.max_seq_length = int(max_seq_length)
        self.markers = self._markers(config.entity_token_map or {})

    def __call__(self, examples: list[dict], first_number: int = 0) -> list[dict]:
        """For each example `input_ids` (T ids), `subject_index` and `object_index`: its mask or its opening marker.

        Raises ValueError, with one line that names the example (its `id`, or its number from `first_number`), for a
        span that is outside of the sentence, ends before it starts, is blank or overlaps the other one, for a type
        that is not known, and for entities that alone are longer than `max_seq_length`.
        """
        names = [name_of(example, number) for number, example in enumerate(examples, first_number)]
        for example, name in zip(examples, names, strict=True):
            check_spans(example, name)
        words = list({word for example in examples for word in example["token"]})
        pieces = dict(zip(words, self._tokenize(list(map(restore_bracket, words))), strict=True))
        return [self._features(example, pieces, name) for example, name in zip(examples, names, strict=True)]

    def _tokenize(self, words: list[str]) -> list[list[int]]:
        """The pieces of each word; the [SEP] of a text is letters and brackets, not the token."""
        if not words:
            return []
        return self.tokenizer(words, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

    def _markers(self, entity_token_map: dict[str, str]) -> dict[str, tuple[list[int], list[int]]]:
        """What is put before and after an entity, by its role and, where the format shows it, type ("SUBJ=PERSON")."""

        def token(name: str) -> list[int]:
            if name not in entity_token_map:
                raise ValueError(
                    f"relation_input={self.relation_input} needs {name!r} in config.entity_token_map; "
                    "see modeling_spanbert.relations.make_entity_token_map"
                )
            if entity_token_map[name] not in vocabulary:
                raise ValueError(
                    f"the vocabulary has no {entity_token_map[name]!r}, which config.entity_token_map has for {name}; "
                    "take the tokenizer that was saved with the model, or add it with add_entity_tokens"
                )
            return [vocabulary[entity_token_map[name]]]

        def written(*words: str) -> list[int]:
            ids = [id for word in self._tokenize(list(words)) for id in word]
            if self.tokenizer.unk_token_id in ids:
                raise ValueError(
                    f"the vocabulary cannot write {' '.join(words)!r}, which relation_input={self.relation_input} "
                    "puts beside an entity; take another one of the formats"
                )
            return ids

        vocabulary = self.tokenizer.get_vocab()
        typed = [name for name in entity_token_map if name.startswith(("SUBJ=", "OBJ="))]
        match self.relation_input:
            case "entity_mask":
                return {name: (token(name), []) for name in typed}
            case "entity_marker":
                return {role: (token(f"{role}_START"), token(f"{role}_END")) for role in ROLES}
            case "entity_marker_punct":
                return {role: (written(mark), written(mark)) for role, (mark, _) in PUNCTUATION.items()}
            case "typed_entity_marker":
                return {name: (token(name), token(f"/{name}")) for name in typed}
            case "typed_entity_marker_punct":
                markers = {}
                for name in typed:
                    mark, around_type = PUNCTUATION[name.split("=")[0]]
                    opening = written(mark, around_type, entity_token_map[name], around_type)
                    markers[name] = (opening, written(mark))
                return markers

    def _features(self, example: dict, pieces: dict[str, list[int]], name: str) -> dict:
        def ids(start: int, end: int) -> list[int]:
            return [id for word in example["token"][start:end] for id in pieces[word]]

        def shown(role: str) -> list[int]:
            opening, closing = self.markers[self._marker_name(role, example, name)]
            if self.relation_input == "entity_mask":
                return opening
            return opening + ids(*span(role)) + closing

        def span(role: str) -> tuple[int, int]:
            return example[f"{role.lower()}_start"], example[f"{role.lower()}_end"] + 1

        first, second = sorted(ROLES, key=span)
        entities = shown(first), shown(second)
        around = ids(0, span(first)[0]), ids(span(first)[1], span(second)[0]), ids(span(second)[1], None)
        room = self.max_seq_length - 2 - sum(map(len, entities))
        if room < 0:
            raise ValueError(
                f"{name}: its subject and object alone take {sum(map(len, entities)) + 2} tokens, but "
                f"max_seq_length={self.max_seq_length}: raise it, or take relation_input=entity_mask"
            )
        before, between, after = fit(*around, room)
        index = {first: 1 + len(before), second: 1 + len(before) + len(entities[0]) + len(between)}
        body = before + entities[0] + between + entities[1] + after
        return {
            "input_ids": [self.tokenizer.cls_token_id, *body, self.tokenizer.sep_token_id],
            "subject_index": index["SUBJ"],
            "object_index": index["OBJ"],
        }

    def _marker_name(self, role: str, example: dict, name: str) -> str:
        if role in self.markers:  # the format shows no types
            return role
        given = example.get(f"{role.lower()}_type")
        if f"{role}={given}" not in self.markers:
            known = [marker.split("=", 1)[1] for marker in self.markers if marker.startswith(f"{role}=")]
            raise ValueError(f"{name}: unknown {ROLES[role]} type {given!r}{closest(given, known)}")
        return f"{role}={given}"


def fit(before: list, between: list, after: list, room: int) -> tuple[list, list, list]:
    """Cuts what surrounds two entities to `room` items: those between them first, then as much on either side."""
    if len(between) >= room:
        head = (room + 1) // 2
        return [], between[:head] + between[len(between) - (room - head) :], []
    room -= len(between)
    num_after = min(len(after), max(room // 2, room - len(before)))
    num_before = min(len(before), room - num_after)
    return before[len(before) - num_before :], between, after[:num_after]


def name_of(example: dict, number: int) -> str:
    return f"example {shown(example.get('id', number))}"


def closest(name: str | None, known: Iterable[str]) -> str:
    """The end of a message that `name` is not known."""
    known = sorted(known)
    similar = get_close_matches(str(name), known, n=1)
    listed = ", ".join(map(shown, known)) or "none (is config.entity_token_map set?)"
    return f"; closest: {shown(similar[0])}; known: {listed}" if similar else f"; known: {listed}"


def check_spans(example: dict, name: str) -> None:
    """Raises ValueError unless the sentence has words, and subject and object are some of them, and not the same.

    Their types, where it has any, are names.
    """
    missing = [key for key in ("token", "subj_start", "subj_end", "obj_start", "obj_end") if key not in example]
    if missing:
        raise ValueError(f"{name} has no {missing[0]!r}; expected token, subj_start, subj_end, obj_start, obj_end")
    tokens = example["token"]
    if isinstance(tokens, str) or not all(isinstance(token, str) for token in tokens):
        raise ValueError(f"{name}: tokens {str(tokens)[:50]!r}: expected a list of words")
    check_unicode(" ".join(tokens), name)
    spans = [(example[f"{role}_start"], example[f"{role}_end"]) for role in ("subj", "obj")]
    for role, (start, end) in zip(ROLES.values(), spans, strict=True):
        if not are_places(start, end) or not 0 <= start <= end < len(tokens):
            raise ValueError(
                f"{name}: {role} ({shown(start)}, {shown(end)}) in a sentence of {len(tokens)} words: expected "
                "its first and last word, counted from 0, both included"
            )
        if not "".join(tokens[start : end + 1]).strip():
            raise ValueError(f"{name}: {role} ({start}, {end}) is blank: expected at least one word")
    (subject_start, subject_end), (object_start, object_end) = spans
    if subject_start <= object_end and object_start <= subject_end:
        raise overlap(*spans, name)
    for key in ("subj_type", "obj_type"):
        if not isinstance(example.get(key), str | None):
            raise ValueError(f"{name}: {key}={shown(example[key])}: expected a name")


def are_places(*values) -> bool:
    return all(isinstance(value, Integral) and not isinstance(value, bool) for value in values)


def overlap(subject: tuple[int, int], object: tuple[int, int], name: str) -> ValueError:
    return ValueError(f"{name}: subject {tuple(subject)} and object {tuple(object)} overlap: expected two spans apart")


def split_at_entities(text: str, subject: tuple[int, int], object: tuple[int, int], name: str) -> dict:
    """An example of the five parts of `text`: before, between, after and the entities, at any character."""
    for role, (start, end) in (("subject", subject), ("object", object)):
        if not are_places(start, end) or not 0 <= start < end <= len(text):
            raise ValueError(
                f"{name}: {role} ({shown(start)}, {shown(end)}) in a text of {len(text)} characters: expected "
                "(start, end), so that text[start:end] is the entity"
            )
        if not text[start:end].strip():
            raise ValueError(f"{name}: {role} ({start}, {end}) is blank: expected text[start:end] to be the entity")
    first, second = sorted((subject, object))
    if second[0] < first[1]:
        raise overlap(subject, object, name)
    cuts = [0, *first, *second, len(text)]
    place = {tuple(first): 1, tuple(second): 3}
    return {
        "token": [text[start:end] for start, end in pairwise(cuts)],
        "subj_start": place[tuple(subject)],
        "subj_end": place[tuple(subject)],
        "obj_start": place[tuple(object)],
        "obj_end": place[tuple(object)],
    }


# Prediction


class RelationExtractor:
    """The relation between two entities of a sentence, by a fine-tuned `SpanBertForRelationExtraction`.

    Args:
        model, tokenizer: as they were saved together; the model is put in eval mode.
        batch_size: sentences at a time.
        max_seq_length: see `RelationFeaturizer`; give that of the training where it was another one.

    Raises ValueError where model, tokenizer and `max_seq_length` do not fit together.
    """

    def __init__(
        self,
        model: SpanBertForRelationExtraction,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 32,
        max_seq_length: int | None = None,
    ):
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected an integer of at least 1")
        self.model = model.eval()
        self.batch_size = batch_size
        self.featurize = RelationFeaturizer(tokenizer, model.config, max_seq_length)
        self.pad = DataCollatorWithPadding(tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int = 32,
        max_seq_length: int | None = None,
        **kwargs,
    ) -> "RelationExtractor":
        """Opens a folder or a repository of the Hub; `open_fine_tuned` says what it takes and raises."""
        opened = open_fine_tuned(SpanBertForRelationExtraction, name, "relation extraction", device, dtype, **kwargs)
        return cls(*opened, batch_size, max_seq_length)

    def __call__(
        self,
        *,
        text: str | list[str] | None = None,
        tokens: list[str] | list[list[str]] | None = None,
        subject: tuple[int, int] | list[tuple[int, int]],
        object: tuple[int, int] | list[tuple[int, int]],
        subject_type: str | list[str] | None = None,
        object_type: str | list[str] | None = None,
    ) -> dict | list[dict]:
        """`{"label", "score"}`: the most probable relation and its probability; a list of these for lists.

        Give either `text`, with `subject` and `object` as (start, end) in characters so that `text[start:end]` is the
        entity; or `tokens` (words), with them as (first, last) word, both included, as in TACRED. For lists all are
        lists of one length; a type may be one for all, and is not needed where `config.relation_input` shows none.

        Raises ValueError, with one line, for lists of different lengths and for what `RelationFeaturizer` refuses.
        """
        if (text is None) == (tokens is None):
            raise ValueError("expected exactly one of text and tokens")
        sentences = tokens if text is None else text
        one = isinstance(sentences, str) or (tokens is not None and len(tokens) > 0 and isinstance(tokens[0], str))
        columns = {"subject": subject, "object": object, "subject_type": subject_type, "object_type": object_type}
        if one:
            sentences, columns = [sentences], {name: [column] for name, column in columns.items()}
        for name in ("subject_type", "object_type"):
            if columns[name] is None or isinstance(columns[name], str):
                columns[name] = [columns[name]] * len(sentences)
        for name, column in columns.items():
            if len(column) != len(sentences):
                raise ValueError(
                    f"{len(sentences)} sentences, but {name} is a list of {len(column)}: expected one for each"
                )

        examples = []
        for number, (sentence, *spans, subj_type, obj_type) in enumerate(
            zip(sentences, *columns.values(), strict=True)
        ):
            for role, span in zip(ROLES.values(), spans, strict=True):
                if not isinstance(span, tuple | list) or len(span) != 2:
                    raise ValueError(f"example {number}: {role} {span!r}: expected a pair (start, end)")
            if text is None:
                words = ("subj_start", "subj_end", "obj_start", "obj_end")
                example = {"token": sentence} | dict(zip(words, (*spans[0], *spans[1]), strict=True))
            else:
                example = split_at_entities(sentence, *spans, f"example {number}")
            examples.append(example | {"subj_type": subj_type, "obj_type": obj_type})
        found = self.predict(examples)
        return found[0] if one else found

    def predict(self, examples: list[dict]) -> list[dict]:
        """`{"label", "score"}` of each example in TACRED's layout, in their order.

        Raises ValueError for what `RelationFeaturizer` refuses, and where the model's scores are not finite.
        """
        for number, example in enumerate(examples):
            check_spans(example, name_of(example, number))  # all, before the first is computed
        found = []
        for part in groups(sum(map(len, example["token"])) for example in examples):
            found += self._predict(self.featurize(examples[part], part.start))
        return found

    @torch.no_grad()
    def _predict(self, features: list[dict]) -> list[dict]:
        by_length = sorted(range(len(features)), key=lambda number: -len(features[number]["input_ids"]))
        found = [None] * len(features)
        for start in range(0, len(features), self.batch_size):
            numbers = by_length[start : start + self.batch_size]
            batch = self.pad([features[number] for number in numbers]).to(self.model.device)
            logits = self.model(**batch).logits.float()  # (B, num_labels)
            if not logits.isfinite().all():
                raise ValueError(
                    f"the model's scores are not finite in {self.model.dtype}: give dtype='float32', or other weights"
                )
            scores, ids = logits.softmax(-1).max(-1)  # (B,) each
            for number, id, score in zip(numbers, ids.tolist(), scores.tolist(), strict=True):
                found[number] = {"label": self.model.config.id2label[id], "score": score}
        return found
