"""Relations: the original's sequences, both entities in every one, a classifier, and labels by name out of text."""

import gzip
import json
import random

import pytest
import torch
import transformers
from helpers import data_file, testdata_file, tiny_config, tiny_tokenizer
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, BertForSequenceClassification, BertTokenizer

import modeling_spanbert
from modeling_spanbert import (
    RelationExtractor,
    SpanBertConfig,
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
    SpanBertModel,
)
from modeling_spanbert.configuration_spanbert import AUTO_CLASSES, RELATION_INPUTS, RELATION_POOLINGS
from modeling_spanbert.export import verify_remote_code
from modeling_spanbert.relations import (
    RelationFeaturizer,
    add_entity_tokens,
    fit,
    label_ids,
    make_entity_token_map,
    relation_labels,
)
from modeling_spanbert.text import TREEBANK_BRACKETS


TYPES = ["PERSON", "TEAM", "STATE_OR_PROVINCE"]
UNUSED = " ".join(f"[unused{n}]" for n in range(1, 13))
PUNCTUATION = "@ * # ^ _ [ ] / ="


def relation_tokenizer() -> BertTokenizer:
    """With letters, so that it can write any word, and 12 unused pieces."""
    letters = "##" + " ##".join("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return tiny_tokenizer(f"the queen won with her team in city person {PUNCTUATION} {UNUSED} {letters}")


def make_featurizer(relation_input: str, tokenizer=None, max_seq_length=None, **fields) -> RelationFeaturizer:
    tokenizer = tokenizer or relation_tokenizer()
    entity_token_map = make_entity_token_map(relation_input, tokenizer, TYPES, TYPES)
    config = SpanBertConfig(**({"relation_input": relation_input, "entity_token_map": entity_token_map} | fields))
    return RelationFeaturizer(tokenizer, config, max_seq_length)


def make_model(tokenizer, relation_input="entity_mask", **fields) -> SpanBertForRelationExtraction:
    torch.manual_seed(0)
    config = tiny_config(
        vocab_size=len(tokenizer),
        relation_input=relation_input,
        entity_token_map=make_entity_token_map(relation_input, tokenizer, TYPES, TYPES),
        **({"initializer_range": 0.2} | fields),
    )
    return SpanBertForRelationExtraction(config).eval()


def example(tokens: str, subject=(0, 0), object=(2, 2), subject_type="PERSON", object_type="TEAM", **more) -> dict:
    return {
        "token": tokens.split(),
        "subj_start": subject[0],
        "subj_end": subject[1],
        "obj_start": object[0],
        "obj_end": object[1],
        "subj_type": subject_type,
        "obj_type": object_type,
    } | more


# Against the original programs


def vector_tokens(value: list | dict) -> list[str]:
    return value if isinstance(value, list) else value["tokens"]


def real_vocabulary(cases: list[dict]) -> dict[str, int]:
    lines = testdata_file("vocab", "bert-base-cased-vocab.txt").read_text(encoding="utf-8").splitlines()
    return {piece: id for id, piece in enumerate(lines)}


def vocabulary_of_vectors(cases: list[dict]) -> dict[str, int]:
    """Every piece that the vectors have: the longest match in the whole vocabulary is the longest one in this."""
    pieces = [piece for case in cases for value in case["modes"].values() for piece in vector_tokens(value)]
    pieces = dict.fromkeys(["[PAD]", "[UNK]", "[MASK]", *(f"[unused{n}]" for n in range(1, 100)), *pieces])
    return {piece: id for id, piece in enumerate(pieces)}


@pytest.mark.parametrize("vocabulary", [vocabulary_of_vectors, real_vocabulary])
@pytest.mark.parametrize(("mode", "relation_input"), [("ner", "entity_mask"), ("text", "entity_marker")]
    + [(name, name) for name in RELATION_INPUTS[1:]])  # fmt: skip
def test_sequences_are_those_of_the_original_programs(mode, relation_input, vocabulary):
    vectors = json.loads(testdata_file("relations", "features.json").read_text(encoding="utf-8"))
    examples = [case["example"] for case in vectors["cases"]]
    tokenizer = BertTokenizer(vocab=vocabulary(vectors["cases"]), do_lower_case=False)
    types = [[example[key] for example in examples] for key in ("subj_type", "obj_type")]
    entity_token_map = make_entity_token_map(relation_input, tokenizer, *types)
    config = SpanBertConfig(relation_input=relation_input, entity_token_map=entity_token_map)
    featurize = RelationFeaturizer(tokenizer, config, vectors["max_seq_length"])

    # The programs' own names of our markers.
    theirs = {"SUBJ_START": "[E1]", "SUBJ_END": "[/E1]", "OBJ_START": "[E2]", "OBJ_END": "[/E2]"}
    theirs = theirs if mode == "entity_marker" else {}
    names = {token: theirs.get(name, name) for name, token in entity_token_map.items()}
    if mode in ("ner", "text"):
        names = {token: f"<{name}>" for token, name in names.items()}
    if mode == "typed_entity_marker":
        names = {token: f"[{name}]".replace("=", "-") for token, name in names.items()}
    if mode == "typed_entity_marker_punct":
        names = {}
    assert examples
    for case, features in zip(vectors["cases"], featurize(examples), strict=True):
        tokens = tokenizer.convert_ids_to_tokens(features["input_ids"])
        assert [names.get(token, token) for token in tokens] == vector_tokens(case["modes"][mode])
        if isinstance(case["modes"][mode], dict):
            assert features["subject_index"] == case["modes"][mode]["subject_index"]
            assert features["object_index"] == case["modes"][mode]["object_index"]


@pytest.mark.parametrize(("mode", "relation_input"), [("ner", "entity_mask"), ("text", "entity_marker")])
def test_run_tacred_with_its_own_map_of_entity_tokens(mode, relation_input):
    vectors = json.loads(testdata_file("original", "finetune.json").read_text(encoding="utf-8"))
    original = vectors["tacred"][mode]
    tokenizer = BertTokenizer(vocab={piece: id for id, piece in enumerate(vectors["vocab"])}, do_lower_case=False)
    config = SpanBertConfig(relation_input=relation_input, entity_token_map=original["special_tokens"])
    features = RelationFeaturizer(tokenizer, config)(vectors["tacred_input"])
    assert [tokenizer.convert_ids_to_tokens(row["input_ids"]) for row in features] == original["tokens"]

    labels = relation_labels(vectors["tacred_input"])
    assert labels == vectors["tacred_labels_in_order"]
    assert label_ids(vectors["tacred_input"], {name: id for id, name in enumerate(labels)}) == original["label_ids"]


def test_labels_start_with_the_negative_one_and_go_on_by_frequency():
    examples = [{"relation": name} for name in ("b", "a", "a", "Other", "c", "b", "a")]
    assert relation_labels(examples, "Other") == ["Other", "a", "b", "c"]
    assert relation_labels(examples) == ["no_relation", "a", "b", "Other", "c"]


# The entity tokens


def test_entity_tokens_depend_on_the_types_and_not_on_their_order():
    tokenizer = relation_tokenizer()
    expected = {
        "SUBJ=PERSON": "[unused1]",
        "SUBJ=TEAM": "[unused2]",
        "OBJ=CITY": "[unused3]",
        "OBJ=PERSON": "[unused4]",
    }
    for seed in range(5):
        subjects, objects = ["TEAM", "PERSON", "TEAM"], ["PERSON", "CITY", "CITY"]
        random.Random(seed).shuffle(subjects)
        random.Random(seed).shuffle(objects)
        assert make_entity_token_map("entity_mask", tokenizer, subjects, objects) == expected
    typed = make_entity_token_map("typed_entity_marker", tokenizer, ["TEAM", "PERSON"], ["CITY"])
    assert typed == {
        "SUBJ=PERSON": "[unused1]",
        "/SUBJ=PERSON": "[unused2]",
        "SUBJ=TEAM": "[unused3]",
        "/SUBJ=TEAM": "[unused4]",
        "OBJ=CITY": "[unused5]",
        "/OBJ=CITY": "[unused6]",
    }
    words = make_entity_token_map("typed_entity_marker_punct", tokenizer, ["STATE_OR_PROVINCE"], ["CITY"])
    assert words == {"SUBJ=STATE_OR_PROVINCE": "state or province", "OBJ=CITY": "city"}
    assert list(make_entity_token_map("entity_marker", tokenizer)) == [
        "SUBJ_START",
        "SUBJ_END",
        "OBJ_START",
        "OBJ_END",
    ]
    assert make_entity_token_map("entity_marker_punct", tokenizer, TYPES) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("entity_masks", TYPES, TYPES), "unknown relation_input 'entity_masks'; known: entity_mask, entity_marker"),
        (("entity_mask", TYPES, []), "shows the types of entities, but the objects have none: take entity_marker or"),
        (("typed_entity_marker", [None], TYPES), "but the subjects have none: take entity_marker or"),
    ],
)
def test_a_map_that_cannot_be_made_is_refused(arguments, message):
    relation_input, subject_types, object_types = arguments
    with pytest.raises(ValueError, match=message):
        make_entity_token_map(relation_input, relation_tokenizer(), subject_types, object_types)


