"""The heads of tasks: exact losses also under the Trainer, bad labels, pipelines, and the contract of transformers."""

import pytest
import torch
import transformers
from helpers import tiny_config, tiny_tokenizer
from huggingface_hub.errors import StrictDataclassError
from transformers import Trainer, TrainingArguments, pipeline

import modeling_spanbert
from modeling_spanbert import (
    SpanBertForQuestionAnswering,
    SpanBertForSequenceClassification,
    SpanBertForTokenClassification,
)
from modeling_spanbert.configuration_spanbert import AUTO_CLASSES
from modeling_spanbert.export import verify_remote_code


HEADS = {
    "answers": (SpanBertForQuestionAnswering, {}),
    "classes": (SpanBertForSequenceClassification, {"num_labels": 3}),
    "values": (SpanBertForSequenceClassification, {"num_labels": 1}),
    "several_values": (SpanBertForSequenceClassification, {"num_labels": 3, "problem_type": "regression"}),
    "several_labels": (SpanBertForSequenceClassification, {"num_labels": 3}),
    "token_classes": (SpanBertForTokenClassification, {"num_labels": 3}),
}
# For 8 rows; what is not known (-100) is spread unevenly over them.
LABELS = {
    "answers": {"start_positions": [0, 1, 5, 2, 3, 3, 1, 4], "end_positions": [0, 2, 5, 4, 11, 3, 1, 4]},
    "classes": {"labels": [0, 2, -100, -100, 1, 1, -100, 2]},
    "values": {"labels": [0.5, -1, 3, 2, 2.5, 4, -100, 0]},
    "several_values": {"labels": [[0.5, -1, 3]] * 3 + [[2, -100, -100]] * 5},
    "several_labels": {"labels": [[0.0, 1, 1]] * 4 + [[1, -100, 0.5]] * 4},
    "token_classes": {"labels": [[0, 1, 2, 2, -100, 1] * 2] * 2 + [[-100] * 11 + [1]] * 3 + [[2, -100] * 6] * 3},
}


def make_model(kind: str, **kwargs):
    torch.manual_seed(0)
    model_class, fields = HEADS[kind]
    return model_class(tiny_config(**({"initializer_range": 0.2} | fields | kwargs))).eval()


