"""Fine-tuning for coreference: documents from files, windows of them, two schedules, predictions as files."""

import gzip
import json
from dataclasses import replace

import pytest
import torch
from finetune_helpers import LEARNT, TinyFinetuning, documents
from helpers import tiny_config, tiny_tokenizer

from eval.tasks import TASKS
from modeling_spanbert import CoreferenceResolver, SpanBertConfig, SpanBertForCoreference
from modeling_spanbert.conll import conll_text, read_conll
from training.document_batches import DocumentBatches, Documents
from training.finetuning_arguments import EpochArguments
from training.optimization import decoupled_adamw, learning_rate_at


TASK = TASKS["ontonotes_coref"]
SIZES = {"ffnn_size": 16, "max_span_width": 4, "feature_emb_size": 4, "max_training_sentences": 2}


@pytest.fixture
def conll(tmp_path):
    path = tmp_path / "made_up.conll"
    path.write_text("".join(map(conll_text, documents(4))))
    return path


def encoded(num: int, length: int = 8) -> Documents:
    examples = [vars(each) | {} for each in documents(num)]
    names = ("doc_key", "part", "sentences", "speakers", "clusters")
    examples = [{name: example[name] for name in names} for example in examples]
    config = tiny_config(**SIZES, max_position_embeddings=length)
    return Documents(TASK.featurize(examples, tiny_tokenizer(), config))


def test_documents_come_from_columns_and_json_lines_plain_or_gzipped(tmp_path, conll):
    found = TASK.load(str(conll), "validation").examples
    assert [sorted(example["clusters"]) for example in found] == [sorted(each.clusters) for each in documents(4)]
    lines = [
        json.dumps(
            {"doc_key": each.doc_key, "sentences": each.sentences, "speakers": each.speakers}
            | {"clusters": each.clusters}
        )
        for each in documents(4)
    ]
    packed = tmp_path / "made_up.jsonlines.gz"
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    for example, other in zip(found, TASK.load(str(packed), "validation").examples, strict=True):
        same = {"part": None, "clusters": None}
        assert example | same == other | same
        assert sorted(example["clusters"]) == sorted(other["clusters"])
    with pytest.raises(ValueError, match="task ontonotes_coref needs your own copy of its data"):
        TASK.load(None, "validation")


def test_what_is_no_document_is_one_line_that_names_it(tmp_path, conll):
    (tmp_path / "empty").write_text("")
    with pytest.raises(ValueError, match="empty holds no document"):
        TASK.load(str(tmp_path / "empty"), "validation")
    cut = tmp_path / "cut.conll"
    cut.write_text(conll.read_text().rsplit("#end document", 1)[0])
    with pytest.raises(ValueError, match=r"^[^\n]*cut.conll[^\n]*#end document[^\n]*$"):
        TASK.load(str(cut), "validation")


def test_long_documents_are_seen_through_windows_that_follow_from_the_sample_number():
    made, config = encoded(6), tiny_config(**SIZES)
    arguments = EpochArguments(global_batch_size=1, per_device_train_batch_size=1)
    batches = DocumentBatches(made, 0, config, arguments, seed=1)
    windows = [batches._example(number) for number in range(60)]  # ten passes
    assert all(len(window.segments) == min(2, max(map(len, (d.segments for d in made)))) for window in windows)
    of_long = {}
    for window in windows:
        [source] = [number for number, each in enumerate(made) if contains(each.segments, window.segments)]
        of_long.setdefault(source, set()).add(str(window.segments))
    assert sorted(of_long) == list(range(6)) and all(len(seen) > 1 for seen in of_long.values())
    again = DocumentBatches(made, 0, config, arguments, seed=1)
    assert [again._example(number) for number in range(60)] == windows
    [batch] = batches[0]
    assert batch["input_ids"].shape[0] == 2 and batches.counts(batch) == {"num_items_in_batch": 1}
    whole = DocumentBatches(made, 0, tiny_config(**(SIZES | {"max_training_sentences": 99})), arguments, seed=1)
    assert sorted(len(whole._example(n).segments) for n in range(6)) == sorted(len(each.segments) for each in made)


def contains(segments: list, window: list) -> bool:
    return any(segments[first : first + len(window)] == window for first in range(len(segments)))


