"""The programs of examples/."""

import json
import os
import re
import runpy
import subprocess
import sys

import pytest
from coreference_helpers import TEXT, TOKENIZER, learnt_model
from helpers import ROOT, WORDS, tiny_config, tiny_tokenizer

from modeling_spanbert import SpanBertForPreTraining


def test_entities_of_relations_become_tags(tmp_path):
    words = ["Ada", "Lovelace", "left", "London", "for", "Paris"]
    ada, london, paris = ((0, 1), "PERSON"), ((3, 3), "CITY"), ((5, 5), "CITY")
    examples = [
        {"id": str(n), "token": words, "subj_start": s[0][0], "subj_end": s[0][1], "subj_type": s[1]}
        | {"obj_start": o[0][0], "obj_end": o[0][1], "obj_type": o[1]}
        for n, (s, o) in enumerate([(ada, london), (paris, ada), (london, paris)])
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(examples))
    script = ROOT / "examples" / "entities_of_relations.py"
    command = [sys.executable, script, tmp_path / "pairs.json", tmp_path / "new" / "ner.jsonl"]
    process = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert process.returncode == 0, process.stderr
    [line] = (tmp_path / "new" / "ner.jsonl").read_text().splitlines()
    assert json.loads(line) == {"tokens": words, "tags": ["B-PERSON", "I-PERSON", "O", "B-CITY", "O", "B-CITY"]}

    tagged_sentences = runpy.run_path(str(script))["tagged_sentences"]
    with pytest.raises(ValueError, match="example 9: words \\(0, 1\\) are PERSON and CITY"):
        tagged_sentences([*examples, examples[0] | {"id": "9", "subj_type": "CITY"}])
    with pytest.raises(ValueError, match="words 1 to 2 overlaps another one"):
        tagged_sentences([*examples, examples[0] | {"subj_start": 1, "subj_end": 2}])


def test_the_clusters_of_a_text_are_listed_by_size(tmp_path):
    learnt_model().save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    (tmp_path / "my.txt").write_text(TEXT)
    script = ROOT / "examples" / "coreference_of_your_text.py"
    command = [sys.executable, script, tmp_path / "model", tmp_path / "my.txt"]
    process = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert process.returncode == 0, process.stderr
    first, second, _, resolved = process.stdout.splitlines()
    assert first == "   2  the queen  (sentences 1, 2)" and second == "   2  a dog  (sentences 1, 2)"
    assert resolved == "the queen saw a dog. The queen won a dog. We lost."


@pytest.mark.parametrize(
    ("script", "argv"),
    [("coreference_of_your_text.py", ["model", "none.txt"]), ("entities_of_relations.py", ["none.json", "out.jsonl"])],
)
def test_what_is_not_there_is_one_line(script, argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(ROOT / "examples" / script))["main"]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "none." in error and error.count("\n") == 1
    with pytest.raises(SystemExit) as exit_status:
        main([])
    assert exit_status.value.code == 2 and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_own_text_is_trained_on_and_a_run_goes_on_where_it_was(tmp_path):
    SpanBertForPreTraining(tiny_config()).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    words = WORDS.split()
    lines = [" ".join(words[(7 * n + i) % len(words)] for i in range(30)) + "." for n in range(40)]
    (tmp_path / "my.txt").write_text("\n\n".join(lines))
    script = ROOT / "examples" / "continue_pretraining.py"
    fields = "--max_seq_length 32 --global_batch_size 8 --per_device_train_batch_size 8 --num_warmup_steps 0"
    steps = "--max_train_steps 30 --learning_rate 0.005 --mixed_precision no"
    command = [sys.executable, script, "model", "my.txt", "run", *fields.split(), *steps.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(2):  # the second time there is nothing left to do
        process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert process.returncode == 0, process.stderr
        before, after = map(float, re.search(r"loss: ([\d.]+) nats before, ([\d.]+) after", process.stdout).groups())
        assert after < before - 0.2
    command[2] = "no_model"
    process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert process.returncode == 2 and "no_model" in process.stderr.splitlines()[-1]
