"""A training step is one graph, the same for every batch: constant shapes, no graph break, no compiling again."""

import pytest
import torch
from helpers import tiny_config
from test_modeling import UNEVEN, make_batch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from modeling_spanbert import SpanBertForPreTraining


NUM_ROWS, NUM_TOKENS = 8, 12
NUM_MASKED = sum(end - start + 1 for _, start, end in UNEVEN)
LIMITS = {"max_masked_tokens": NUM_MASKED + 5, "max_sequences": 3 * NUM_ROWS}


def make_model(attention: str = "sdpa", objectives: list[str] | None = None, **kwargs) -> SpanBertForPreTraining:
    """In training mode, but without dropout, unless asked for."""
    torch.manual_seed(0)
    kwargs = {"num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} | kwargs
    model = SpanBertForPreTraining(tiny_config(objectives=objectives or ["mlm", "sbo"], **kwargs))
    model.config._attn_implementation = attention
    return model.train()


def packed_batch(spans=UNEVEN, first_sequence: int = 7, seed: int = 0) -> dict:
    """Two sequences a row, of `first_sequence` tokens and the others."""
    batch = make_batch(NUM_ROWS, NUM_TOKENS, spans, seed=seed)
    batch["sequence_ids"] = 1 + (torch.arange(NUM_TOKENS) >= first_sequence).long().expand(NUM_ROWS, -1)
    return batch


def losses_and_gradients(model, batch, **kwargs) -> tuple[dict, dict]:
    model.zero_grad()
    output = model(**batch, **kwargs)
    output.loss.backward()
    losses = {name: output[name].detach() for name in ("loss", "mlm_loss", "sbo_loss")}
    return losses, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def varlen_stand_in(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **kwargs):
    """flash needs a CUDA device; this takes its keywords, and can be compiled as it can."""
    assert attention_mask is None and kwargs["max_length_q"] == kwargs["max_length_k"]
    rows, heads, tokens, size = query.shape
    q, k, v = (x.transpose(1, 2).reshape(-1, heads, size).transpose(0, 1) for x in (query, key, value))
    place = torch.arange(rows * tokens, dtype=torch.int32, device=query.device)
    sequence = torch.searchsorted(kwargs["cu_seq_lens_q"], place, right=True)
    scores = (q @ k.transpose(1, 2) * scaling).masked_fill(sequence[:, None] != sequence, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(rows, tokens, heads, size), None


@pytest.fixture
def flash_stand_in():
    ALL_ATTENTION_FUNCTIONS.register("flash_stand_in", varlen_stand_in)
    yield "flash_stand_in"
    ALL_ATTENTION_FUNCTIONS._global_mapping.pop("flash_stand_in")


@pytest.mark.parametrize("kwargs", [{}, {"num_items_in_batch": 40}])
@pytest.mark.parametrize("spans", [UNEVEN, [], [(0, 1, 1)]])
def test_rows_that_fill_up_the_budget_change_neither_losses_nor_gradients(spans, kwargs):
    model, batch = make_model(), packed_batch(spans)
    expected, expected_gradients = losses_and_gradients(model, batch, **kwargs)
    losses, gradients = losses_and_gradients(model, batch, **kwargs, **LIMITS)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradients, expected_gradients)


def test_a_batch_with_all_that_is_allowed_loses_no_token():
    model, batch = make_model(), packed_batch()
    expected, _ = losses_and_gradients(model, batch)
    losses, _ = losses_and_gradients(model, batch, max_masked_tokens=NUM_MASKED)
    torch.testing.assert_close(losses, expected)


def test_a_batch_with_more_than_allowed_is_refused(flash_stand_in):
    with pytest.raises(ValueError, match=f"max_masked_tokens={NUM_MASKED - 1}, but the batch has {NUM_MASKED}: "):
        make_model()(**packed_batch(), max_masked_tokens=NUM_MASKED - 1)
    with pytest.raises(ValueError, match="max_sequences=15, but the batch has 16: "):
        make_model(flash_stand_in)(**packed_batch(), max_sequences=15)


def test_outside_of_training_logits_have_no_more_rows_than_masked_tokens():
    model = make_model().eval()
    assert len(model(**packed_batch(), **LIMITS).prediction_logits) == NUM_MASKED


def test_flash_attention_is_told_of_empty_sequences_up_to_the_limit(flash_stand_in):
    model, batch = make_model(), packed_batch()
    expected, expected_gradients = losses_and_gradients(model, batch)
    model.config._attn_implementation = flash_stand_in
    losses, gradients = losses_and_gradients(model, batch, **LIMITS)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradients, expected_gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "flash_stand_in"])
