"""Pre-training on two-sequence blocks and on annotated spans, through the script."""

import json

import pytest
import torch
from run_helpers import TinyRun, without_clean_process
from transformers import BertTokenizer

from modeling_spanbert import DataCollatorForSpanMasking
from training.arguments import OptimizationArguments
from training.batches import KeyedBatches
from training.blocks import prepare_blocks
from training.corpus import Corpus


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    return TinyRun(tmp_path_factory.mktemp("run"))


def evaluation(run: TinyRun, output_dir: str) -> dict:
    return [line["eval"] for line in run.losses(output_dir) if "eval" in line][-1]


def test_googles_bert_trains_and_resumes_exactly(tiny_run):
    changes = {"masking_scheme": "subwords", "num_static_masks": 2, "short_seq_prob": 0.1}
    changes |= {"objectives": ["mlm", "nsp"]}
    assert tiny_run.run_in_child("whole", without_clean_process, **changes) == 0
    assert tiny_run.run_in_child("parts", without_clean_process, **changes, stop_after_step=6) == 0
    resumed = {**changes, "resume_from_checkpoint": "auto"}
    assert tiny_run.run_in_child("parts", without_clean_process, **resumed) == 0
    whole = [line for line in tiny_run.losses("whole") if "loss" in line]
    assert whole == [line for line in tiny_run.losses("parts") if "loss" in line]
    assert tiny_run.weights("whole") == tiny_run.weights("parts")
    assert all(line["loss"] > line["nsp_loss"] > 0 and "sbo_loss" not in line for line in whole)
    page = (tiny_run.folder / "whole" / "report.html").read_text(encoding="utf-8")
    assert "skipped tokens, cut from the ends of two-sequence blocks" in page
    scores = evaluation(tiny_run, "whole")
    assert scores["sbo_loss"] is None and 0 < scores["nsp_loss"] < 2 and 0 <= scores["nsp_accuracy"] <= 1


def test_static_masks_come_back_to_a_row_wherever_a_pass_has_it(tiny_run):
    tokenizer = BertTokenizer.from_pretrained(tiny_run.folder / "tokenizer")
    blocks = prepare_blocks(str(tiny_run.corpus), tokenizer, 32, cache_dir=tiny_run.folder / "cache")
    collator = DataCollatorForSpanMasking(tokenizer, seed=1, num_static_masks=2, pad_to_multiple_of=32)
    rows = len(blocks)
    batches = KeyedBatches(
        blocks, collator, OptimizationArguments(global_batch_size=rows, per_device_train_batch_size=rows)
    )
    passes = []
    for step in range(4):  # a pass each
        (batch,) = batches[step]
        text = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
        masks = map(tuple, batch["labels"].tolist())
        passes.append(dict(zip(map(tuple, text.tolist()), masks, strict=True)))
    assert len(passes[0]) == rows and list(passes[0]) != list(passes[2])
    assert passes[0] == passes[2] and passes[1] == passes[3]
    assert sum(passes[0][row] == passes[1][row] for row in passes[0]) < rows / 10


def test_named_entities_train_with_all_three_objectives(tiny_run):
    rows = []
    for document in Corpus(str(tiny_run.corpus)).documents():
        place = document.text.index(" ")
        rows.append({"id": document.id, "ents": [[0, place, "PERSON"], [place + 1, place + 4, "DATE"]], "nps": []})
    path = tiny_run.folder / "spans.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"masking_scheme": "named_entities", "annotation_file": path, "objectives": ["mlm", "sbo", "nsp"]}
    changes |= {"max_train_steps": 4}
    assert tiny_run.run_in_child("entities", without_clean_process, **changes) == 0
    (line, *_) = tiny_run.losses("entities")
    assert line["mlm_loss"] > 0 and line["sbo_loss"] > 0 and line["nsp_loss"] > 0
    record = json.loads((tiny_run.folder / "entities" / "run.json").read_text())
    assert record["arguments"]["annotation_file"] == [str(path)]