@pytest.mark.parametrize("relation_input", ["entity_mask", "entity_marker", "typed_entity_marker"])
def test_a_vocabulary_without_unused_pieces_gets_new_tokens_that_are_saved(relation_input, tmp_path):
    tokenizer = tiny_tokenizer()
    size = len(tokenizer)
    model = make_model(tokenizer, relation_input)
    before = model.get_input_embeddings().weight.detach().clone()
    with pytest.raises(ValueError, match="the vocabulary has no .* add it with add_entity_tokens"):
        RelationFeaturizer(tokenizer, model.config)

    add_entity_tokens(model, tokenizer)
    num_new = {"entity_mask": 6, "entity_marker": 4, "typed_entity_marker": 12}[relation_input]
    assert len(tokenizer) == model.config.vocab_size == len(model.get_input_embeddings().weight) == size + num_new
    assert torch.equal(model.get_input_embeddings().weight[:size], before)
    add_entity_tokens(model, tokenizer)
    assert len(tokenizer) == size + num_new

    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    sentence = example("the queen won with the team", (1, 1), (4, 5))
    expected = RelationExtractor(model, tokenizer).predict([sentence])
    assert RelationExtractor.from_pretrained(tmp_path, device="cpu").predict([sentence]) == expected


def test_a_large_enough_model_keeps_its_embeddings():
    tokenizer = relation_tokenizer()
    model = make_model(tokenizer)
    add_entity_tokens(model, tokenizer)
    assert len(tokenizer) == model.config.vocab_size == len(relation_tokenizer())


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(PUNCTUATION), relation_tokenizer()], ids=["new", "unused"])
def test_text_that_spells_a_marker_or_a_special_token_is_text(tokenizer):
    model = make_model(tokenizer)
    add_entity_tokens(model, tokenizer)
    marker = model.config.entity_token_map["SUBJ=PERSON"]
    sentence = example(f"a {marker} [SEP] [MASK] b", (0, 0), (4, 4))
    ids = RelationFeaturizer(tokenizer, model.config)([sentence])[0]["input_ids"]
    assert ids.count(tokenizer.convert_tokens_to_ids(marker)) == 1
    assert ids.count(tokenizer.sep_token_id) == 1 and tokenizer.mask_token_id not in ids


