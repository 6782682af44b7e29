"""The GPU benchmark, every line of it that a CPU can run, at toy size."""

import importlib
import json

import pytest
import torch
from helpers import ROOT, tiny_config
from test_static_shapes import packed_batch

from modeling_spanbert import SpanBertForPreTraining


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return importlib.import_module("gpu")


def test_at_toy_size_both_sides_are_one_graph_and_are_compared(gpu, monkeypatch, tmp_path, capsys):
    torch._dynamo.reset()
    monkeypatch.setattr(gpu, "STEPS", 1)
    gpu.main(["--toy", "--rounds", "2", "--markdown", "--json", str(tmp_path / "results.json")])
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    [result] = content["results"]
    for side in result["sides"].values():
        assert side["seconds"]["min"] > 0 and len(side["losses"]) == gpu.WARM_UP + 2
        assert min(side["losses"]) > 5  # nats, after a few steps: each side does compute its loss
    assert result["sides"]["ours"]["losses"] != result["sides"]["rival"]["losses"]
    assert content["peaks"]["measured"] > 0 and content["peaks"]["datasheet"] is None
    printed = capsys.readouterr().out
    assert "toy: figures mean nothing" in printed and "| tiny 2x64 | eager " in printed


def test_without_a_device_it_says_so_in_a_line(gpu, capsys):
    with pytest.raises(SystemExit) as exit:
        gpu.main([])
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: no CUDA device here; --toy shows on a CPU that this benchmark runs\n"


def test_an_attention_that_is_not_installed_is_refused(gpu, capsys):
    with pytest.raises(SystemExit) as exit:
        gpu.main(["--toy", "--attention", "flash_attention_2"])
    assert exit.value.code == 2 and "the package flash_attn is not installed" in capsys.readouterr().err


def test_rows_are_full_and_made_of_whole_sequences(gpu):
    from collator import CLS, SEP

    rows = gpu.PackedRows(20, 64)
    lengths = []
    for example in rows.examples:
        ids, numbers = example["input_ids"], example["sequence_ids"]
        assert len(ids) == 64 and numbers[0] == 1 and numbers[-1] <= rows.max_sequences
        for number in range(1, numbers[-1] + 1):
            of_sequence = ids[numbers == number]
            assert of_sequence[0] == CLS and of_sequence[-1] == SEP
            assert not {CLS, SEP} & set(of_sequence[1:-1])
            lengths.append(len(of_sequence))
    assert sum(lengths) == 20 * 64 and min(lengths) >= 3
    assert rows.mean_attended == pytest.approx(sum(length**2 for length in lengths) / sum(lengths))


def test_an_update_without_a_finite_gradient_is_skipped_without_looking(gpu):
    torch.manual_seed(0)
    model = SpanBertForPreTraining(tiny_config()).train()
    step = gpu.Step(model, [packed_batch()], torch.device("cpu"))

    def weights() -> dict:
        return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    before = weights()
    step(0)
    after = weights()
    assert not any(torch.equal(after[name], before[name]) for name in before if "LayerNorm" in name)

    healthy = model.cls.predictions.bias[7].item()
    with torch.no_grad():
        model.cls.predictions.bias[7] = torch.inf
    step(1)
    with torch.no_grad():
        model.cls.predictions.bias[7] = healthy
    torch.testing.assert_close(weights(), after, rtol=0, atol=0)
    assert {state["step"].item() for state in step.optimizer.state.values()} == {1}
    step(2)
    assert not torch.equal(model.cls.predictions.bias, after["cls.predictions.bias"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("T4", None)],
)
def test_the_datasheet_is_found_by_the_name_of_the_device(gpu, name, expected):
    assert gpu.datasheet_peak(name) == expected
