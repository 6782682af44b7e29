"""Our model against the numbers of the original program (facebookresearch/SpanBERT at 0670d8b, fp32, CPU)."""

import json

import pytest
import torch
from helpers import testdata_file
from safetensors.torch import load_file

from modeling_spanbert import SpanBertForMaskedLM
from modeling_spanbert.convert_original_checkpoint import model_of


def golden(tag: str):
    """The original's model, in eval mode, as the converter makes it; its inputs and outputs; what it logged."""
    info = json.loads(testdata_file("original", "models.json").read_text())[tag]
    io = load_file(testdata_file("original", f"{tag}.io.safetensors"))
    weights = load_file(testdata_file("original", f"{tag}.weights.safetensors"))
    told = {name: info["config"][name] for name in ("num_attention_heads", "layer_norm_eps")}
    return model_of(weights, told), io, info


def batch_of(io: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The original's pair rows in our batch format: keys (B, T) at each masked token."""
    batch = {
        "input_ids": io["input.src_tokens"],
        "attention_mask": io["input.attention_mask"].long(),
        "token_type_ids": io["input.segment_labels"],
        "labels": io["input.lm_target"].masked_fill(io["input.lm_target"] == 0, -100),
    }
    if "input.pairs" in io:
        left, right = torch.zeros_like(batch["labels"]), torch.zeros_like(batch["labels"])
        position = torch.full_like(left, -1)
        for row, pair, place in (io["input.pair_targets"] != 0).nonzero().tolist():
            start, end = io["input.pairs"][row, pair].tolist()
            left[row, start + 1 + place], right[row, start + 1 + place] = start, end
            position[row, start + 1 + place] = place
        batch |= {"left_boundary": left, "right_boundary": right, "span_position": position}
    if "input.sentence_target" in io:
        batch["next_sentence_label"] = io["input.sentence_target"].flatten()
    return batch


@pytest.fixture(params=[("B_nsp_sbo", ["mlm", "nsp", "sbo"]), ("D_bert_1seq", ["mlm"])], ids=lambda p: p[0])
def original(request):
    tag, objectives = request.param
    model, io, info = golden(tag)
    assert model.config.objectives == objectives
    return model, io, info


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_hidden_states_and_all_logits_are_the_original_programs(original, attention):
    model, io, _ = original
    model.set_attn_implementation(attention)
    batch = batch_of(io)
    batch.pop("labels")
    real = io["input.attention_mask"].bool()  # at padding the two may differ: nothing reads it
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    assert close(output.hidden_states[0][real], io["output.embedding_output"][real])
    assert close(output.hidden_states[1][real], io["output.hidden_1"][real])
    assert close(output.hidden_states[-1][real], io["output.sequence_output"][real])
    assert close(output.prediction_logits[real], io["output.mlm_logits"][real])
    if "sbo" in model.config.objectives:
        targets = io["input.pair_targets"].flatten(0, 1) != 0  # (B N, T)
        assert close(output.boundary_logits, io["output.pair_logits"][targets])
        assert len(output.boundary_logits) > 15
    if "nsp" in model.config.objectives:
        assert close(output.seq_relationship_logits, io["output.nsp_logits"])


def test_loss_sums_are_the_original_programs(original):
    model, io, info = original
    logged = info["logging_output"]
    num_masked = logged["ntokens"]
    output = model(**batch_of(io))
    assert output.mlm_loss.item() * num_masked == pytest.approx(logged["lm_loss"], rel=1e-5)
    if "sbo" in model.config.objectives:
        assert output.sbo_loss.item() * num_masked == pytest.approx(logged["pair_loss"], rel=1e-5)
        assert output.nsp_loss.item() * logged["nsentences"] == pytest.approx(logged["sentence_loss"], rel=1e-5)


def test_gradient_of_the_originals_loss_has_the_originals_norm(original):
    model, io, info = original
    logged = info["logging_output"]
    output = model(**batch_of(io))
    loss = output.mlm_loss
    if "sbo" in model.config.objectives:  # the original divides the pair sum by its own count + 1
        loss = loss + output.sbo_loss * logged["ntokens"] / logged["npairs"] + output.nsp_loss
    assert loss.item() == pytest.approx(info["loss_returned_nats"], rel=1e-5)
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert norm.item() == pytest.approx(info["gradient_norm_of_returned_loss"], rel=1e-4)


def test_masked_lm_has_the_same_logits(original):
    model, io, _ = original
    masked_lm = SpanBertForMaskedLM(model.config).eval()
    masked_lm.load_state_dict({k: v for k, v in model.state_dict().items() if k in masked_lm.state_dict()})
    batch = {key: batch_of(io)[key] for key in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        assert close(masked_lm(**batch).logits, model(**batch).prediction_logits)