def test_markers_that_the_vocabulary_cannot_write_are_refused():
    tokenizer = tiny_tokenizer()  # has no @
    with pytest.raises(ValueError, match="cannot write '@', which relation_input=entity_marker_punct puts"):
        make_featurizer("entity_marker_punct", tokenizer)


# Windows


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (9, ("abc", "xyz", "pqr")),
        (8, ("abc", "xyz", "pq")),  # as much on either side, or one more on the left …
        (7, ("bc", "xyz", "pq")),
        (4, ("c", "xyz", "")),
        (3, ("", "xyz", "")),
        (2, ("", "xz", "")),  # … and without the middle of what is between, where that alone is too long
        (1, ("", "x", "")),
        (0, ("", "", "")),
    ],
)
def test_what_surrounds_the_entities_is_cut_evenly(room, expected):
    assert tuple("".join(part) for part in fit(list("abc"), list("xyz"), list("pqr"), room)) == expected


def test_room_that_one_side_does_not_need_goes_to_the_other():
    assert fit([1], [2], [3, 4, 5, 6], 5) == ([1], [2], [3, 4, 5])
    assert fit([1, 2, 3, 4], [5], [6], 5) == ([2, 3, 4], [5], [6])
    assert fit([], [], [6, 7], 1) == ([], [], [6])