def make_batch(kind: str, num_rows: int = 8) -> dict[str, torch.Tensor]:
    input_ids = torch.randint(5, 100, (8, 12), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    batch |= {name: torch.tensor(labels) for name, labels in LABELS[kind].items()}
    return {name: value[:num_rows] for name, value in batch.items()}


def gradient_norm(model) -> float:
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()


@pytest.mark.parametrize("kind", HEADS)
def test_logits_and_loss_are_those_of_bert(kind, tmp_path):
    model = make_model(kind)
    model.save_pretrained(tmp_path)
    bert = getattr(transformers, type(model).__name__.removeprefix("Span")).from_pretrained(tmp_path).eval()
    batch = make_batch(kind)
    if kind in ("values", "several_values", "several_labels"):  # BERT's take -100 for a value of these
        batch["labels"] = batch["labels"].clamp(0, 1)
    if kind == "answers":  # outside: ignored by both
        batch["start_positions"][3], batch["end_positions"][3], batch["end_positions"][5] = 12, 99, 12
    with torch.no_grad():
        ours, theirs = model(**batch), bert(**batch)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert torch.allclose(ours[key], theirs[key], atol=1e-6), key
    assert model.config.problem_type == bert.config.problem_type


@pytest.mark.parametrize("kind", HEADS)
def test_accumulation_equals_one_big_batch(kind):
    model, batch = make_model(kind), make_batch(kind)
    whole = model(**batch).loss
    whole.backward()
    whole_norm = gradient_norm(model)
    model.zero_grad()

    num_items = 8 if kind == "answers" else (batch["labels"] != -100).sum()
    total = 0.0
    for start in range(0, 8, 2):
        micro = {name: value[start : start + 2] for name, value in batch.items()}
        loss = model(**micro, num_items_in_batch=num_items).loss
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-6)
    assert gradient_norm(model) == pytest.approx(whole_norm, rel=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_the_trainer_of_transformers_accumulates_exactly(kind, tmp_path):
    batch = make_batch(kind)
    rows = [{name: value[row] for name, value in batch.items()} for row in range(8)]

    def step(rows_at_once: int, accumulated: int) -> dict:
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=rows_at_once,
            gradient_accumulation_steps=accumulated,
            max_steps=1,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        model = make_model(kind, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        trainer = Trainer(model=model, args=arguments, train_dataset=rows)
        trainer.train()
        return trainer.state.log_history[0]

    big, small = step(8, 1), step(2, 4)
    assert big["loss"] == pytest.approx(make_model(kind)(**batch).loss.item(), rel=1e-4)
    assert small["loss"] == pytest.approx(big["loss"], rel=1e-5)
    assert small["grad_norm"] == pytest.approx(big["grad_norm"], rel=1e-5)


@pytest.mark.parametrize("num_items_in_batch", [None, 0, torch.tensor(0)])
@pytest.mark.parametrize("kind", HEADS)
def test_labels_of_which_none_is_known_give_zero(kind, num_items_in_batch):
    model, batch = make_model(kind), make_batch(kind)
    for name in LABELS[kind]:
        batch[name].fill_(-100)
    loss = model(**batch, num_items_in_batch=num_items_in_batch).loss
    loss.backward()
    assert loss.item() == 0 and gradient_norm(model) == 0
    assert all(p.grad is not None for p in model.parameters())


def test_answers_outside_of_the_sequence_count_nothing():
    model, batch = make_model("answers"), make_batch("answers")
    two_rows = {name: value[:2] for name, value in batch.items()}
    for outside in (12, 1000, -1, -100):
        batch["start_positions"][2:], batch["end_positions"][2:] = outside, outside
        assert model(**batch).loss.item() == pytest.approx(model(**two_rows).loss.item(), rel=1e-6)


def test_how_far_a_batch_is_padded_does_not_change_the_loss_of_its_answers():
    model, batch = make_model("answers"), make_batch("answers")
    padded = {name: batch[name] for name in ("start_positions", "end_positions")}
    padded |= {name: torch.nn.functional.pad(batch[name], (0, 5)) for name in ("input_ids", "attention_mask")}
    assert model(**padded).loss.item() == pytest.approx(model(**batch).loss.item(), rel=1e-6)
    assert model(**padded).start_logits[:, 12:].isfinite().all()


def test_an_answer_has_two_ends_whatever_num_labels_says():
    model = make_model("answers", num_labels=5)
    assert model.qa_outputs.weight.shape == (2, 32) and model(**make_batch("answers")).loss.isfinite()


@pytest.mark.parametrize(
    ("kind", "labels", "problem_type"),
    [
        ("values", [1, 2], "regression"),
        ("classes", [1, 2], "single_label_classification"),
        ("classes", [[1], [2]], "single_label_classification"),
        ("several_labels", [[0.0, 1.0, 0.5]] * 2, "multi_label_classification"),
        ("several_labels", [[False, True, True]] * 2, "multi_label_classification"),
    ],
)
def test_the_first_labels_decide_the_problem(kind, labels, problem_type):
    model = make_model(kind)
    assert model.config.problem_type is None
    assert model(**make_batch(kind, 2) | {"labels": torch.tensor(labels)}).loss.isfinite()
    assert model.config.problem_type == problem_type


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("classes", {"labels": [0, 3]}, "label 3: expected 0 to 2, or -100"),
        ("classes", {"labels": [0, -1]}, "label -1: expected 0 to 2, or -100"),
        ("classes", {"labels": [0, 1, 2]}, r"labels of shape \(3,\): expected \(2,\) for .*single_label"),
        ("classes", {"labels": [[0, 1, 1]] * 2}, r"labels of shape \(2, 3\): expected \(2,\) for .*single_label"),
        ("values", {"labels": [0.0, 1, 2]}, r"labels of shape \(3,\): expected \(2, 1\) for problem_type=regression"),
        ("several_labels", {"labels": [[0.0, 2, 1]] * 2}, "label 2.0: expected 0 to 1, or -100"),
        ("several_labels", {"labels": [[0.0, float("nan"), 1]] * 2}, "label nan: expected 0 to 1, or -100"),
        ("several_labels", {"labels": [1.0, 0]}, r"labels of shape \(2,\): expected \(2, 3\) for .*multi_label"),
        ("token_classes", {"labels": [[3] * 12] * 2}, "label 3: expected 0 to 2, or -100"),
        ("token_classes", {"labels": [[0] * 11] * 2}, "batch_size"),
        ("answers", {"end_positions": None}, "both of start_positions and end_positions"),
        ("answers", {"start_positions": [1, 2, 3]}, "batch_size"),
    ],
)
def test_labels_that_cannot_be_right_are_refused_in_one_line(kind, change, message):
    batch = make_batch(kind, 2)
    batch |= {name: None if value is None else torch.tensor(value) for name, value in change.items()}
    with pytest.raises(ValueError, match=message) as error:
        make_model(kind)(**batch)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", HEADS)
