"""Heads as graphs, for other runtimes: torch.export with any batch and length, and ONNX as examples/ does it."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from helpers import ROOT, tiny_config, tiny_tokenizer
from torch.export import Dim

from modeling_spanbert import (
    SpanBertForQuestionAnswering,
    SpanBertForSequenceClassification,
    SpanBertForTokenClassification,
)


HEADS = (SpanBertForQuestionAnswering, SpanBertForSequenceClassification, SpanBertForTokenClassification)


def make_model(head: type):
    torch.manual_seed(0)
    return head(tiny_config(num_labels=2, initializer_range=0.2)).eval()


def batch_of(num_rows: int, num_tokens: int) -> dict[str, torch.Tensor]:
    """Padded to the right by 0, 1, 2, … tokens; two segments."""
    place = torch.arange(num_tokens).expand(num_rows, -1)
    generator = torch.Generator().manual_seed(num_rows)
    return {
        "input_ids": torch.randint(5, 100, (num_rows, num_tokens), generator=generator),
        "attention_mask": (place < num_tokens - torch.arange(num_rows)[:, None]).long(),
        "token_type_ids": (place > 2).long(),
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_exported_for_any_batch_and_length(head, attention):
    model = make_model(head)
    model.set_attn_implementation(attention)
    example = batch_of(2, 9)
    shapes = {name: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for name in example}
    exported = torch.export.export(model, (), example, dynamic_shapes=shapes).module()
    for size in ((2, 9), (1, 3), (5, 23), (3, 64)):
        with torch.no_grad():
            expected, found = model(**batch_of(*size)), exported(**batch_of(*size))
        assert expected.keys() == found.keys()
        for key in expected:
            assert torch.allclose(found[key], expected[key], atol=1e-5), (size, key)


ONNX = [package for package in ("onnx", "onnxscript", "onnxruntime") if not find_spec(package)]


@pytest.mark.slow
@pytest.mark.skipif(bool(ONNX), reason=f"not installed: {', '.join(ONNX)} (pip install -e '.[onnx]')")
@pytest.mark.parametrize("head", HEADS)
def test_the_example_writes_onnx_that_onnxruntime_computes_alike(head, tmp_path):
    import onnxruntime

    model = make_model(head)
    model.save_pretrained(tmp_path / "export")
    tiny_tokenizer().save_pretrained(tmp_path / "export")
    command = [sys.executable, ROOT / "examples" / "onnx_export.py", tmp_path / "export", tmp_path / "model.onnx"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1].startswith(f"{tmp_path}/model.onnx: ")
    assert {path.name for path in tmp_path.iterdir()} == {"export", "model.onnx"}

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for size in ((1, 5), (4, 33)):
        inputs = batch_of(*size)
        with torch.no_grad():
            expected = model(**inputs)
        found = session.run(list(expected), {name: value.numpy() for name, value in inputs.items()})
        for logits, value in zip(found, expected.values(), strict=True):
            assert torch.allclose(torch.from_numpy(logits), value, atol=1e-4)
