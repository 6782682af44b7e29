"""The model's promises: exact losses, packed rows, half precision, ties, and what transformers expects of a model."""

import itertools

import pytest
import torch
from helpers import tiny_config
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    BertConfig,
    BertModel,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from modeling_spanbert import SpanBertConfig, SpanBertForMaskedLM, SpanBertForPreTraining, SpanBertModel
from modeling_spanbert.dropout import SpanBertDropout, dropout, dropout_product


def make_batch(
    num_rows: int, num_tokens: int, spans: list[tuple[int, int, int]], seed: int = 0, vocab_size: int = 100
):
    """Random tokens with the spans (row, start, end) masked, in our batch format."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(5, 100, (num_rows, num_tokens), generator=generator)
    labels, position = torch.full_like(input_ids, -100), torch.full_like(input_ids, -1)
    left, right = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
    for row, start, end in spans:
        span = slice(start, end + 1)
        labels[row, span], left[row, span], right[row, span] = input_ids[row, span], start - 1, end + 1
        position[row, span] = torch.arange(end + 1 - start)
        input_ids[row, span] = 4
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "labels": labels,
        "left_boundary": left,
        "right_boundary": right,
        "span_position": position,
    }


UNEVEN = [(0, 1, 1), (1, 2, 4), (2, 5, 6), (3, 1, 9), (4, 3, 3), (5, 2, 8), (6, 1, 2), (7, 4, 9), (7, 1, 2)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SpanBertForPreTraining(tiny_config()).eval()


def gradient_norm(model) -> float:
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()


@pytest.mark.parametrize("objectives", [["mlm", "sbo"], ["mlm", "nsp", "sbo"]])
def test_accumulation_equals_one_big_batch_with_uneven_counts(objectives):
    torch.manual_seed(0)
    model = SpanBertForPreTraining(tiny_config(objectives=objectives)).eval()
    batch = make_batch(8, 12, UNEVEN)
    if "nsp" in objectives:
        batch["next_sentence_label"] = torch.tensor([0, 1, 1, 0, 1, 0, 0, 0])
    whole = model(**batch).loss
    whole.backward()
    whole_norm = gradient_norm(model)

    model.zero_grad()
    total = 0.0
    for start in range(0, 8, 2):
        micro = {key: value[start : start + 2] for key, value in batch.items()}
        num_masked = (batch["labels"] != -100).sum()
        loss = model(**micro, num_items_in_batch=num_masked, num_sequences_in_batch=8).loss
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-6)
    assert gradient_norm(model) == pytest.approx(whole_norm, rel=1e-5)


def test_masked_lm_accumulation_equals_one_big_batch():
    torch.manual_seed(0)
    model = SpanBertForMaskedLM(tiny_config()).eval()
    batch = {key: make_batch(8, 12, UNEVEN)[key] for key in ("input_ids", "attention_mask", "labels")}
    whole = model(**batch).loss
    num_masked = (batch["labels"] != -100).sum()
    parts = [
        model(**{k: v[s : s + 2] for k, v in batch.items()}, num_items_in_batch=num_masked).loss for s in (0, 2, 4, 6)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


def test_the_parts_add_up_and_a_token_without_sbo_target_adds_nothing(model):
    batch = make_batch(2, 12, [(0, 2, 4), (1, 3, 3)])
    output = model(**batch)
    assert output.loss.item() == pytest.approx((output.mlm_loss + output.sbo_loss).item())
    sums = torch.nn.functional.cross_entropy(
        output.boundary_logits, batch["labels"][batch["span_position"] >= 0], reduction="none"
    )
    assert output.sbo_loss.item() == pytest.approx((sums.sum() / 4).item(), rel=1e-6)

    batch["span_position"][1, 3] = -1
    fewer = model(**batch)
    assert fewer.sbo_loss.item() == pytest.approx((sums[:3].sum() / 4).item(), rel=1e-6)
    assert fewer.mlm_loss == output.mlm_loss and len(fewer.boundary_logits) == 3


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_without_masked_tokens_gives_zero_and_touches_every_parameter(model, training):
    model.train(training)
    output = model(**make_batch(2, 12, []))
    assert output.loss.item() == 0
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_parameters_of_the_boundary_head_are_in_the_graph_without_any_sbo_target(model):
    batch = make_batch(2, 12, [(0, 2, 4)])
    batch["span_position"].fill_(-1)
    model(**batch).loss.backward()
    assert all(p.grad is not None for p in model.cls.span_boundary.parameters())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_row_of_padding_stays_finite(model, attention):
    model.set_attn_implementation(attention)
    batch = make_batch(2, 12, [(0, 2, 4)])
    batch["attention_mask"][1] = 0
    output = model(**batch, output_hidden_states=True)
    assert output.loss.isfinite() and all(hidden.isfinite().all() for hidden in output.hidden_states)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_shapes_of_the_logits(model, training):
    model.train(training)
    batch = make_batch(3, 12, [(0, 2, 4), (2, 1, 1)])
    batch["span_position"][2, 1] = -1
    output = model(**batch)
    if training:
        assert output.prediction_logits is None and output.boundary_logits is None
    else:
        assert output.prediction_logits.shape == (4, 144) and output.boundary_logits.shape == (3, 144)
    del batch["labels"]
    output = model(**batch)
    assert output.prediction_logits.shape == (3, 12, 144) and output.boundary_logits.shape == (3, 144)
    assert output.loss is None


def test_logits_with_labels_are_those_without_in_row_major_order(model):
    batch = make_batch(8, 12, UNEVEN)
    with torch.no_grad():
        sparse = model(**batch)
        labels = batch.pop("labels")
        dense = model(**batch)
    assert torch.allclose(sparse.prediction_logits, dense.prediction_logits[labels != -100], atol=1e-6)
    assert torch.allclose(sparse.boundary_logits, dense.boundary_logits, atol=1e-6)


def packed_and_alone():
    """Three sequences of 7, 5 and 9 tokens in two rows of 12, and the same one a row."""
    alone = make_batch(3, 9, [(0, 2, 4), (1, 1, 1), (2, 3, 5)], seed=3)
    lengths = [7, 5, 9]
    packed = {key: torch.zeros(2, 12, dtype=torch.long) for key in alone}
    packed["labels"].fill_(-100)
    packed["span_position"].fill_(-1)
    packed["sequence_ids"] = torch.zeros(2, 12, dtype=torch.long)
    for sequence, (row, offset) in enumerate([(0, 0), (0, 7), (1, 0)]):
        place = slice(offset, offset + lengths[sequence])
        for key, value in alone.items():
            packed[key][row, place] = value[sequence, : lengths[sequence]]
        packed["sequence_ids"][row, place] = 1 + (offset > 0)
        masked = (packed["labels"][row] != -100) & (packed["sequence_ids"][row] == 1 + (offset > 0))
        packed["left_boundary"][row, masked] += offset
        packed["right_boundary"][row, masked] += offset
    for sequence, length in enumerate(lengths):
        alone["attention_mask"][sequence, length:] = 0
        assert (alone["labels"][sequence, length:] == -100).all()
    return packed, alone, lengths


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_sequences_of_a_packed_row_are_as_if_alone(model, attention):
    model.set_attn_implementation(attention)
    packed, alone, lengths = packed_and_alone()
    expected = model(**alone, output_hidden_states=True)
    expected.loss.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    output = model(**packed, output_hidden_states=True)
    output.loss.backward()

    assert output.loss.item() == pytest.approx(expected.loss.item(), abs=1e-5)
    ours, theirs = output.hidden_states[-1], expected.hidden_states[-1]
    for sequence, (row, offset) in enumerate([(0, 0), (0, 7), (1, 0)]):
        length = lengths[sequence]
        assert torch.allclose(ours[row, offset : offset + length], theirs[sequence, :length], atol=1e-5)
    for ours, theirs in zip((p.grad for p in model.parameters()), gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_flex_attention_sees_packed_rows_as_eager_does(model):
    packed, _, _ = packed_and_alone()
    with torch.no_grad():
        expected = model(**packed).loss
        model.set_attn_implementation("flex_attention")
        assert model(**packed).loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_flash_attention_is_told_where_packed_sequences_begin(model):
    """flash needs a CUDA device; here an attention that takes its keywords and slices by them stands in."""
    seen = []

    def varlen(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **kwargs):
        assert attention_mask is None and kwargs["max_length_q"] == kwargs["max_length_k"] == 9
        offsets = kwargs["cu_seq_lens_q"].tolist()
        seen.append(offsets)
        shape = query.shape
        q, k, v = (x.transpose(1, 2).reshape(-1, shape[1], shape[3]).transpose(0, 1) for x in (query, key, value))
        parts = []
        for start, end in itertools.pairwise(offsets):
            scores = q[:, start:end] @ k[:, start:end].transpose(1, 2) * scaling
            parts.append(scores.softmax(-1) @ v[:, start:end])
        return torch.cat(parts, 1).transpose(0, 1).reshape(shape[0], shape[2], shape[1], shape[3]), None

    packed, _, _ = packed_and_alone()
    expected = model(**packed).loss
    ALL_ATTENTION_FUNCTIONS.register("flash_stand_in", varlen)
    try:
        model.config._attn_implementation = "flash_stand_in"
        assert model(**packed).loss.item() == pytest.approx(expected.item(), abs=1e-5)
    finally:
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop("flash_stand_in")
    assert seen[0] == [0, 7, 12, 21, 24]


def test_positions_restart_in_packed_sequences(model):
    packed, _, _ = packed_and_alone()
    positions = [[*range(7), *range(5)], [*range(9), *range(3)]]
    with torch.no_grad():
        assert model(**packed).loss == model(**packed, position_ids=torch.tensor(positions)).loss


def test_boundary_head_sees_only_the_boundary_tokens(model):
    batch = make_batch(1, 7, [(0, 3, 4)])
    hidden_states = torch.randn(1, 7, 32, requires_grad=True)
    places = torch.tensor([3, 4])
    boundaries = [batch[key] for key in ("left_boundary", "right_boundary", "span_position")]
    logits = model.cls.span_boundary(*model._around(hidden_states, boundaries, places))
    logits.square().sum().backward()
    reached = hidden_states.grad.abs().sum(-1)[0] > 0
    assert reached.tolist() == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_in_training_has_the_losses_and_gradients_that_its_logits_give(tied):
    torch.manual_seed(0)
    model = SpanBertForPreTraining(tiny_config(tie_word_embeddings=tied))
    decoders = [head.decoder.weight for head in (model.cls.predictions, model.cls.span_boundary)]
    assert (decoders[0] is decoders[1]) == tied
    batch = make_batch(2, 12, [(0, 2, 4), (1, 3, 3), (1, 9, 10)])

    def losses_and_gradients() -> tuple[dict, dict]:
        model.zero_grad()
        output = model(**batch)
        output.loss.backward()
        gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        return {name: output[name].detach() for name in ("loss", "mlm_loss", "sbo_loss")}, gradients

    expected = model.eval() and losses_and_gradients()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.config.attention_probs_dropout_prob = 0.0
    for layer in model.bert.encoder.layer:
        layer.attention.self.dropout_prob = 0.0
    losses, gradients = losses_and_gradients()
    for given, wanted in ((losses, expected[0]), (gradients, expected[1])):
        for name in wanted:
            torch.testing.assert_close(given[name], wanted[name], msg=lambda text, name=name: f"{name}: {text}")


def test_eager_attention_drops_a_share_of_the_weights(model):
    from modeling_spanbert.modeling_spanbert import eager_attention_forward

    query, value = torch.zeros(2, 3, 50, 16), torch.eye(50).expand(2, 3, 50, 50)  # so that the weights come out
    output, _ = eager_attention_forward(model.train(), query, query, value, None, scaling=1.0, dropout=0.25)
    assert (output == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(output[output > 0].unique(), torch.tensor([1 / 50 / 0.75]))
    output, _ = eager_attention_forward(model.eval(), query, query, value, None, scaling=1.0, dropout=0.25)
    torch.testing.assert_close(output, torch.full_like(output, 1 / 50))


def test_the_product_after_dropout_has_the_gradients_of_dropout_and_a_product():
    torch.manual_seed(0)
    weights, value = (torch.rand(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 5, 5), (2, 5, 3)))

    def product(weights, value):
        torch.manual_seed(1)  # the same mask at each call
        return dropout_product(weights, value, 0.3, training=True)

    torch.manual_seed(1)
    expected = dropout(weights, 0.3, training=True) @ value
    torch.testing.assert_close(product(weights, value), expected)
    assert torch.autograd.gradcheck(product, (weights, value))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_fp16_survives_attention_scores_in_the_thousands(attention):
    torch.manual_seed(0)
    model = SpanBertForPreTraining(tiny_config()).eval()
    model.set_attn_implementation(attention)
    batch = make_batch(2, 12, [(0, 2, 4), (1, 3, 3)])
    batch["attention_mask"][1, 8:] = 0
    attention_layer = model.bert.encoder.layer[0].attention.self
    with torch.no_grad():
        attention_layer.query.weight.normal_(0, 6)
        attention_layer.key.weight.normal_(0, 6)
        embedded = model.bert.embeddings(batch["input_ids"], 0 * batch["input_ids"], torch.arange(12)[None], None)
        query, key = attention_layer.query(embedded), attention_layer.key(embedded)
        assert (query @ key.transpose(1, 2)).abs().max() / 4 > 2000
        expected = model(**batch, output_hidden_states=True)
        half = model.half()(**batch, output_hidden_states=True)
    assert half.loss.isfinite() and half.loss.item() == pytest.approx(expected.loss.item(), rel=0.02)
    assert all(hidden.isfinite().all() for hidden in half.hidden_states)


def test_fp16_scores_past_the_range_are_clamped_as_by_the_original(model):
    from modeling_spanbert.modeling_spanbert import eager_attention_forward

    query = torch.full((1, 1, 2, 16), 200.0, dtype=torch.float16)  # 16 * 200 * 200 = 640,000 > 65,504
    value = torch.arange(32, dtype=torch.float16).view(1, 1, 2, 16)
    output, weights = eager_attention_forward(model.eval(), query, query, value, None, scaling=1.0)
    assert output.isfinite().all() and weights.flatten().tolist() == [0.5] * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_fp32(model, dtype):
    batch = make_batch(2, 12, [(0, 2, 4), (1, 3, 3)])
    with torch.no_grad():
        expected = model(**batch).loss.item()
        assert model.to(dtype)(**batch).loss.item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gradient_checkpointing_changes_no_gradient_and_draws_the_same_dropout(model, attention):
    model.train().set_attn_implementation(attention)
    batch = make_batch(2, 12, [(0, 2, 4), (1, 3, 3)])

    def gradients(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in model.parameters())]

    expected, of_other_dropout = gradients(0), gradients(1)
    assert expected[0] != of_other_dropout[0]
    model.activation_checkpointing_enable()
    assert model.is_activation_checkpointing
    assert all(torch.equal(found, e) for found, e in zip(gradients(0), expected, strict=True))


def test_hidden_states_and_attentions_are_recorded(model):
    model.set_attn_implementation("eager")
    output = model(**make_batch(2, 12, [(0, 2, 4)]), output_hidden_states=True, output_attentions=True)
    assert [tuple(h.shape) for h in output.hidden_states] == [(2, 12, 32)] * 3
    assert [tuple(a.shape) for a in output.attentions] == [(2, 2, 12, 12)] * 2
    as_tuple = model(**make_batch(2, 12, [(0, 2, 4)]), return_dict=False)
    assert isinstance(as_tuple, tuple) and as_tuple[0] == output.loss


def test_inputs_embeds_take_the_place_of_input_ids(model):
    batch = make_batch(2, 12, [(0, 2, 4)])
    with torch.no_grad():
        expected = model(**batch).loss
        embeds = model.get_input_embeddings()(batch.pop("input_ids"))
        assert model(inputs_embeds=embeds, **batch).loss == expected


@pytest.mark.parametrize("size", [160, 120])
def test_resizing_the_vocabulary_resizes_biases_and_keeps_the_ties(model, size, tmp_path):
    with torch.no_grad():
        model.cls.span_boundary.bias.normal_()
        model.cls.predictions.bias.normal_()
    old = {name: head.bias.clone() for name, head in model.cls.named_children()}
    model.resize_token_embeddings(size)
    words = model.bert.embeddings.word_embeddings.weight
    kept = min(size, 144)
    for name, head in model.cls.named_children():
        assert head.decoder.weight is words and head.bias.shape == (size,)
        assert torch.equal(head.bias[:kept], old[name][:kept]) and not head.bias[kept:].any()
    model.save_pretrained(tmp_path)
    again, info = SpanBertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and again.config.vocab_size == size
    batch = make_batch(2, 12, [(0, 2, 4)])
    with torch.no_grad():
        assert again.eval()(**batch).loss == model(**batch).loss


def test_resizing_untied_decoders_resizes_both(model):
    untied = SpanBertForPreTraining(tiny_config(tie_word_embeddings=False)).eval()
    untied.resize_token_embeddings(160)
    heads = [untied.cls.predictions, untied.cls.span_boundary]
    assert [tuple(head.decoder.weight.shape) for head in heads] == [(160, 32)] * 2
    assert heads[0].decoder.weight is not heads[1].decoder.weight
    assert untied(**make_batch(2, 12, [(0, 2, 4)])).loss.isfinite()


def test_every_parameter_is_initialised_as_the_original(model):
    for name, parameter in model.named_parameters():
        if "LayerNorm.weight" in name or "norm1.weight" in name or "norm2.weight" in name:
            assert (parameter == 1).all(), name
        elif "bias" in name:
            assert (parameter == 0).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
    assert model.get_input_embeddings().weight[0].abs().max() > 0  # [PAD] too


def test_missing_heads_are_initialised_on_loading(tmp_path):
    torch.manual_seed(0)
    config = tiny_config()
    shared = set(BertConfig.__annotations__) & set(SpanBertConfig.__annotations__)
    BertModel(BertConfig(**{name: getattr(config, name) for name in shared})).save_pretrained(tmp_path)
    model, info = SpanBertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"cls"}
    assert model.cls.span_boundary.dense1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not model.cls.span_boundary.bias.any()


def test_auto_classes_open_a_pretraining_checkpoint_without_remote_code(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is SpanBertConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is SpanBertModel
    assert type(AutoModelForPreTraining.from_pretrained(tmp_path)) is SpanBertForPreTraining
    model, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(model) is SpanBertForMaskedLM and not info["missing_keys"]


def test_only_nsp_brings_a_pooler_and_its_head():
    assert SpanBertForPreTraining(tiny_config()).bert.pooler is None
    model = SpanBertForPreTraining(tiny_config(objectives=["mlm", "nsp"]))
    assert model.bert.pooler is not None and not hasattr(model.cls, "span_boundary")
    assert model(torch.tensor([[2, 5, 3]])).seq_relationship_logits.shape == (1, 2)


def test_one_batch_is_learnt_by_heart():
    torch.manual_seed(0)
    model = SpanBertForPreTraining(tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    batch = make_batch(8, 12, UNEVEN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": torch.tensor([5, 6])}, r"input of shape \(2,\): expected input_ids \(rows, tokens\)"),
        ({"input_ids": torch.zeros(0, 4, dtype=torch.long)}, r"input of shape \(0, 4\): expected input_ids"),
        ({"input_ids": torch.zeros(2, 0, dtype=torch.long)}, r"input of shape \(2, 0\): expected input_ids"),
        ({"input_ids": torch.ones(1, 65, dtype=torch.long)}, "65 tokens in a row, but max_position_embeddings=64"),
        ({"labels": torch.tensor([[5, -1, 6]])}, "label -1: expected 0 to 143, or -100"),
        ({"labels": torch.tensor([[5, 144, 6]])}, "label 144: expected 0 to 143, or -100"),
        ({"span_position": torch.tensor([[-1, 20, -1]])}, "span_position 20 in the batch, but max_span_positions=20"),
        ({"next_sentence_label": torch.tensor([0])}, r"objectives=\['mlm', 'sbo'\] has no 'nsp'"),
    ],
)
def test_inputs_that_cannot_be_right_are_refused_in_one_line(model, change, message):
    batch = make_batch(1, 3, [(0, 1, 1)]) | change
    if change.keys() == {"input_ids"}:
        batch = change
    with pytest.raises(ValueError, match=message) as error:
        model(**batch)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 30, "num_attention_heads": 4}, "hidden_size=30 is not a multiple of num_attention_heads=4"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: expected at least 1"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1: expected at least 1"),
        ({"vocab_size": 0}, "vocab_size=0: expected at least 1"),
        ({"vocab_size": "50"}, "vocab_size"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob=1.5: expected a probability"),
        ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob=-0.1: expected a probability"),
        ({"hidden_act": "gleu"}, "unknown hidden_act 'gleu'; closest: gelu"),
        ({"objectives": ["mlm", "sob"]}, r"unknown objectives \['sob'\]; known: mlm, nsp, sbo"),
        ({"objectives": ["sbo"]}, r"objectives=\['sbo'\]: expected 'mlm'"),
    ],
)
def test_configurations_that_cannot_work_are_refused(change, message):
    from huggingface_hub.errors import StrictDataclassError

    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**change)


@pytest.mark.parametrize("p", [0.1, 0.3])
def test_dropout_drops_a_share_of_p_and_keeps_the_mean(p):
    dropout, inputs = SpanBertDropout(p), torch.ones(999, 1001, requires_grad=True)
    torch.manual_seed(0)
    outputs = dropout(inputs)
    kept = outputs != 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=3e-3)
    torch.testing.assert_close(outputs[kept], torch.full_like(outputs[kept], 1 / (1 - p)), rtol=1e-4, atol=0)
    assert kept[:, 0].any() and not kept[:, 0].all()  # what is dropped differs from row to row
    outputs.sum().backward()
    assert torch.equal(inputs.grad, outputs)
    torch.manual_seed(0)
    assert torch.equal(dropout(inputs), outputs)
    assert not torch.equal(dropout(inputs), outputs)


def test_dropout_of_nothing_of_all_and_in_eval_mode():
    inputs = torch.ones(3, 5, dtype=torch.bfloat16)
    assert torch.equal(SpanBertDropout(0.0)(inputs), inputs)
    assert torch.equal(SpanBertDropout(1.0)(inputs), torch.zeros_like(inputs))
    assert torch.equal(SpanBertDropout(0.5).eval()(inputs), inputs)
    assert SpanBertDropout(0.5)(inputs).dtype == torch.bfloat16
    assert SpanBertDropout(0.5)(inputs[:0]).shape == (0, 5)