@pytest.mark.parametrize("relation_input", RELATION_INPUTS)
def test_both_entities_are_whole_in_every_sequence(relation_input):
    tokenizer = relation_tokenizer()
    featurize = make_featurizer(relation_input, tokenizer, max_seq_length=40)
    whole = make_featurizer(relation_input, tokenizer, max_seq_length=512)
    rng = random.Random(0)
    examples = []
    for _ in range(200):
        words = rng.choices("the queen won with her team in city Xyz".split(), k=rng.randint(2, 120))
        cuts = sorted(rng.sample(range(len(words) + 1), 3)) if len(words) > 2 else [0, 1, 2]
        spans = [(cuts[0], min(cuts[0] + 2, cuts[1] - 1)), (cuts[1], min(cuts[1] + 3, cuts[2] - 1))]
        rng.shuffle(spans)
        examples.append(example(" ".join(words), *spans, rng.choice(TYPES[:2]), rng.choice(TYPES)))

    num_cut = 0
    for short, long, sentence in zip(featurize(examples), whole(examples), examples, strict=True):
        ids, all_ids = short["input_ids"], long["input_ids"]
        assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        assert len(ids) == min(len(all_ids), 40)
        num_cut += len(ids) < len(all_ids)
        shown = {role: shown_entity(featurize, sentence, role) for role in ("subj", "obj")}
        places = {"subj": "subject_index", "obj": "object_index"}
        for role, entity in shown.items():
            assert ids[short[places[role]] :][: len(entity)] == entity
            assert all_ids[long[places[role]] :][: len(entity)] == entity
        # What lies from the first entity to the last is left whole where it fits.
        first, last = sorted(shown, key=lambda role: long[places[role]])
        extent = all_ids[long[places[first]] : long[places[last]] + len(shown[last])]
        if len(extent) <= 38:
            assert ids[short[places[first]] :][: len(extent)] == extent
        else:
            assert short[places[first]] == 1 and ids[-1 - len(shown[last]) : -1] == shown[last]
    assert 50 < num_cut < 200


def shown_entity(featurize: RelationFeaturizer, sentence: dict, role: str) -> list[int]:
    """The pieces of one entity with its markers, by the tables of the featurizer."""
    name = role.upper() if role.upper() in featurize.markers else f"{role.upper()}={sentence[f'{role}_type']}"
    opening, closing = featurize.markers[name]
    if featurize.relation_input == "entity_mask":
        return opening
    words = sentence["token"][sentence[f"{role}_start"] : sentence[f"{role}_end"] + 1]
    words = [TREEBANK_BRACKETS.get(word.lower(), word) for word in words]
    return opening + featurize.tokenizer(" ".join(words), add_special_tokens=False)["input_ids"] + closing


def test_entities_too_long_for_any_window_are_refused_and_a_mask_takes_them():
    long = example("the " + "queen " * 60 + "won", (1, 60), (61, 61), id="e7")
    with pytest.raises(
        ValueError, match=r"example e7: its subject and object alone take 67 tokens, but max_seq_length=40"
    ):
        make_featurizer("entity_marker", max_seq_length=40)([long])
    assert len(make_featurizer("entity_mask", max_seq_length=40)([long])[0]["input_ids"]) == 5


def test_the_window_is_the_papers_or_what_the_model_takes():
    assert make_featurizer("entity_mask").max_seq_length == 128
    assert make_featurizer("entity_mask", max_position_embeddings=64).max_seq_length == 64
    for wrong in (3, 513, 12.5):
        with pytest.raises(ValueError, match=f"max_seq_length={wrong}: expected 4 to 512"):
            make_featurizer("entity_mask", max_seq_length=wrong)


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subj_end": 9}, r"example e1: subject \(0, 9\) in a sentence of 5 words: expected its first and last word"),
        ({"obj_start": 5, "obj_end": 5}, r"example e1: object \(5, 5\) in a sentence of 5 words"),
        ({"subj_start": -1}, r"example e1: subject \(-1, 0\) in a sentence of 5 words"),
        ({"obj_start": 3}, r"example e1: object \(3, 2\) in a sentence of 5 words"),
        ({"subj_start": "0"}, r"example e1: subject \(0, 0\) in a sentence of 5 words"),
        ({"subj_start": None}, r"example e1: subject \(None, 0\)"),
        ({"subj_end": 2}, r"example e1: subject \(0, 2\) and object \(2, 2\) overlap: expected two spans apart"),
        ({"obj_start": 0, "obj_end": 0}, r"example e1: subject \(0, 0\) and object \(0, 0\) overlap"),
        ({"subj_type": "PERSN"}, "example e1: unknown subject type 'PERSN'; closest: PERSON; known: PERSON, STATE_OR"),
        ({"obj_type": "person"}, "example e1: unknown object type 'person'; known: PERSON, STATE_OR"),
        ({"obj_type": None}, "example e1: unknown object type None; known: PERSON"),
        ({"token": "the queen"}, "example e1: tokens 'the queen': expected a list of words"),
        ({"token": ["the", 3, "a", "b"]}, "example e1: tokens .*: expected a list of words"),
        ({"token": []}, r"example e1: subject \(0, 0\) in a sentence of 0 words"),
        ({"token": ["", "a", "b", "c"]}, r"example e1: subject \(0, 0\) is blank"),
    ],
)
def test_an_example_that_cannot_be_right_is_refused_in_one_line_with_its_id(change, message):
    with pytest.raises(ValueError, match=message) as error:
        make_featurizer("entity_mask")([example("a b c"), example("the queen won with her", id="e1") | change])
    assert "\n" not in str(error.value)