def test_half_precision_is_close_to_fp32(kind, dtype):
    model, batch = make_model(kind, initializer_range=0.05), make_batch(kind)
    with torch.no_grad():
        expected = model(**batch).loss.item()
        loss = model.to(dtype)(**batch).loss
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("kind", ["answers", "classes", "token_classes"])
def test_inputs_and_outputs_are_those_of_transformers(kind):
    model, batch = make_model(kind), make_batch(kind)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True, output_attentions=True)
        as_tuple = model(**batch, return_dict=False)
        embeds = model.get_input_embeddings()(batch.pop("input_ids"))
        from_embeds = model(inputs_embeds=embeds, **batch)
    assert len(output.hidden_states) == 3 and [tuple(a.shape) for a in output.attentions] == [(8, 2, 12, 12)] * 2
    assert isinstance(as_tuple, tuple) and as_tuple[0] == output.loss == from_embeds.loss
    shapes = {"answers": (8, 12), "classes": (8, 3), "token_classes": (8, 12, 3)}
    assert as_tuple[1].shape == shapes[kind]


@pytest.mark.parametrize("kind", ["classes", "token_classes"])
def test_the_classifier_has_a_dropout_of_its_own(kind):
    assert make_model(kind, hidden_dropout_prob=0.3).dropout.p == 0.3
    assert make_model(kind, classifier_dropout=0.0).dropout.p == 0.0
    with pytest.raises(StrictDataclassError, match="classifier_dropout=2.0: expected a probability"):
        make_model(kind, classifier_dropout=2.0)


@pytest.mark.parametrize("kind", ["answers", "classes", "token_classes"])
def test_only_the_classifier_of_sequences_has_a_pooler(kind):
    for objectives in (["mlm", "sbo"], ["mlm", "nsp"]):
        model = make_model(kind, objectives=objectives)
        assert (model.bert.pooler is not None) == (kind == "classes")


@pytest.mark.parametrize("kind", ["answers", "several_labels", "token_classes"])
def test_one_batch_is_learnt_by_heart(kind):
    model = make_model(kind, initializer_range=0.02, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    batch = make_batch(kind)
    if kind == "several_labels":
        batch["labels"] = torch.tensor([[row % 2, row // 4, 1.0] for row in range(8)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


# Sharing


@pytest.mark.parametrize(("auto_class", "name"), AUTO_CLASSES.items())
@pytest.mark.parametrize("kind", ["answers", "classes", "token_classes"])
def test_every_auto_class_opens_the_checkpoint_of_every_head(kind, auto_class, name, tmp_path):
    make_model(kind).save_pretrained(tmp_path)
    model = getattr(transformers, auto_class).from_pretrained(tmp_path)
    assert type(model) is getattr(modeling_spanbert, name)
    assert model.config.auto_map.keys() == {"AutoConfig", *AUTO_CLASSES}
    assert model.config.num_labels == HEADS[kind][1].get("num_labels", 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["answers", "several_labels", "token_classes"])
def test_heads_open_without_the_package(kind, tmp_path):
    model = make_model(kind)
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    verify_remote_code(tmp_path, model)  # compares the outputs


@pytest.fixture
def saved(tmp_path):
    def save(kind: str, **kwargs) -> str:
        make_model(kind, **kwargs).save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def test_the_text_classification_pipeline(saved):
    classify = pipeline("text-classification", saved("classes", id2label={0: "war", 1: "peace", 2: "game"}))
    scores = {guess["label"]: guess["score"] for guess in classify("the people won", top_k=None)}
    assert scores.keys() == {"war", "peace", "game"} and sum(scores.values()) == pytest.approx(1)


def test_the_text_classification_pipeline_scores_several_labels_apart(saved):
    folder = saved("several_labels", problem_type="multi_label_classification")
    classify = pipeline("text-classification", folder)
    model, tokenizer = classify.model, classify.tokenizer
    with torch.no_grad():
        expected = model(**tokenizer("the people won", return_tensors="pt")).logits.sigmoid()[0]
    scores = {guess["label"]: guess["score"] for guess in classify("the people won", top_k=None)}
    assert [scores[f"LABEL_{i}"] for i in range(3)] == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_token_classification_pipeline(saved):
    tag = pipeline("token-classification", saved("token_classes", id2label={0: "X", 1: "B-PER", 2: "I-PER"}))
    text = "the queen played a game"
    found = tag(text)
    assert [text[token["start"] : token["end"]] for token in found] == text.split()
    assert {token["entity"] for token in found} <= {"X", "B-PER", "I-PER"}
