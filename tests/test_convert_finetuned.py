"""The converter, on what users have beside the original's checkpoints: archives, fine-tuned models, coreference."""

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import transformers
from helpers import testdata_file, tiny_config, tiny_tokenizer
from hub_server import Blob, HubServer, Repository
from huggingface_hub import constants
from safetensors.torch import save_file
from test_modeling_coref import pairs, small_batch, small_model, vector_cases, vector_document

import modeling_spanbert
from modeling_spanbert import (
    RelationExtractor,
    SpanBertForCoreference,
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
    SpanBertForSequenceClassification,
    SpanBertForTokenClassification,
    SpanBertModel,
    convert_original_checkpoint,
)
from modeling_spanbert import export as export_module
from modeling_spanbert.__main__ import main
from modeling_spanbert.convert_original_checkpoint import tacred_names
from modeling_spanbert.original_names import COREFERENCE_HEAD, PARTS
from modeling_spanbert.relations import RelationFeaturizer, relation_labels


FILES = {"config.json", "configuration_spanbert.py", "model.safetensors", "modeling_spanbert.py", "README.md"}
FILES |= {
    "dropout.py",
    "unpadding.py",
    "vocabulary_loss.py",
    "results.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
BERT = {
    key: value
    for key, value in tiny_config().to_dict().items()
    if key in transformers.BertConfig().to_dict() and key not in ("architectures", "model_type")
}


@pytest.fixture
def quick(monkeypatch):
    """Exports without the check in a second Python, which takes seconds."""
    monkeypatch.setattr(
        convert_original_checkpoint, "export", lambda *args: export_module.export(*args, in_clean_process=False)
    )


def bert(head: str, **fields) -> transformers.PreTrainedModel:
    """A model of transformers' own, with weights that matter."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**(BERT | {"initializer_range": 0.2} | fields))
    return getattr(transformers, head)(config).eval()


def folder_of(tensors: dict[str, torch.Tensor], folder: Path, name: str = "pytorch_model.bin", **config) -> Path:
    """A folder as the original's fine-tuning scripts leave it: their config.json names neither model nor head."""
    folder.mkdir(parents=True)
    torch.save(tensors, folder / name)
    told = {key: BERT[key] for key in ("vocab_size", "hidden_size", "num_attention_heads", "num_hidden_layers")}
    (folder / "config.json").write_text(json.dumps(told | {"directionality": "bidi"} | config))
    (folder / "vocab.txt").write_text("\n".join(tiny_tokenizer().convert_ids_to_tokens(range(144))) + "\n")
    return folder


def archive_of(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    return path


def lines_of(capsys, *argv) -> list[str]:
    assert main(["convert", *map(str, argv)]) == 0
    return capsys.readouterr().out.splitlines()


def error_of(capsys, *argv) -> str:
    assert main(["convert", *map(str, argv)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 100, (3, 12), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": (torch.arange(12) < torch.tensor([[12], [7], [9]])).long()}


def assert_equal_outputs(found, expected) -> None:
    """At the tokens that are not padding."""
    with torch.no_grad():
        ours, theirs = found.eval()(**batch()), expected.eval()(**batch())
    real = batch()["attention_mask"] == 1
    for key in theirs:
        places = real if theirs[key].shape[:2] == real.shape else ...
        assert torch.allclose(ours[key][places], theirs[key][places], atol=1e-5), key


# Released encoders


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("model_type", [{}, {"model_type": "bert"}], ids=["no model_type", "bert"])
def test_a_released_encoder_becomes_a_whole_export(tmp_path, capsys, quick, packed, model_type):
    weights = {
        f"bert.{key}": value.half() for key, value in bert("BertModel").state_dict().items() if "pooler" not in key
    }
    source = folder_of(weights, tmp_path / "spanbert_hf", **model_type)
    if packed:
        source = archive_of(source, tmp_path / "spanbert_hf_base.tar.gz")
    lines = lines_of(capsys, source, tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    model = SpanBertModel.from_pretrained(tmp_path / "out")
    for key, value in model.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, weights[f"bert.{key}"].float()), key
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.tokenize("A a") == ["A", "a"]
    if packed:
        assert lines[0].startswith(f"read {source}/pytorch_model.bin: ")
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_what_an_encoder_lacks_is_named_as_transformers_names_it(tmp_path, capsys, quick):
    weights = {key: value for key, value in bert("BertModel").state_dict().items() if "pooler" not in key}
    lines = lines_of(capsys, folder_of(weights, tmp_path / "in"), tmp_path / "out")
    (line,) = [line for line in lines if line.startswith("not in the file, and random until trained: ")]
    named = dict(entry.rstrip(")").split(" (") for entry in line.partition("trained: ")[2].split("; "))
    assert named.keys() == {model.__name__ for model in PARTS}
    for name, parts in named.items():
        _, info = getattr(modeling_spanbert, name).from_pretrained(
            tmp_path / "out", output_loading_info=True, ffnn_size=4
        )
        new = {key for key in info["missing_keys"] if "decoder" not in key}
        assert {next(part for part in parts.split(", ") if key.startswith(part)) for key in new} == set(
            parts.split(", ")
        )


def test_weights_that_are_there_twice_are_read_as_safetensors(tmp_path, capsys, quick):
    weights = {key: value for key, value in bert("BertModel").state_dict().items() if "pooler" not in key}
    source = folder_of({key: torch.zeros_like(value) for key, value in weights.items()}, tmp_path / "in")
    save_file(weights, source / "model.safetensors")
    torch.save({}, source / "training_args.bin")
    assert lines_of(capsys, source, tmp_path / "out")[0].startswith(f"read {source}/model.safetensors: ")


def test_a_model_without_a_vocabulary_is_one_line_that_says_how_to_give_it(tmp_path, capsys, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = folder_of(bert("BertModel").state_dict(), tmp_path / "in")
    (source / "vocab.txt").rename(tmp_path / "vocab.txt")
    packed = archive_of(source, tmp_path / "in.tar.gz")
    for given in (source, packed, packed.name):
        error = error_of(capsys, given, tmp_path / "out")
        assert f"{given} has no vocab.txt; give the vocabulary with --vocab_file, a vocab.txt or" in error
    lines_of(capsys, packed, tmp_path / "out", "--vocab_file", tmp_path / "vocab.txt")


# Archives


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("../evil.bin", tarfile.REGTYPE, "its member '../evil.bin' names a place outside of it"),
        ("/evil.bin", tarfile.REGTYPE, "its member '/evil.bin' names a place outside of it"),
        ("a/../../evil.txt", tarfile.REGTYPE, "names a place outside of it"),
        ("link.bin", tarfile.SYMTYPE, "its member 'link.bin' is a link or a device"),
        ("link.bin", tarfile.LNKTYPE, "is a link or a device"),
        ("pipe", tarfile.FIFOTYPE, "is a link or a device"),
    ],
)
def test_an_archive_that_reaches_out_of_itself_is_refused(tmp_path, capsys, name, kind, message):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "x.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, "../target", 4 if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"evil"))
    error = error_of(capsys, folder / "x.tar.gz", folder / "out")
    assert f"{folder}/x.tar.gz is refused, and nothing of it was kept: " in error and message in error
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.tar.gz"]
    assert not Path("/evil.bin").exists()


def test_archives_that_are_damaged_empty_or_ambiguous(tmp_path, capsys):
    source = folder_of(bert("BertModel").state_dict(), tmp_path / "in")
    whole = archive_of(source, tmp_path / "in.tar.gz").read_bytes()
    for share in (0, 0.001, 0.5, 0.99):
        (tmp_path / "cut.tar.gz").write_bytes(whole[: int(share * len(whole))])
        assert f"{tmp_path}/cut.tar.gz is no whole archive (" in error_of(capsys, tmp_path / "cut.tar.gz", "out")

    (source / "pytorch_model.bin").rename(source / "pytorch_model.notes")
    archive_of(source, tmp_path / "none.tar.gz")
    assert "none.tar.gz has no weights; expected" in error_of(capsys, tmp_path / "none.tar.gz", tmp_path / "out")
    (source / "sub").mkdir()
    (source / "sub" / "config.json").write_text("{}")
    archive_of(source, tmp_path / "two.tgz")
    error = error_of(capsys, tmp_path / "two.tgz", tmp_path / "out")
    assert "two.tgz has two files config.json; unpack it" in error
    assert not (tmp_path / "out").exists()


def test_a_pickle_in_an_archive_is_refused_too(tmp_path, capsys):
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self):
            return Path.touch, (canary,)

    archive = archive_of(folder_of({"x": Payload()}, tmp_path / "in"), tmp_path / "in.tar.gz")
    assert f"{archive}/pytorch_model.bin is refused, and nothing in it was run: it names" in error_of(
        capsys, archive, tmp_path / "out"
    )
    assert not canary.exists()


# Fine-tuned


@pytest.mark.parametrize("threshold", [None, "-1.25"])
def test_a_model_of_run_squad_answers(tmp_path, capsys, quick, threshold):
    theirs = bert("BertForQuestionAnswering")
    pooler = {f"bert.pooler.dense.{name}": torch.ones(()) for name in ("weight", "bias")}  # theirs has one, unused
    source = folder_of(theirs.state_dict() | pooler, tmp_path / "squad2")
    if threshold:
        (source / "eval_results.txt").write_text(f"best_f1 = 83.6\nbest_f1_thresh = {threshold}\nexact = 80\n")
    lines = lines_of(capsys, source, tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"question_answering.py", "checks.py"}
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out")
    assert type(model) is SpanBertForQuestionAnswering
    assert_equal_outputs(model, theirs)
    assert model.config.null_score_diff_threshold == (threshold and float(threshold))
    assert any("-1.25 in logits" in line for line in lines) == bool(threshold)
    assert "not carried over: bert.pooler.dense.weight, bert.pooler.dense.bias" in lines


def test_a_threshold_that_is_no_number(tmp_path, capsys):
    source = folder_of(bert("BertForQuestionAnswering").state_dict(), tmp_path / "squad2")
    (source / "eval_results.txt").write_text("best_f1_thresh = high\n")
    assert "says best_f1_thresh = high, expected a number" in error_of(capsys, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("head", "ours", "told"),
    [
        ("BertForSequenceClassification", SpanBertForSequenceClassification, {}),
        ("BertForSequenceClassification", SpanBertForSequenceClassification, {"id2label": {"0": "a", "1": "b"}}),
        ("BertForTokenClassification", SpanBertForTokenClassification, {}),
        (
            "BertForTokenClassification",
            SpanBertForTokenClassification,
            {"architectures": ["BertForTokenClassification"], "id2label": {"0": "O", "1": "B-X"}},
        ),
    ],
)
def test_a_classifier_keeps_its_head_and_names(tmp_path, capsys, quick, head, ours, told):
    theirs = bert(head, num_labels=2)
    lines = lines_of(capsys, folder_of(theirs.state_dict(), tmp_path / "in", **told), tmp_path / "out")
    model = ours.from_pretrained(tmp_path / "out")
    assert_equal_outputs(model, theirs)
    names = told.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    assert list(model.config.id2label.values()) == list(names.values())
    assert any(line.startswith("note: nothing tells the names of its labels") for line in lines) != (
        "id2label" in told
    )


def test_labels_that_are_not_the_classifiers(tmp_path, capsys):
    source = folder_of(bert("BertForSequenceClassification", num_labels=3).state_dict(), tmp_path / "in")
    config = json.loads((source / "config.json").read_text()) | {"id2label": {"0": "a", "1": "b"}}
    (source / "config.json").write_text(json.dumps(config))
    assert "its classifier has 3 labels, but 2 are named" in error_of(capsys, source, tmp_path / "out")


@pytest.fixture
def tacred(tmp_path) -> Path:
    """A model of run_tacred.py, and the data that it was trained on."""
    vectors = json.loads(testdata_file("original", "finetune.json").read_text(encoding="utf-8"))
    pieces = vectors["vocab"]
    theirs = bert("BertForSequenceClassification", vocab_size=len(pieces), num_labels=2)
    source = folder_of(theirs.state_dict(), tmp_path / "tacred", vocab_size=len(pieces))
    (source / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.json").write_text(json.dumps(vectors["tacred_input"]))
    return source


def test_a_model_of_run_tacred_knows_its_relations_and_entities(tacred, tmp_path, capsys, quick):
    vectors = json.loads(testdata_file("original", "finetune.json").read_text(encoding="utf-8"))
    lines = lines_of(capsys, tacred, tmp_path / "out", "--tacred_dir", tmp_path / "data")
    assert "2 relations and 7 tokens of entities, by the files of TACRED" in lines

    model = transformers.AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is SpanBertForRelationExtraction
    assert model.config.entity_token_map == vectors["tacred"]["ner"]["special_tokens"]
    assert list(model.config.id2label.values()) == vectors["tacred_labels_in_order"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    extract = RelationExtractor.from_pretrained(str(tmp_path / "out"))
    features = RelationFeaturizer(tokenizer, model.config)(vectors["tacred_input"])
    tokens = [tokenizer.convert_ids_to_tokens(row["input_ids"]) for row in features]
    assert tokens == vectors["tacred"]["ner"]["tokens"]
    example = vectors["tacred_input"][0]
    found = extract(
        tokens=example["token"], subject=(0, 2), object=(4, 7), subject_type="PERSON", object_type="ORGANIZATION"
    )
    assert found["label"] in vectors["tacred_labels_in_order"]
    assert "subject_type='PERSON', object_type='ORGANIZATION'" in (tmp_path / "out" / "README.md").read_text()


def test_entities_are_numbered_as_they_were_met_and_the_development_set_was_read_first(tmp_path):
    def example(relation, subj_type, obj_type):
        return {"relation": relation, "subj_type": subj_type, "obj_type": obj_type}

    train = [example("b", "P", "Q"), example("a", "R", "P"), example("no_relation", "P", "P"), example("c", "P", "P")]
    (tmp_path / "train.json").write_text(json.dumps([*train, train[1]]))
    (tmp_path / "dev.json").write_text(json.dumps([example("d", "Z", "Q")]))
    labels, tokens = tacred_names(tmp_path)
    assert labels == ["no_relation", "a", "b", "c"]
    order = ["SUBJ_START", "SUBJ_END", "OBJ_START", "OBJ_END"]
    order += ["SUBJ=Z", "OBJ=Q", "SUBJ=P", "SUBJ=R", "OBJ=P"]
    assert tokens == {name: f"[unused{number}]" for number, name in enumerate(order, 1)}
    assert set(labels) == set(relation_labels([*train]))

    (tmp_path / "dev.json").unlink()
    assert list(tacred_names(tmp_path)[1])[4:] == ["SUBJ=P", "OBJ=Q", "SUBJ=R", "OBJ=P"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "data has no train.json, whose relations the model was trained on"),
        ({}, "train.json is a dict, expected a list of examples"),
        ([{"subj_type": "P", "obj_type": "P", "relation": "x"}] * 2 + [{}], "example 2 has no 'subj_type'"),
        ([{"subj_type": "P", "obj_type": "P", "relation": r} for r in "abc"], "has 2 labels, but 4 are named"),
    ],
)
def test_files_that_are_not_those_of_the_model(tacred, tmp_path, capsys, content, message):
    (tmp_path / "data" / "train.json").unlink()
    if content is not None:
        (tmp_path / "data" / "train.json").write_text(json.dumps(content))
    assert message in error_of(capsys, tacred, tmp_path / "out", "--tacred_dir", tmp_path / "data")


def test_tacred_files_for_a_model_that_has_no_relations(tmp_path, capsys):
    source = folder_of(bert("BertForQuestionAnswering").state_dict(), tmp_path / "in")
    error = error_of(capsys, source, tmp_path / "out", "--tacred_dir", tmp_path)
    assert "it is a SpanBertForQuestionAnswering, which has no relations; leave out --tacred_dir" in error


# Coreference


def in_coref_hoi(model: SpanBertForCoreference) -> dict[str, torch.Tensor]:
    """Its weights under coref-hoi's names, with the pooler and the buffer that its encoder has."""
    theirs = {f"coreference.{ours}": name for name, ours in COREFERENCE_HEAD.items()}
    weights = {}
    for key, value in model.state_dict().items():
        module, _, parameter = key.rpartition(".")
        weights[f"{theirs[module]}.{parameter}" if module in theirs else key] = value
    assert not any(key.startswith("coreference.") for key in weights)
    size = model.config.hidden_size
    pooler = {"bert.pooler.dense.weight": torch.ones(size, size), "bert.pooler.dense.bias": torch.ones(size)}
    return weights | pooler | {"bert.embeddings.position_ids": torch.arange(64)[None]}


@pytest.mark.parametrize("coref_depth", [1, 2])
def test_a_model_of_coref_hoi_gives_the_scores_of_one_with_our_names(tmp_path, capsys, quick, coref_depth):
    model = small_model(candidate_boundaries="subword", coref_depth=coref_depth).eval()
    source = folder_of(in_coref_hoi(model), tmp_path / "in", name="model_May22_23-31-16_66000.bin")
    lines = lines_of(capsys, source, tmp_path / "out", "--vocab_file", source / "vocab.txt")
    converted = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    assert type(converted) is SpanBertForCoreference
    for name in ("max_span_width", "ffnn_size", "feature_emb_size", "genres", "max_training_sentences", "coref_depth"):
        assert getattr(converted.config, name) == getattr(model.config, name)
    assert converted.config.candidate_boundaries == "subword"
    assert any(line.startswith("coreference: antecedents are taken in as `attended_antecedent`") for line in lines)

    converted.config.max_top_antecedents = model.config.max_top_antecedents  # no weight's shape tells it
    with torch.no_grad():
        found, expected = converted(**small_batch()), model(**small_batch())
    for key in expected:
        assert torch.equal(found[key], expected[key]), key
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"modeling_spanbert_coref.py"}


def test_converted_heads_give_the_numbers_of_coref_hoi(tmp_path, capsys, quick):
    for number, case in enumerate(vector_cases()[:4]):
        encoder = bert("BertModel", hidden_size=8, num_attention_heads=2, intermediate_size=16).state_dict()
        weights = {f"bert.{key}": value for key, value in encoder.items()}
        weights |= {name: torch.tensor(values) for name, values in case["weights"].items()}
        source = folder_of(weights, tmp_path / f"in{number}", "model.bin", hidden_size=8, num_attention_heads=2)
        lines_of(capsys, source, tmp_path / f"out{number}")
        told = {name: case["config"][name] for name in ("coref_depth", "top_span_ratio", "max_top_antecedents")}
        model = SpanBertForCoreference.from_pretrained(tmp_path / f"out{number}", **told).eval()
        with torch.no_grad():
            mentions = model.coreference(vector_document(case))
        assert torch.stack([mentions.start, mentions.end], 1).tolist() == case["expected"]["top_spans"]
        theirs = {(i, j): score for i, row in enumerate(case["expected"]["antecedent_scores"]) for j, score in row}
        assert pairs(mentions) == pytest.approx(theirs, abs=2e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"span_attn_ffnn.weight": torch.ones(1, 3)},
            "unknown key 'span_attn_ffnn.weight'; expected",
        ),
        ({"emb_genre.weight": None}, "coreference.antecedents.genre_embeddings.weight is missing"),
        ({"emb_same_speaker.weight": None}, "coreference.antecedents.speaker_embeddings.weight is missing"),
        ({"qa_outputs.weight": torch.ones(2, 32)}, "it has the heads qa_outputs. and coreference.; expected one"),
    ],
)
def test_coreference_models_of_another_shape_are_refused(tmp_path, capsys, changes, message):
    weights = in_coref_hoi(small_model(candidate_boundaries="subword")) | changes
    source = folder_of({key: value for key, value in weights.items() if value is not None}, tmp_path / "in")
    assert message in error_of(capsys, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Repositories of the Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that is asked, with a cache of its own; it has tester/released, a released encoder, with a branch "v1"."""
    weights = {f"bert.{key}": value for key, value in bert("BertModel").state_dict().items() if "pooler" not in key}
    folder = folder_of(weights, tmp_path / "released")
    torch.save({"lr": 1e-4}, folder / "training_args.bin")
    with HubServer() as server:
        repository = server.repositories["tester/released"] = Repository(server, private=False)
        files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"tf_model.h5": b"of TensorFlow"}
        blobs = {name: Blob(len(data), sha256(data).hexdigest(), data) for name, data in files.items()}
        repository.commit("v1", blobs)
        repository.commit("main", {name: blobs[name] for name in ("config.json", "vocab.txt")})
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        yield server


def test_a_repository_of_the_hub_is_fetched_at_its_revision(hub, tmp_path, capsys, quick):
    lines = lines_of(capsys, "tester/released", "out", "--revision", "v1")
    assert lines[0].startswith("read tester/released/pytorch_model.bin: ")
    assert not [asked for asked in hub.requests if asked.endswith(("tf_model.h5", "training_args.bin"))]
    local = lines_of(capsys, tmp_path / "released", "local")
    assert local[1:-1] == [line.replace("tester/", f"{tmp_path}/") for line in lines[1:-1]]
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()

    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    commit = hub.repositories["tester/released"].branches["v1"]
    assert f"spanbert convert tester/released out --revision {commit}\n" in card
    assert "\nbase_model: tester/released\n" in card and "converted from `tester/released`" in card
    assert str(tmp_path) not in (tmp_path / "out" / "results.json").read_text(encoding="utf-8")


def test_a_repository_that_cannot_be_converted_is_one_line(hub, capsys, monkeypatch):
    for asked, message in (
        (["tester/none"], "tester/none is no file or folder here, and not fetched from the Hub: "),
        (["tester/released", "--revision", "v2"], "has no tester/released at v2, or not for this token"),
        (["tester/released"], "tester/released has no weights; expected a fairseq checkpoint"),
        (["tester/released.bin"], "tester/released.bin is not there"),
        (["released", "--revision", "v1"], "released is not OWNER/NAME of a repository of the Hub"),
        (["released/pytorch_model", "--revision", "v1"], "is not OWNER/NAME of a repository of the Hub"),
    ):
        assert message in error_of(capsys, asked[0], "out", *asked[1:])
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    assert "cannot be reached" in error_of(capsys, "tester/other", "out")
    assert not Path("out").exists()


# The card


def test_the_card_says_where_the_weights_are_from_and_nothing_of_the_machine(tmp_path, capsys, quick):
    source = archive_of(
        folder_of(bert("BertForQuestionAnswering").state_dict(), tmp_path / "in"), tmp_path / "squad.tar.gz"
    )
    lines_of(capsys, source, tmp_path / "spanbert-squad", "--layer_norm_eps", "1e-12")
    card = (tmp_path / "spanbert-squad" / "README.md").read_text(encoding="utf-8")
    assert "spanbert convert squad.tar.gz spanbert-squad --layer_norm_eps 1e-12\n" in card
    assert "* read squad.tar.gz/pytorch_model.bin: " in card and "CC-BY-NC 4.0" in card
    assert "\nlicense:" not in card and "pipeline_tag: question-answering" in card
    for path in (tmp_path / "spanbert-squad").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    record = json.loads((tmp_path / "spanbert-squad" / "results.json").read_text(encoding="utf-8"))
    assert export_module.render_card(record["run"], record["results"]) == card
    export_module.readdress(tmp_path / "spanbert-squad", "org/name")
    assert 'model="org/name"' in (tmp_path / "spanbert-squad" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("head", ["BertModel", "BertForQuestionAnswering", "coref"])
def test_the_snippet_of_the_card_is_run_where_the_package_is_not_before_it_is_written(tmp_path, capsys, head):
    if head == "coref":
        weights = in_coref_hoi(small_model(candidate_boundaries="subword"))
    else:
        weights = bert(head).state_dict()
        if head == "BertModel":
            weights = {key: value for key, value in weights.items() if "pooler" not in key}
    lines_of(capsys, folder_of(weights, tmp_path / "in"), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert record["results"]["example"]["output"] in card
    assert ("in a process that could not import the SpanBERT package" in card) == (head != "coref")
