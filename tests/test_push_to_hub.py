"""An export reaches the Hub (a loopback one) and comes back equal; what goes wrong is said in one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from card_facts import RESULTS, RUN
from helpers import ROOT, tiny_config, tiny_tokenizer
from hub_server import DROPPED, HubServer, Repository
from safetensors.torch import load_file

from modeling_spanbert import SpanBertForMaskedLM, SpanBertForPreTraining
from modeling_spanbert.export import export, probe_batch, probe_outputs


TOKEN = "hf_loopbackToken"
AUTO_CLASSES = ("AutoModel", "AutoModelForPreTraining", "AutoModelForMaskedLM")

PULL = """
import sys
sys.modules["modeling_spanbert"] = None  # cannot be imported
import torch, transformers
from safetensors.torch import save_file

torch.set_num_threads(1)
name, folder, *auto_classes = sys.argv[1:]
for auto_class in auto_classes:
    model = getattr(transformers, auto_class).from_pretrained(name, trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    ids = torch.arange(1, 25).view(2, 12)
    with torch.no_grad():
        save_file({"outputs": model(ids)[0].contiguous()}, f"{folder}/{auto_class}.safetensors")
print(transformers.AutoTokenizer.from_pretrained(name).tokenize("The team"))
"""

# Pushes that cannot succeed, as [token, argv]; prints [exit status, standard output, standard error] of each.
REFUSED = """
import contextlib, io, json, os, sys, time
from modeling_spanbert.__main__ import main

time.sleep = lambda seconds: None
for os.environ["HF_TOKEN"], argv in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(argv)
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""


@pytest.fixture(scope="module")
def model() -> SpanBertForPreTraining:
    torch.manual_seed(0)
    return SpanBertForPreTraining(tiny_config()).eval()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "export"
    return export(model, tiny_tokenizer(), folder, RUN, RESULTS, in_clean_process=False)


def python(
    hub: HubServer, home: Path, *argv: str, xet: bool = False, token: str = TOKEN
) -> subprocess.CompletedProcess:
    """A fresh Python that knows this Hub only, with a cache of its own."""
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run([sys.executable, *argv], env=os.environ | settings, capture_output=True, text=True, cwd=home)


@pytest.mark.parametrize("xet", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["lfs", "xet"])
def test_what_is_pushed_comes_back_bit_for_bit_where_the_package_cannot_be_imported(model, exported, tmp_path, xet):
    folder = shutil.copytree(exported, tmp_path / "export")
    (folder / "README.md.partial").write_text("what a push that was killed left")
    with HubServer(token=TOKEN) as hub:
        hub.fail_next("/api/repos/create", status=503)  # huggingface_hub itself would give up here
        argv = ("-m", "modeling_spanbert", "push", str(folder), "--hub_model_id", "tiny")
        pushed = python(hub, tmp_path, *argv, xet=xet)
        assert pushed.returncode == 0, pushed.stderr
        assert pushed.stdout == f"{hub.url}/tester/tiny\n"
        assert TOKEN not in pushed.stdout + pushed.stderr
        assert hub.requests.count("POST /api/repos/create") == 2

        there = hub.repositories["tester/tiny"].files()
        assert set(there) - {".gitattributes"} == {path.name for path in exported.iterdir()}
        assert 'model="tester/tiny"' in there["README.md"].decode()
        assert json.loads(there["results.json"])["run"]["model_id"] == "tester/tiny"
        changed = {path.name for path in exported.iterdir() if there[path.name] != path.read_bytes()}
        # The weights, which here only Xet could read, are compared below, as pulled.
        assert changed - {"model.safetensors"} == {"README.md", "results.json"}
        assert there["README.md"] == (folder / "README.md").read_bytes()

        pulled = python(hub, tmp_path, "-c", PULL, "tester/tiny", str(tmp_path), *AUTO_CLASSES, xet=xet)
        assert pulled.returncode == 0, pulled.stderr
        assert pulled.stdout.endswith("'team']\n")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    masked_lm = SpanBertForMaskedLM.from_pretrained(exported).eval()
    for auto_class, ours in zip(AUTO_CLASSES, (model.bert, model, masked_lm), strict=True):
        with torch.no_grad():
            expected = ours(torch.arange(1, 25).view(2, 12))[0]
        assert torch.equal(load_file(tmp_path / f"{auto_class}.safetensors")["outputs"], expected), auto_class
    torch.set_num_threads(threads)


def test_a_push_that_fails_says_why_where_the_export_is_and_how_to_try_again(exported, tmp_path):
    with HubServer(token=TOKEN) as hub:
        hub.repositories["tester/public"] = Repository(hub, private=False)
        hub.fail_next("/api/models/tester/busy/commit/", status=503, times=100)
        hub.fail_next("/api/models/tester/full/preupload/", status=403, times=100)
        hub.fail_next("/api/models/tester/gone", status=DROPPED, times=100)
        cases = [  # name, further arguments, token, cause
            ("busy", [], TOKEN, f"{hub.url} answered 503"),
            ("full", [], TOKEN, "the token has no right to write to tester/full"),
            ("gone", ["--private"], TOKEN, f"{hub.url} cannot be reached"),
            ("public", ["--private"], TOKEN, "tester/public exists and is public"),
            ("not..a name", ["--revision", "v1"], TOKEN, "Repo id"),
            ("mine", [], "", "no valid token"),
            ("yours", [], "hf_ofSomebodyElse", "the token has no right to write to tester/yours"),
        ]
        pushes = [
            (token, ["push", str(exported), "--hub_model_id", f"tester/{name}", *more])
            for name, more, token, _ in cases
        ]
        pushes.append((TOKEN, ["push", str(tmp_path), "--hub_model_id", "tester/nothing"]))
        process = python(hub, tmp_path, "-c", REFUSED, json.dumps(pushes))
    assert process.returncode == 0, process.stderr
    *refused, nothing = map(json.loads, process.stdout.splitlines())

    for (name, more, _, cause), (status, out, err) in zip(cases, refused, strict=True):
        last_line = err.splitlines()[-1]  # progress bars come before it
        assert (status, out) == (4, ""), err
        assert last_line.startswith("error: push failed: ") and cause in last_line
        again = " ".join(["spanbert push", str(exported), "--hub_model_id", f"tester/{name}", *more])
        assert last_line.endswith(f"; the export is safe in {exported}; try again: {again}")
        assert TOKEN not in err
    assert nothing == [2, "", f"error: {tmp_path} is not an export: it has no config.json\n"]


def test_the_probe_reaches_every_head(model):
    assert set(probe_batch(model)) >= {"left_boundary", "right_boundary", "span_position"}
    outputs = probe_outputs(model)
    assert outputs["prediction_logits"].shape == (2, 12, model.config.vocab_size)
    assert outputs["boundary_logits"].shape == (6, model.config.vocab_size)
