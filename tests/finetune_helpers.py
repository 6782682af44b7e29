"""Fine-tuning small enough for tests: made-up data for each family of tasks, and runs of some ten steps."""

import json
import random
from pathlib import Path

from helpers import WORDS, tiny_config, tiny_tokenizer
from run_helpers import TinyRun, as_words

from eval.tasks import TASKS
from eval.tasks.extractive_qa import ExtractiveQa
from eval.tasks.glue import Glue
from eval.tasks.relation_extraction import RelationExtraction
from modeling_spanbert.conll import CoreferenceDocument, conll_text
from training import finetune


NOUNS = "game team city king queen war peace house river night".split()
PEOPLE = ("king", "queen")


def questions(num: int, unanswerable: bool = False) -> dict:
    """SQuAD's layout: the answer is the king or queen of the context; each third has none, if asked for."""
    rng, paragraphs = random.Random(0), []
    for number in range(num):
        words = rng.choices([noun for noun in NOUNS if noun not in PEOPLE], k=rng.randint(3, 9))
        person = rng.choice(PEOPLE)
        question = {"id": f"q{number}", "question": "who won"}
        if unanswerable:
            question["is_impossible"] = number % 3 == 0
        if unanswerable and number % 3 == 0:
            answers = []
        else:
            words[rng.randrange(len(words))] = person
            answers = [{"text": person, "answer_start": f" {' '.join(words)}".index(f" {person}")}]
        paragraphs.append({"context": " ".join(words), "qas": [question | {"answers": answers}]})
    return {"data": [{"title": "made up", "paragraphs": paragraphs}]}


def relations(num: int) -> list[dict]:
    """TACRED's layout: the relation is told by the second word of the sentence."""
    rng, examples = random.Random(1), []
    for number in range(num):
        words = rng.choices(NOUNS, k=rng.randint(6, 12))
        words[1] = rng.choice(["won", "lost", "the"])
        label = {"won": "per:won", "lost": "per:lost", "the": "no_relation"}[words[1]]
        entities = {"subj_start": 0, "subj_end": 0, "obj_start": 3, "obj_end": 4}
        types = {"subj_type": "PERSON", "obj_type": rng.choice(["CITY", "DATE"])}
        examples.append({"id": f"r{number}", "token": words, "relation": label} | entities | types)
    return examples


def sentence_pairs(num: int) -> str:
    """RTE's file: entailed where the second sentence is about a queen."""
    lines = ["index\tsentence1\tsentence2\tlabel"]
    for number in range(num):
        noun = NOUNS[number % len(NOUNS)]
        label = "entailment" if noun == "queen" or number % 2 else "not_entailment"
        lines.append(f"{number}\tthe {noun} won\tthe {'queen' if label == 'entailment' else 'city'} won\t{label}")
    return "\n".join(lines) + "\n"


def values(num: int) -> str:
    """STS-B's file: a pair is worth as much as it has words in common."""
    lines = ["index\tsentence1\tsentence2\tscore"]
    for number in range(num):
        words = ["the"] * (number % 4) + NOUNS[: 4 - number % 4]
        lines.append(f"{number}\tthe the the the\t{' '.join(words)}\t{number % 4}.5")
    return "\n".join(lines) + "\n"


def tagged_words(num: int) -> str:
    """CoNLL columns: kings and queens are people."""
    rng = random.Random(2)
    sentences = [rng.choices(NOUNS, k=rng.randint(3, 9)) for _ in range(num)]
    return "\n".join(
        "".join(f"{word} {'B-PER' if word in PEOPLE else 'O'}\n" for word in words) for words in sentences
    )


def documents(num: int) -> list[CoreferenceDocument]:
    """Documents of some sentences, in which each king is one person and each queen another."""
    rng, found = random.Random(3), []
    for number in range(num):
        sentences = []
        for _ in range(rng.randint(4, 9)):
            words = rng.choices([noun for noun in NOUNS if noun not in PEOPLE], k=rng.randint(3, 6))
            words[rng.randrange(len(words))] = rng.choice(PEOPLE)
            sentences.append(words)
        words = [word for sentence in sentences for word in sentence]
        places = [[(n, n) for n, word in enumerate(words) if word == person] for person in PEOPLE]
        speakers = [["-"] * len(sentence) for sentence in sentences]
        clusters = [mentions for mentions in places if len(mentions) > 1]
        found.append(CoreferenceDocument(f"nw/made/up_{number}_0", sentences, speakers, clusters))
    return found