def test_an_example_without_id_is_named_by_its_number():
    incomplete = example("the queen won")
    del incomplete["obj_end"]
    with pytest.raises(ValueError, match="example 1 has no 'obj_end'; expected token, subj_start"):
        make_featurizer("entity_mask")([example("a b c"), incomplete])


def test_a_config_without_the_map_is_refused():
    tokenizer = relation_tokenizer()
    with pytest.raises(ValueError, match="needs 'SUBJ_START' in config.entity_token_map"):
        RelationFeaturizer(tokenizer, SpanBertConfig(relation_input="entity_marker"))
    with pytest.raises(
        ValueError, match=r"unknown subject type 'PERSON'; known: none \(is config.entity_token_map set"
    ):
        RelationFeaturizer(tokenizer, SpanBertConfig())([example("a b c")])


def test_a_tokenizer_that_is_not_the_models_is_refused():
    with pytest.raises(
        ValueError, match=f"has {len(relation_tokenizer())} pieces, but the model's vocab_size is 100: take"
    ):
        make_featurizer("entity_mask", vocab_size=100)
    tokenizer = relation_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="the tokenizer has no pad_token: take the one that was saved with the model"):
        make_featurizer("entity_mask", tokenizer)


def test_an_unknown_relation_is_named():
    with pytest.raises(
        ValueError, match="example e5: unknown relation 'per:titel'; closest: per:title; known: no_rel"
    ):
        label_ids([{"id": "e5", "relation": "per:titel"}], {"no_relation": 0, "per:title": 1})


@pytest.mark.parametrize("field", ["relation_input", "relation_pooling"])
def test_an_unknown_format_is_named_with_the_known_ones(field):
    with pytest.raises(StrictDataclassError, match=f"unknown {field} 'first'; known: (entity_mask|cls), entity_"):
        SpanBertConfig(**{field: "first"})


# The model


def make_batch(num_rows: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    batch = {"input_ids": torch.randint(5, 60, (8, 12), generator=generator)}
    batch["subject_index"] = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8])
    batch["object_index"] = torch.tensor([11, 1, 9, 2, 1, 3, 10, 1])
    batch["labels"] = torch.tensor([0, 2, -100, -100, 1, 1, -100, 2])
    return {name: value[:num_rows] for name, value in batch.items()}


def test_with_the_pooled_cls_it_is_berts_classifier(tmp_path):
    model = make_model(relation_tokenizer(), num_labels=3)
    model.save_pretrained(tmp_path)
    bert = BertForSequenceClassification.from_pretrained(tmp_path, problem_type="single_label_classification").eval()
    batch = make_batch()
    ours = model(**batch)
    theirs = bert(input_ids=batch["input_ids"], labels=batch["labels"])
    assert torch.allclose(ours.logits, theirs.logits, atol=1e-6) and torch.allclose(ours.loss, theirs.loss, atol=1e-6)


def test_the_classifier_sees_the_starts_of_the_entities_and_their_order():
    model = make_model(relation_tokenizer(), relation_pooling="entity_start", num_labels=3)
    assert model.bert.pooler is None
    batch = make_batch()
    output = model(**batch, output_hidden_states=True)
    hidden = output.hidden_states[-1]
    for row in range(8):
        starts = [hidden[row, batch[name][row]] for name in ("subject_index", "object_index")]
        logits = model.classifier(torch.relu(model.entity_dense(torch.cat(starts))))
        assert torch.allclose(output.logits[row], logits, atol=1e-6)
    swapped = model(batch["input_ids"], subject_index=batch["object_index"], object_index=batch["subject_index"])
    assert not torch.allclose(output.logits, swapped.logits, atol=1e-2)


