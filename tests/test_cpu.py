"""The fast paths of a CPU are taken where they are exact."""

import pytest
import torch

from modeling_spanbert import __main__, cpu
from modeling_spanbert.cpu import product_error, use_fast_cpu_paths


@pytest.fixture(autouse=True)
def _same_precision_afterwards():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def test_fp32_products_stay_fp32():
    use_fast_cpu_paths()
    assert product_error() < cpu.MAX_ERROR


def test_products_that_would_be_computed_in_bf16_stay_with_torch(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(cpu, "product_error", lambda: 3e-3)
    use_fast_cpu_paths()
    assert torch.get_float32_matmul_precision() == "highest"
    monkeypatch.setattr(cpu, "product_error", lambda: 3e-7)
    use_fast_cpu_paths()
    assert torch.get_float32_matmul_precision() == "medium"


def test_without_avx512_nothing_changes(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    use_fast_cpu_paths()
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_error_of_bf16_products_is_seen():
    matrix = torch.arange(256 * 256, dtype=torch.float32).view(256, 256).sin()
    exact = matrix.double() @ matrix.double()
    error = ((matrix.bfloat16() @ matrix.bfloat16()).double() - exact).abs().max() / exact.abs().max()
    assert error > 100 * cpu.MAX_ERROR


def test_the_command_takes_them(monkeypatch, capsys):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(__main__, "use_fast_cpu_paths", lambda: taken.append(True))
    assert __main__.main(["show", "masks", "a short text"]) == 0
    assert taken and "text" in capsys.readouterr().out