def test_a_step_on_a_device_reads_no_value_from_it(attention, flash_stand_in):
    """The meta device has shapes but no values: what would wait for a GPU to read one fails on it."""
    model = make_model(attention, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1).to("meta")
    batch = {name: tensor.to("meta") for name, tensor in packed_batch().items()}
    count = torch.full((), NUM_MASKED, device="meta")
    model(**batch, num_items_in_batch=count, **LIMITS).loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    with pytest.raises(RuntimeError, match="meta"):
        norm.item()
    with pytest.raises(RuntimeError):
        model(**batch, num_items_in_batch=count)


def compile_and_compare(model, backend: str, atol: float) -> None:
    """Three batches of other counts and sequences, against the same without compiling; compiled once, as one graph."""
    torch._dynamo.reset()
    batches = [packed_batch(), packed_batch([(2, 3, 4)], 3, seed=1), packed_batch([], 11, seed=2)]
    counts = [torch.tensor(count) for count in (NUM_MASKED, 2, 0)]
    expected = [
        losses_and_gradients(model, batch, num_items_in_batch=count)
        for batch, count in zip(batches, counts, strict=True)
    ]
    model.compile(backend=backend, fullgraph=True, dynamic=False)
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = [
            losses_and_gradients(model, batch, num_items_in_batch=count, **LIMITS)
            for batch, count in zip(batches, counts, strict=True)
        ]
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4)


@pytest.mark.parametrize(
    ("attention", "backend"), [("eager", "eager"), ("sdpa", "aot_eager"), ("flash_stand_in", "eager")]
)
def test_batches_of_any_count_are_one_graph_compiled_once(attention, backend, flash_stand_in):
    compile_and_compare(make_model(attention), backend, atol=1e-5)


@pytest.mark.slow
def test_so_are_those_of_flex_attention_forward_all_that_it_does_on_a_cpu():
    torch._dynamo.reset()
    batches = [packed_batch(), packed_batch([(2, 3, 4)], 3, seed=1)]
    model, expected = make_model("flex_attention"), make_model("sdpa")
    model.compile(backend="eager", fullgraph=True, dynamic=False)
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        for batch in batches:
            torch.testing.assert_close(model(**batch, **LIMITS).loss, expected(**batch).loss)


def test_so_are_those_with_next_sentences():
    torch._dynamo.reset()
    model = make_model(objectives=["mlm", "nsp", "sbo"])
    batch = make_batch(NUM_ROWS, NUM_TOKENS, UNEVEN) | {"next_sentence_label": torch.arange(NUM_ROWS) % 2}
    batch["attention_mask"][0, 10:] = 0
    expected = model(**batch).loss
    model.compile(backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(model(**batch, **LIMITS).loss, expected)


@pytest.mark.slow
def test_with_dropout_in_bf16_the_step_is_one_graph_too():
    torch._dynamo.reset()
    model = make_model(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model.compile(backend="aot_eager", fullgraph=True, dynamic=False)
    with torch.autocast("cpu", torch.bfloat16), torch._dynamo.config.patch(error_on_recompile=True):
        losses, gradients = losses_and_gradients(model, packed_batch(), **LIMITS)
        assert losses["loss"].isfinite() and all(gradient.isfinite().all() for gradient in gradients.values())
        torch.manual_seed(1)
        one, _ = losses_and_gradients(model, packed_batch([(0, 1, 2)]), **LIMITS)
        torch.manual_seed(1)
        again, _ = losses_and_gradients(model, packed_batch([(0, 1, 2)]), **LIMITS)
    assert one == again


@pytest.mark.slow
def test_inductor_compiles_it_too():
    compile_and_compare(make_model(), "inductor", atol=1e-4)