@pytest.mark.parametrize("relation_pooling", RELATION_POOLINGS)
def test_accumulation_equals_one_big_batch(relation_pooling):
    model, batch = make_model(relation_tokenizer(), relation_pooling=relation_pooling, num_labels=3), make_batch()
    whole = model(**batch).loss.item()
    num_items = (batch["labels"] != -100).sum()
    parts = []
    for start in range(0, 8, 2):
        micro = {name: value[start : start + 2] for name, value in batch.items()}
        parts.append(model(**micro, num_items_in_batch=num_items).loss.item())
    assert sum(parts) == pytest.approx(whole, rel=1e-6)

    batch["labels"].fill_(-100)
    loss = model(**batch).loss
    loss.backward()
    assert loss.item() == 0 and all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 3]}, "label 3: expected 0 to 2, or -100"),
        ({"subject_index": None}, "relation_pooling='entity_start' needs subject_index and object_index"),
        ({"object_index": [1, 12]}, "an entity starts at token 12: expected 0 to 11, inside of the row"),
        ({"object_index": [-1, 1]}, "an entity starts at token -1: expected 0 to 11"),
        ({"subject_index": [1, 2, 3]}, r"an entity index of shape \(3,\): expected \(2,\), one for each row"),
    ],
)
def test_labels_and_indices_that_cannot_be_right_are_refused_in_one_line(change, message):
    batch = make_batch(2)
    batch |= {name: None if value is None else torch.tensor(value) for name, value in change.items()}
    with pytest.raises(ValueError, match=message) as error:
        make_model(relation_tokenizer(), relation_pooling="entity_start", num_labels=3)(**batch)
    assert "\n" not in str(error.value)


# Prediction