def test_the_head_has_a_schedule_of_its_own():
    torch.manual_seed(0)
    model = SpanBertForCoreference(tiny_config(**SIZES))
    arguments = EpochArguments(learning_rate=2e-5, head_learning_rate=1e-4, num_train_epochs=1, global_batch_size=1)
    schedule = arguments.schedule(100)
    optimizer = decoupled_adamw(model, schedule)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    for group in optimizer.param_groups:
        of_encoder = {names[id(parameter)].startswith("bert.") for parameter in group["params"]}
        assert len(of_encoder) == 1
        expected = (2e-5, 1e-6) if of_encoder == {True} else (1e-4, 1e-8)
        assert (group["lr"], group["eps"]) == expected
        if of_encoder == {False}:
            assert group["weight_decay"] == 0
        rates = [learning_rate_at(step, group["schedule"]) for step in (0, 10, 100)]
        assert rates == pytest.approx([0, 2e-5, 0] if of_encoder == {True} else [1e-4, 9e-5, 0])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01, 0}
    plain = decoupled_adamw(model, EpochArguments(num_train_epochs=1).schedule(100))
    assert len(plain.param_groups) == 2 and {group["lr"] for group in plain.param_groups} == {2e-5}


def test_predictions_are_written_for_the_official_scorer(tmp_path, conll):
    examples = TASK.load(str(conll), "validation").examples
    clusters = [[[(0, 0), (2, 2)]], [], [[(1, 2), (4, 4), (5, 5)]], []]
    TASK.write(clusters, examples, tmp_path, "validation")
    read = list(read_conll(tmp_path / "predictions_ontonotes_coref.conll"))
    assert [document.clusters for document in read] == clusters
    assert [document.doc_key for document in read] == [example["doc_key"] for example in examples]


@pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_tiny_model_learns_three_documents_by_heart(tmp_path, depth):
    run, file = TinyFinetuning(tmp_path), tmp_path / "three.conll"
    file.write_text("".join(map(conll_text, documents(3))))
    changes = {"task": "ontonotes_coref", "train_file": file, "validation_file": file, "coref_depth": depth}
    changes |= {"restore_brackets": True}
    config = SpanBertConfig.from_pretrained(tmp_path / "config")
    config.top_span_ratio = 1.0  # of some 20 pieces: a mention that is not kept gets no gradient
    config.save_pretrained(tmp_path / "config")
    assert run.run("learnt", **(LEARNT["ontonotes_coref"] | changes)) == 0
    assert run.scores("learnt")["conll_f1"] == 100
    model = SpanBertForCoreference.from_pretrained(tmp_path / "learnt" / "export")
    found = {name: getattr(model.config, name) for name in ("coref_depth", "max_segment_length", "restore_brackets")}
    assert found == {"coref_depth": depth, "max_segment_length": 32, "restore_brackets": True}


def test_what_the_model_was_trained_on_decides_segments_brackets_and_singletons():
    tokenizer = tiny_tokenizer("( ) - LRB the")
    [example] = [vars(each) for each in documents(1)]
    example = {name: example[name] for name in ("doc_key", "part", "sentences", "speakers", "clusters")}
    example["sentences"][0][0] = "-LRB-"
    given = {"max_seq_length": 8, "restore_brackets": True, "mention_loss_coef": 0.5, "ffnn_size": 7}
    fields = replace(TASK, **given).config_fields([example], tokenizer)
    model = SpanBertForCoreference(tiny_config(vocab_size=len(tokenizer), **(SIZES | fields))).eval()
    assert (model.config.mention_loss_coef, model.config.ffnn_size) == (0.5, 7)
    [document] = TASK.featurize([example], tokenizer, model.config)  # as eval/run.py does, which is told nothing
    assert max(map(len, document.segments)) <= 8
    assert tokenizer.convert_ids_to_tokens(document.segments[0])[1] == "("
    torch.nn.init.constant_(model.coreference.mentions.scorer.output.bias, 100.0)  # all that is kept is a mention
    torch.nn.init.constant_(model.coreference.antecedents.scorer.output.bias, -1000.0)  # and has no antecedent
    [clusters] = TASK.predict(model, tokenizer, [example], 1)
    assert clusters and all(len(cluster) == 1 for cluster in clusters)
    model.config.mention_loss_coef = 0.0
    assert TASK.predict(model, tokenizer, [example], 1) == [[]]
    assert CoreferenceResolver(model, tokenizer).max_segment_length == 8
