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
from modeling_spanbert.__main__ import main
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

# Several commands of `spanbert` in one process; prints [exit status, standard output, standard error] of each.
COMMANDS = """
import contextlib, io, json, os, shlex, sys, time
from huggingface_hub import constants
from modeling_spanbert.__main__ import main

def run(argv):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(argv)
    return [status, out.getvalue(), err.getvalue()]

time.sleep = lambda seconds: None
for command in json.load(sys.stdin):
    os.environ["HF_TOKEN"] = command["token"]
    constants.HF_HUB_DISABLE_XET = not command["xet"]
    constants.ENDPOINT = command["endpoint"]
    found = run(command["argv"])
    if command["again"]:  # as it is printed
        found = run(shlex.split(found[2].partition("; try again: spanbert ")[2]))
    print(json.dumps(found))
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
    hub: HubServer, home: Path, *argv: str, xet: bool = False, token: str = TOKEN, **settings: str
) -> subprocess.CompletedProcess:
    """A fresh Python that knows this Hub only, with a cache of its own."""
    stdin = settings.pop("stdin", None)
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "PYTHONPATH": str(ROOT),
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms",
    } | settings
    command = [sys.executable, *argv]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, cwd=home, input=stdin)


def command(
    hub: HubServer, *argv: str, token: str = TOKEN, xet: bool = False, endpoint: str = "", again=False
) -> dict:
    """One of `COMMANDS`."""
    return {"argv": argv, "token": token, "xet": xet, "endpoint": endpoint or hub.url, "again": again}


def run_commands(hub: HubServer, home: Path, commands: list[dict]) -> list[tuple[int, str, str]]:
    """The exit status, standard output and standard error of each, with every log there is."""
    process = python(hub, home, "-c", COMMANDS, stdin=json.dumps(commands), HF_DEBUG="1")
    assert process.returncode == 0, process.stderr
    assert "<TOKEN>" in process.stderr  # requests are logged, with this in place of it
    for text in (process.stdout, process.stderr):
        assert TOKEN not in text
    return [tuple(json.loads(line)) for line in process.stdout.splitlines() if line.startswith("[")]


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


# What may happen to each request of an upload, what it is called in `hub.fail_next`, and by which way it goes.
STATUSES = (401, 403, 404, 409, 412, 429, 500, 503, DROPPED)
PLACES = {
    "create": ("/api/repos/create/NAME$", "lfs", (401, 403, 404, 429, 500, 503, DROPPED)),  # 409: it is there
    "commit after LFS": ("/tester/NAME/commit/", "lfs", STATUSES),
    "LFS": ("/lfs/[0-9a-f]+/tester/NAME$", "lfs", (401, 403, 404, 429, 500, 503, DROPPED)),
    "commit after Xet": ("/tester/NAME/commit/", "xet", STATUSES),
    "Xet's token": ("/tester/NAME/xet-write-token/", "xet", STATUSES),
}
CAUSES = {
    401: "no valid token (`hf auth login`, or the variable HF_TOKEN)",
    403: "the token has no right to write to tester/NAME",
    404: "URL has no tester/NAME, or not for this token",
    409: "another upload to tester/NAME is going on",
    412: "tester/NAME was changed by another upload meanwhile",
    429: "URL has had too many requests; wait some minutes",
    500: "URL answered 500",
    503: "URL answered 503",
    DROPPED: "URL cannot be reached",
}
FAULTS = [(place, status) for place, (*_, statuses) in PLACES.items() for status in statuses]
CLOSED = "http://127.0.0.1:9"  # a port where nothing listens


@pytest.fixture(scope="module")
def quick(exported, tmp_path_factory) -> Path:
    """An export whose card stays as it is, which takes a moment less; its name has to be quoted."""
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("run") / "my export")
    (folder / "results.json").unlink()
    return folder


@pytest.fixture(scope="module")
def failures(quick, tmp_path_factory) -> dict:
    """What a push said at each of `FAULTS` and where no Hub is, by place and status; and the Hub's address."""
    home = tmp_path_factory.mktemp("home")
    commands = {}
    with HubServer(token=TOKEN) as hub:
        for number, (place, status) in enumerate(FAULTS):
            pattern, way, _ = PLACES[place]
            hub.fail_next(pattern.replace("NAME", f"m{number}"), status=status, times=100)
            argv = ("push", str(quick), "--hub_model_id", f"tester/m{number}")
            commands[place, status] = command(hub, *argv, xet=way == "xet")
        for way in ("lfs", "xet"):
            argv = ("push", str(quick), "--hub_model_id", f"tester/{way}")
            commands["refused", way] = command(hub, *argv, xet=way == "xet", endpoint=CLOSED)
            hub.fail_next(f"/tester/again-{way}/commit/", status=412)
            argv = ("push", str(quick), "--hub_model_id", f"tester/again-{way}", "--revision", "v1")
            commands["again", way] = command(hub, *argv, xet=way == "xet", again=True)
        found = dict(zip(commands, run_commands(hub, home, list(commands.values())), strict=True))
        found["again-files"] = [set(hub.repositories[f"tester/again-{way}"].files("v1")) for way in ("lfs", "xet")]
    # Nothing that was written has it: not the cache, not the logs of hf_xet, not the export.
    written = [path for folder in (home, quick) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    return found | {"url": hub.url}


@pytest.mark.parametrize(("place", "status"), FAULTS)
def test_every_answer_of_the_hub_is_one_line_with_cause_and_cure(failures, quick, place, status):
    exit_status, out, err = failures[place, status]
    name = f"m{FAULTS.index((place, status))}"
    reason = CAUSES[status].replace("NAME", name).replace("URL", failures["url"])
    again = f"spanbert push '{quick}' --hub_model_id tester/{name}"
    line = f"error: push failed: {reason}; the export is safe in {quick}; try again: {again}\n"
    assert (exit_status, out, err) == (4, "", line)


@pytest.mark.parametrize("way", ["lfs", "xet"])
def test_where_no_hub_listens_it_says_so(failures, way):
    exit_status, _, err = failures["refused", way]
    assert exit_status == 4 and err.startswith(f"error: push failed: {CLOSED} cannot be reached; the export is safe")


def test_the_command_that_is_printed_works_when_it_is_pasted(failures, quick):
    for way in ("lfs", "xet"):
        assert failures["again", way][:2] == (0, f"{failures['url']}/tester/again-{way}/tree/v1\n")
    assert all(files >= {path.name for path in quick.iterdir()} for files in failures["again-files"])


def test_what_is_asked_of_the_hub_but_cannot_be(quick, tmp_path):
    with HubServer(token=TOKEN) as hub:
        hub.repositories["tester/public"] = Repository(hub, private=False)
        hub.repositories["tester/secret"] = Repository(hub, private=True)

        def push(name: str, *more: str, **how) -> dict:
            return command(hub, "push", str(quick), "--hub_model_id", name, *more, **how)

        asked = [  # and what is said
            (push("tester/public", "--private"), 4, "tester/public exists and is public; make it private first"),
            (push("tester/not..a name", "--revision", "v1"), 4, "Repo id"),
            (push("tester/mine", token=""), 4, CAUSES[401]),
            (push("tester/yours", token="hf_ofSomebodyElse"), 4, "the token has no right to write to tester/yours"),
            (command(hub, "push", str(tmp_path), "--hub_model_id", "tester/x"), 2, "not an export: it has no config"),
            (
                push("tester/public", "--dry_run"),
                0,
                f"tester/public on {hub.url}, branch main: it is there, and public",
            ),
            (push("tester/public", "--dry_run", "--private"), 0, "public: a push with --private is refused"),
            (push("secret", "--dry_run", "--revision", "v1"), 0, ", branch v1: it is there, and private"),
            (
                push("tester/secret", "--dry_run", token=""),
                0,
                "not there, or not for this token; a push makes it public",
            ),
            (
                push("tester/new", "--dry_run", "--private"),
                0,
                "not there, or not for this token; a push makes it private",
            ),
            (push("tester/x", "--dry_run", endpoint=CLOSED), 0, f"is there is not known ({CLOSED} cannot be reached)"),
            (push("not..a name", "--dry_run"), 2, "Repo id must"),
        ]
        before = len(hub.repositories)
        for (asking, status, said), found in zip(
            asked, run_commands(hub, tmp_path, [asking for asking, *_ in asked]), strict=True
        ):
            assert found[0] == status and said in found[1] + found[2], asking["argv"]
            assert found[2].count("\n") == bool(status)
        assert len(hub.repositories) == before
        assert not [
            request for request in hub.requests if request.startswith(("PUT", "POST")) and "create" not in request
        ]


def test_a_dry_run_lists_what_a_push_sends_without_network_or_token(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    folder = shutil.copytree(exported, tmp_path / "export")
    (folder / ".eval_results").mkdir()
    (folder / ".eval_results" / "squad.yaml").write_text("- value: 90\n")
    (folder / "README.md.partial").write_text("what a push that was killed left")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert main(["push", str(folder), "--hub_model_id", "org/name", "--dry_run"]) == 0  # HF_HUB_OFFLINE is 1 in tests
    first, *listed, last = capsys.readouterr().out.splitlines()
    assert first.startswith("org/name on https://") and ", branch main: whether it is there is not known (" in first
    sizes = {name: int(size.replace(",", "")) for size, name in map(str.split, listed)}
    sent = [*exported.iterdir(), folder / ".eval_results" / "squad.yaml"]
    expected = {path.name: path.stat().st_size for path in sent}
    expected[".eval_results/squad.yaml"] = expected.pop("squad.yaml")
    assert sizes == expected
    assert last.split() == [f"{sum(sizes.values()):,}", *f"bytes in {len(sizes)} files; nothing was sent".split()]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


PULL_AT = """
import sys
sys.modules["modeling_spanbert"] = None
import torch, transformers
from safetensors.torch import save_file

torch.set_num_threads(1)
name, folder, *revisions = sys.argv[1:]
for revision in revisions:
    model = transformers.AutoModelForMaskedLM.from_pretrained(name, revision=revision, trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    with torch.no_grad():
        save_file({"outputs": model(torch.arange(1, 25).view(2, 12)).logits}, f"{folder}/{revision}.safetensors")
"""


@pytest.mark.slow
def test_a_private_repository_is_pulled_at_a_revision_and_again_without_a_network(exported, model, tmp_path):
    torch.manual_seed(1)
    newer = SpanBertForPreTraining(tiny_config()).eval()
    export(newer, tiny_tokenizer(), tmp_path / "newer", RUN, RESULTS, in_clean_process=False)
    older = shutil.copytree(exported, tmp_path / "older")
    (older / ".eval_results").mkdir()
    (older / ".eval_results" / "squad.yaml").write_text("- value: 90\n")
    to = ("--hub_model_id", "tester/secret", "--private")
    with HubServer(token=TOKEN) as hub:
        pushes = [command(hub, "push", str(folder), *to) for folder in (older, tmp_path / "newer")]
        pushes.append(command(hub, "push", str(older), *to, "--revision", "v1"))
        assert [found[0] for found in run_commands(hub, tmp_path, pushes)] == [0, 0, 0]
        repository = hub.repositories["tester/secret"]
        assert repository.private and repository.branches["main"] != repository.branches["v1"]
        assert repository.files("v1")[".eval_results/squad.yaml"] == b"- value: 90\n"
        weights = (older / "model.safetensors").read_bytes()
        pinned = next(sha for sha in repository.commits if repository.files(sha).get("model.safetensors") == weights)

        refused = python(hub, tmp_path, "-c", PULL_AT, "tester/secret", str(tmp_path), "main", token="")
        assert refused.returncode == 1 and not list(tmp_path.glob("*.safetensors"))
        pulled = python(hub, tmp_path, "-c", PULL_AT, "tester/secret", str(tmp_path), pinned, "main", "v1")
        assert pulled.returncode == 0, pulled.stderr
        asked = len(hub.requests)

    def outputs() -> dict[str, torch.Tensor]:
        return {path.stem: load_file(path)["outputs"] for path in sorted(tmp_path.glob("*.safetensors"))}

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    online, expected = outputs(), {}
    for revision, source in ((pinned, older), ("main", tmp_path / "newer"), ("v1", older)):
        with torch.no_grad():
            expected[revision] = SpanBertForMaskedLM.from_pretrained(source).eval()(torch.arange(1, 25).view(2, 12))[0]
        assert torch.equal(online[revision], expected[revision]), revision
        (tmp_path / f"{revision}.safetensors").unlink()
    torch.set_num_threads(threads)

    offline = python(hub, tmp_path, "-c", PULL_AT, "tester/secret", str(tmp_path), pinned, "main", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert len(hub.requests) == asked
    again = outputs()
    assert again.keys() == {pinned, "main"} and all(torch.equal(again[name], expected[name]) for name in again)


def test_the_probe_reaches_every_head(model):
    assert set(probe_batch(model)) >= {"left_boundary", "right_boundary", "span_position"}
    outputs = probe_outputs(model)
    assert outputs["prediction_logits"].shape == (2, 12, model.config.vocab_size)
    assert outputs["boundary_logits"].shape == (6, model.config.vocab_size)