@pytest.fixture(scope="module", params=[("entity_mask", "cls"), ("typed_entity_marker_punct", "entity_start")])
def learnt(request, tmp_path_factory):
    """A model that has learnt who beat whom, by the verb and by which of the two is the subject, and its examples."""
    relation_input, relation_pooling = request.param
    tokenizer = relation_tokenizer()
    names = {0: "no_relation", 1: "won_with", 2: "lost_to"}
    model = make_model(
        tokenizer,
        relation_input,
        relation_pooling=relation_pooling,
        id2label=names,
        label2id={name: id for id, name in names.items()},
        initializer_range=0.1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    examples = []
    for first, second in (("PERSON", "TEAM"), ("TEAM", "PERSON")):
        for verb, relation in (("won", "won_with"), ("beat", "lost_to"), ("met", "no_relation")):
            examples.append(example(f"the queen {verb} her team", (1, 1), (3, 4), first, second, relation=relation))
            relation = {"won_with": "lost_to", "lost_to": "won_with"}.get(relation, relation)
            examples.append(example(f"the queen {verb} her team", (3, 4), (1, 1), first, second, relation=relation))
    batch = transformers.DataCollatorWithPadding(tokenizer)(RelationFeaturizer(tokenizer, model.config)(examples))
    labels = torch.tensor(label_ids(examples, model.config.label2id))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    folder = tmp_path_factory.mktemp("learnt")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, examples


def columns(examples: list[dict]) -> dict[str, list]:
    return {
        "tokens": [e["token"] for e in examples],
        "subject": [(e["subj_start"], e["subj_end"]) for e in examples],
        "object": [(e["obj_start"], e["obj_end"]) for e in examples],
        "subject_type": [e["subj_type"] for e in examples],
        "object_type": [e["obj_type"] for e in examples],
    }


def test_what_was_learnt_comes_out_by_name(learnt):
    folder, examples = learnt
    extract = RelationExtractor.from_pretrained(folder)
    found = extract(**columns(examples))
    assert [item["label"] for item in found] == [e["relation"] for e in examples]
    assert all(0.8 < item["score"] <= 1 and item.keys() == {"label", "score"} for item in found)


def test_one_item_a_list_and_any_batch_size_agree(learnt):
    folder, examples = learnt
    examples = [*examples, example("the queen won with her old team in the city", (1, 1), (4, 6))]
    expected = RelationExtractor.from_pretrained(folder, device="cpu", batch_size=1)(**columns(examples))
    for batch_size in (3, 100):
        found = RelationExtractor.from_pretrained(folder, batch_size=batch_size)(**columns(examples))
        assert [item["label"] for item in found] == [item["label"] for item in expected]
        assert [item["score"] for item in found] == pytest.approx([item["score"] for item in expected], rel=1e-4)
    extract = RelationExtractor.from_pretrained(folder, device="cpu", dtype="float32")
    one = extract(**{name: column[-1] for name, column in columns(examples).items()})
    assert one["label"] == expected[-1]["label"] and one["score"] == pytest.approx(expected[-1]["score"], rel=1e-4)
    assert extract(**columns([])) == []


def test_text_with_characters_equals_words(learnt):
    extract = RelationExtractor.from_pretrained(learnt[0])
    text = "the queen won with her team, in the city."
    words = "the queen won with her team , in the city .".split()
    types = {"subject_type": "PERSON", "object_type": "TEAM"}
    expected = extract(tokens=words, subject=(1, 1), object=(4, 5), **types)
    assert extract(text=text, subject=(4, 9), object=(19, 27), **types) == expected
    assert extract(text=[text] * 2, subject=[(4, 9)] * 2, object=[(19, 27)] * 2, **types) == [expected] * 2

    turned = extract(tokens=words, subject=(4, 5), object=(1, 1), **types)
    assert extract(text=text, subject=(19, 27), object=(4, 9), **types) == turned != expected


def test_an_entity_may_be_a_part_of_a_word(learnt):
    extract = RelationExtractor.from_pretrained(learnt[0])
    found = extract(text="queensteam", subject=(0, 5), object=(6, 10), subject_type="PERSON", object_type="TEAM")
    expected = extract(
        tokens=["queen", "s", "team"], subject=(0, 0), object=(2, 2), subject_type="PERSON", object_type="TEAM"
    )
    assert found == expected


def test_bfloat16_is_close(learnt):
    folder, examples = learnt
    extract = RelationExtractor.from_pretrained(folder, dtype="bfloat16")
    assert extract.model.dtype == torch.bfloat16
    assert [item["label"] for item in extract.predict(examples)] == [e["relation"] for e in examples]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected exactly one of text and tokens"),
        ({"text": "a b", "tokens": ["a", "b"]}, "expected exactly one of text and tokens"),
        (
            {"text": "a b", "object": (2, 4)},
            r"example 0: object \(2, 4\) in a text of 3 characters: expected \(start, end",
        ),
        ({"text": "a b", "object": (2, 2)}, r"example 0: object \(2, 2\) in a text of 3 characters"),
        ({"text": "a b", "object": (1, 2)}, r"example 0: object \(1, 2\) is blank"),
        ({"text": "a b", "object": (0, 3)}, r"example 0: subject \(0, 1\) and object \(0, 3\) overlap"),
        ({"text": "a b", "object": (2.0, 3)}, r"example 0: object \(2.0, 3\)"),
        ({"text": "a b", "object": 2}, r"example 0: object 2: expected a pair \(start, end\)"),
        ({"text": "a b", "object_type": "TEEM"}, "example 0: unknown object type 'TEEM'; closest: TEAM"),
        ({"text": "a b", "object_type": None}, "example 0: unknown object type None; known: PERSON"),
        ({"text": ["a b"] * 2}, "2 sentences, but object is a list of 1: expected one for each"),
        ({"tokens": ["a", "b"]}, r"example 0: object \(2, 3\) in a sentence of 2 words: expected its first and last"),
        ({"tokens": ["a", "b"], "object": (1, 1)}, r"example 0: subject \(0, 1\) and object \(1, 1\) overlap"),
    ],
)
def test_a_call_that_cannot_be_right_is_refused_in_one_line(arguments, message):
    tokenizer = relation_tokenizer()
    extract = RelationExtractor(make_model(tokenizer), tokenizer)
    call = {"subject": (0, 1), "object": (2, 3), "subject_type": "PERSON", "object_type": "TEAM"} | arguments
    if isinstance(arguments.get("text"), list):
        call |= {"subject": [(0, 1)] * 2, "object": [(2, 3)]}
    with pytest.raises(ValueError, match=message) as error:
        extract(**call)
    assert "\n" not in str(error.value)