def mrqa(num: int) -> str:
    """MRQA's layout of the same questions."""
    lines = [json.dumps({"header": {"dataset": "made up"}})]
    for paragraph in questions(num)["data"][0]["paragraphs"]:
        [question] = paragraph["qas"]
        [answer] = question["answers"]
        span = [answer["answer_start"], answer["answer_start"] + len(answer["text"]) - 1]
        detected = [{"text": answer["text"], "char_spans": [span]}]
        found = {"qid": question["id"], "question": question["question"], "answers": [answer["text"]]}
        lines.append(json.dumps({"context": paragraph["context"], "qas": [found | {"detected_answers": detected}]}))
    return "\n".join(lines) + "\n"


def sentences(task: Glue, num: int) -> str:
    """The file of a task of GLUE, of any columns: each text is a noun, and each label comes in turn."""
    labels = list(task.labels) or ["1.5", "4.0"]
    if task.headless:
        return "".join(f"gj04\t{labels[n % 2]}\t\tthe {NOUNS[n % len(NOUNS)]} won\n" for n in range(num))
    lines = ["\t".join(["index", *task.texts, task.label])]
    for n in range(num):
        lines.append("\t".join([str(n), *[f"the {NOUNS[n % len(NOUNS)]}"] * len(task.texts), labels[n % len(labels)]]))
    return "\n".join(lines) + "\n"


LEARNT = {  # what makes a task learnable in some seconds
    "squad_v1": {"num_train_epochs": 8},
    "squad_v2": {"num_train_epochs": 8},
    "tacred": {"num_train_epochs": 12},
    "rte": {"num_train_epochs": 8, "global_batch_size": 4, "per_device_train_batch_size": 4},
    "stsb": {"num_train_epochs": 12},
    "ner": {"num_train_epochs": 6},
    "ontonotes_coref": {
        "max_seq_length": 32,
        "global_batch_size": 1,
        "per_device_train_batch_size": 1,
        "num_train_epochs": 30,
        "evaluations_per_epoch": 1,
        "eval_steps": 60,
        "head_learning_rate": 0.005,
    },
}


class TinyFinetuning(TinyRun):
    """Arguments of `training/finetune.py` for runs of a tiny model from scratch, in `folder`."""

    script = finetune

    def __init__(self, folder: Path):
        self.folder = folder
        tokenizer = tiny_tokenizer(f"{WORDS} @ # * ^")  # the marks of relations
        tokenizer.save_pretrained(folder / "tokenizer")
        of_coreference = {"ffnn_size": 32, "max_span_width": 4, "feature_emb_size": 4}
        tiny_config(vocab_size=len(tokenizer), **of_coreference).save_pretrained(folder / "config")
        self.files = {}
        for task, content in {
            "squad_v1": json.dumps(questions(60)),
            "squad_v2": json.dumps(questions(60, unanswerable=True)),
            "tacred": json.dumps(relations(60)),
            "rte": sentence_pairs(60),
            "stsb": values(60),
            "ner": tagged_words(60),
            "ontonotes_coref": "".join(map(conll_text, documents(6))),
        }.items():
            self.files[task] = folder / f"{task}.data"
            self.files[task].write_text(content, encoding="utf-8")

    def file_of(self, task: str) -> Path:
        """A file in the task's own format."""
        path = self.folder / f"{task}.toy"
        match TASKS[task]:
            case Glue() as of_glue:
                path.write_text(sentences(of_glue, 60), encoding="utf-8")
            case ExtractiveQa(format="mrqa"):
                path.write_text(mrqa(60), encoding="utf-8")
            case RelationExtraction():
                path = self.files["tacred"]
            case _:
                path = self.files[task]
        return path

    def argv(self, output_dir: str, **changes) -> list[str]:
        file = self.files.get(changes.get("task", "rte"))
        defaults = {
            "task": "rte",
            "train_file": file,
            "validation_file": file,
            "config_name": self.folder / "config",
            "tokenizer_name": self.folder / "tokenizer",
            "global_batch_size": 16,
            "per_device_train_batch_size": 8,
            "learning_rate": 0.005,
            "num_train_epochs": 3,
            "evaluations_per_epoch": 1,
            "logging_steps": 1,
            "output_dir": self.folder / output_dir,
        }
        return as_words(defaults | changes)

    def learnt(self, task: str) -> Path:
        """The folder of a run that has learnt a task."""
        if not (self.folder / f"learnt_{task}").exists():
            assert self.run(f"learnt_{task}", task=task, **LEARNT[task]) == 0
        return self.folder / f"learnt_{task}"

    def results(self, output_dir: str) -> dict:
        return json.loads((self.folder / output_dir / "results.json").read_text())

    def scores(self, output_dir: str) -> dict[str, float]:
        return {row["metric"]: row["value"] for row in self.results(output_dir)["results"]}
