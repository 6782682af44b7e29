"""An export in the hands of someone who has transformers alone: plain BERT classes, every head, the pipelines.

All in one process that starts in an empty folder, isolated from PYTHONPATH. Nothing of this repository can be imported
there: an installed package is hidden from it by a finder that comes before all others.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from coreference_helpers import random_model
from helpers import ROOT, tiny_config, tiny_tokenizer
from safetensors.torch import load_file, save_file

from modeling_spanbert import (
    SpanBertForPreTraining,
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
    SpanBertForSequenceClassification,
    SpanBertForTokenClassification,
    SpanBertModel,
)
from modeling_spanbert.configuration_spanbert import AUTO_CLASSES
from modeling_spanbert.export import probe_batch, probe_outputs, save


TEXT = "the people of the old city won"
MODELS = {  # the Auto class that opens its own head
    "encoder": ("AutoModel", SpanBertModel, {}),
    "pretraining": ("AutoModelForPreTraining", SpanBertForPreTraining, {}),
    "answers": ("AutoModelForQuestionAnswering", SpanBertForQuestionAnswering, {}),
    "sequences": ("AutoModelForSequenceClassification", SpanBertForSequenceClassification, {"num_labels": 3}),
    "tokens": ("AutoModelForTokenClassification", SpanBertForTokenClassification, {"num_labels": 3}),
    "relations": ("AutoModel", SpanBertForRelationExtraction, {"num_labels": 3}),
    "coreference": ("AutoModel", None, {}),
}
CLEAN = """
import json, sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_spanbert", "eval", "training", "model_cards"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
import torch, transformers
from safetensors.torch import load_file, save_file
from transformers import pipeline

torch.set_num_threads(1)
folder, root, text, models, auto_classes = sys.argv[1], sys.argv[2], sys.argv[3], *map(json.loads, sys.argv[4:])
found = {}
for name, own in models.items():
    where = f"{folder}/{name}"
    for auto_class in auto_classes:
        load = getattr(transformers, auto_class).from_pretrained
        model = load(where, trust_remote_code=True, attn_implementation="eager").eval()
        assert type(model).__module__.startswith("transformers_modules."), type(model)
        if auto_class == own:
            with torch.no_grad():
                outputs = model(**load_file(f"{where}.probe"))
            save_file({k: v.contiguous() for k, v in outputs.items() if torch.is_tensor(v)}, f"{where}.found")
    bert = transformers.BertModel.from_pretrained(where, add_pooling_layer=False, attn_implementation="eager").eval()
    with torch.no_grad():
        save_file({"states": bert(torch.arange(1, 25).view(2, 12)).last_hidden_state}, f"{where}.bert")

def pipe(task, name):
    return pipeline(task, model=f"{folder}/{name}", trust_remote_code=True, device="cpu")

found["fill-mask"] = pipe("fill-mask", "pretraining")("the people of the [MASK] city", top_k=2)
found["feature-extraction"] = pipe("feature-extraction", "encoder")(text)
found["text-classification"] = pipe("text-classification", "sequences")(text, top_k=None)
found["token-classification"] = [{**token, "score": float(token["score"])} for token in
                                 pipe("token-classification", "tokens")(text)]
found["span-question-answering"] = pipe("span-question-answering", "answers")(question="who won", context=text)
ours = tuple(f"{root}/{name}/" for name in ("modeling_spanbert", "eval", "training", "model_cards"))  # not .venv
assert not [name for name, module in sys.modules.items() if (getattr(module, "__file__", "") or "").startswith(ours)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> tuple[Path, dict, dict]:
    """The folder with an export of each of `MODELS`, the models, and what the clean process found in the pipelines."""
    folder, models = tmp_path_factory.mktemp("exports"), {}
    for name, (_, model_class, fields) in MODELS.items():
        torch.manual_seed(0)
        model = random_model() if model_class is None else model_class(tiny_config(initializer_range=0.2, **fields))
        models[name] = model.eval()
        save(model, tiny_tokenizer(), folder / name)
        save_file(probe_batch(model), f"{folder / name}.probe")
    arguments = (json.dumps({name: own for name, (own, *_) in MODELS.items()}), json.dumps(list(AUTO_CLASSES)))
    (folder / "nowhere").mkdir()
    process = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN, folder, ROOT, TEXT, *arguments],
        cwd=folder / "nowhere",
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules")},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return folder, models, json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_head_opens_with_its_own_code_and_gives_its_outputs(opened, name):
    folder, models, _ = opened
    expected, found = probe_outputs(models[name]), load_file(f"{folder / name}.found")
    assert expected and found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.allclose(found[key].float(), value.float(), atol=1e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_plain_bert_reads_the_encoder_of_every_export(opened, name):
    folder, models, _ = opened
    encoder = getattr(models[name], "bert", models[name])
    encoder.set_attn_implementation("eager")
    with torch.no_grad():
        expected = encoder(torch.arange(1, 25).view(2, 12)).last_hidden_state
    assert torch.allclose(load_file(f"{folder / name}.bert")["states"], expected, atol=1e-5)


@pytest.mark.slow
def test_the_pipelines_work(opened):
    _, models, found = opened
    inputs = tiny_tokenizer()(TEXT, return_tensors="pt")
    with torch.no_grad():
        classes = models["sequences"](**inputs).logits.softmax(-1)[0]
        states = models["encoder"](**inputs).last_hidden_state
        tags = models["tokens"](**inputs).logits[0, 1:-1].argmax(-1)
    assert len(found["fill-mask"]) == 2 and all("[MASK]" not in guess["sequence"] for guess in found["fill-mask"])
    assert torch.tensor(found["feature-extraction"]).sub(states).abs().max() < 1e-4
    scores = {guess["label"]: guess["score"] for guess in found["text-classification"]}
    assert [scores[f"LABEL_{i}"] for i in range(3)] == pytest.approx(classes.tolist(), abs=1e-5)
    assert [token["entity"] for token in found["token-classification"]] == [f"LABEL_{tag}" for tag in tags]
    answer = found["span-question-answering"]
    assert TEXT[answer["start"] : answer["end"]] == answer["answer"] != ""