def test_weights_that_know_no_relation_are_refused(tmp_path):
    tokenizer = relation_tokenizer()
    SpanBertModel(tiny_config(vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    message = (
        r"is not fine-tuned for relation extraction \(no bert.pooler.dense.bias, .*classifier.bias\); fine-tune it"
    )
    with pytest.raises(ValueError, match=message):
        RelationExtractor.from_pretrained(tmp_path)
    with pytest.raises(OSError):
        RelationExtractor.from_pretrained(tmp_path / "absent")


def test_scores_that_are_no_numbers_are_refused():
    tokenizer = relation_tokenizer()
    model = make_model(tokenizer)
    model.classifier.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"the model's scores are not finite in torch.float32"):
        RelationExtractor(model, tokenizer).predict([example("the queen won")])
    with pytest.raises(ValueError, match="batch_size=0: expected an integer of at least 1"):
        RelationExtractor(model, tokenizer, batch_size=0)


# Sharing


@pytest.mark.parametrize(("auto_class", "name"), AUTO_CLASSES.items())
def test_every_auto_class_opens_the_checkpoint(auto_class, name, tmp_path):
    make_model(relation_tokenizer(), num_labels=5).save_pretrained(tmp_path)
    name = "SpanBertForRelationExtraction" if auto_class == "AutoModel" else name
    config = AutoConfig.from_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert config.auto_map == saved["auto_map"] and config.auto_map[auto_class] == f"modeling_spanbert.{name}"
    model = getattr(transformers, auto_class).from_pretrained(tmp_path)
    assert type(model) is getattr(modeling_spanbert, name)
    assert model.config.entity_token_map["SUBJ=PERSON"] == "[unused1]"


def test_the_auto_map_is_that_of_the_head_that_is_saved(tmp_path):
    relation = make_model(relation_tokenizer())
    relation.save_pretrained(tmp_path / "relation")
    for model_class in (SpanBertModel, SpanBertForQuestionAnswering):
        for model in (model_class.from_pretrained(tmp_path / "relation"), model_class(relation.config)):
            model.save_pretrained(tmp_path / "other")
            auto_map = json.loads((tmp_path / "other" / "config.json").read_text())["auto_map"]
            assert auto_map["AutoModel"] == "modeling_spanbert.SpanBertModel"
            assert type(transformers.AutoModel.from_pretrained(tmp_path / "other")) is SpanBertModel
    assert type(transformers.AutoModel.from_config(SpanBertConfig(**tiny_config().to_dict()))) is SpanBertModel


@pytest.mark.slow
@pytest.mark.parametrize("relation_pooling", RELATION_POOLINGS)
def test_it_opens_without_the_package(relation_pooling, tmp_path):
    tokenizer = relation_tokenizer()
    model = make_model(tokenizer, relation_pooling=relation_pooling, num_labels=5)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    verify_remote_code(tmp_path, model)  # AutoModel's outputs are compared


# Real sentences


@pytest.mark.parametrize("name", ["redocred_sent/dev.json.gz", "conll04/dev.json.gz", "tacred_sample/dev.json"])
@pytest.mark.parametrize("relation_input", RELATION_INPUTS)
def test_both_entities_are_in_every_sequence_of_real_sentences(name, relation_input):
    path = data_file("re", *name.split("/"))
    opened = gzip.open if name.endswith(".gz") else open
    paths = sorted(path.parent.glob("*.json")) if name.startswith("tacred") else [path]
    examples = []
    for path in paths:
        with opened(path, "rt", encoding="utf-8") as file:
            examples += json.load(file)
    vocabulary = testdata_file("vocab", "bert-base-cased-vocab.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = BertTokenizer(vocab={piece: id for id, piece in enumerate(vocabulary)}, do_lower_case=False)
    types = [[e[key] for e in examples] for key in ("subj_type", "obj_type")]
    entity_token_map = make_entity_token_map(relation_input, tokenizer, *types)
    config = SpanBertConfig(relation_input=relation_input, entity_token_map=entity_token_map)
    featurize = RelationFeaturizer(tokenizer, config, 64)  # half of the paper's, so that many are cut
    rows = featurize(examples)

    for features, sentence in zip(rows, examples, strict=True):
        ids = features["input_ids"]
        assert len(ids) <= 64 and ids[-1] == tokenizer.sep_token_id
        for role, index in (("subj", features["subject_index"]), ("obj", features["object_index"])):
            entity = shown_entity(featurize, sentence, role)
            assert ids[index:][: len(entity)] == entity
    assert len(rows) == len(examples) > 0
    assert any(len(features["input_ids"]) == 64 for features in rows)
