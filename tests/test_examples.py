"""The programs of examples/."""

import json
import runpy
import subprocess
import sys

import pytest
from helpers import ROOT


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
