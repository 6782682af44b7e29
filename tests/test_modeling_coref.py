"""The coreference head: the original's numbers, the naive computation's gradients, exact losses, bounded memory."""

import json

import pytest
import torch
import transformers
from helpers import testdata_file, tiny_config, tiny_tokenizer
from huggingface_hub.errors import StrictDataclassError
from naive_coreference import naive_head

import modeling_spanbert
from modeling_spanbert import SpanBertConfig, SpanBertForCoreference, SpanBertForPreTraining, SpanBertModel
from modeling_spanbert.configuration_spanbert import AUTO_CLASSES, COREFERENCE_FIELDS
from modeling_spanbert.export import probe_batch, verify, verify_remote_code
from modeling_spanbert.modeling_spanbert_coref import (
    Document,
    Mentions,
    SpanBertCoreferenceHead,
    antecedent_loss,
    candidate_spans,
    distance_bucket,
    gold_clusters,
    mention_loss,
    select_spans,
)
from modeling_spanbert.original_names import COREFERENCE_HEAD


SMALL_HEAD = {"max_span_width": 6, "ffnn_size": 16, "feature_emb_size": 4, "max_top_antecedents": 5}


def head_config(**fields) -> SpanBertConfig:
    defaults = {"hidden_size": 8, "score_block_size": 3, "ffnn_dropout": 0.0, "candidate_boundaries": "subword"}
    return tiny_config(**(defaults | SMALL_HEAD | fields))


def make_head(**fields) -> SpanBertCoreferenceHead:
    """In double precision, with weights that tell mentions and pairs apart."""
    torch.manual_seed(0)
    head = SpanBertCoreferenceHead(head_config(**fields)).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return head


def make_document(
    num_pieces: int, seed: int = 0, num_sentences: int = 4, hidden_size: int = 8, words=False
) -> Document:
    generator = torch.Generator().manual_seed(seed)

    def numbers(steps: int) -> torch.Tensor:
        """Numbers that rise from 0 at random places."""
        return torch.randint(steps, (num_pieces,), generator=generator).sort().values

    word = numbers(max(num_pieces // 2, 1)).unique(return_inverse=True)[1]
    special = torch.rand(num_pieces, generator=generator) < 0.1
    return Document(
        pieces=torch.randn(num_pieces, hidden_size, generator=generator, dtype=torch.double),
        segment=numbers(6),
        sentence=numbers(num_sentences),
        speaker=torch.randint(3, (num_pieces,), generator=generator),
        word=word.masked_fill(special, -1) if words else None,
        genre=torch.tensor(seed % 7),
    )


def pairs(mentions: Mentions) -> dict[tuple[int, int], float]:
    """The score of each pair (mention, antecedent)."""
    scored = zip(mentions.antecedents.tolist(), mentions.antecedent_scores.tolist(), strict=True)
    return {
        (i, j): score
        for i, (others, scores) in enumerate(scored)
        for j, score in zip(others, scores, strict=True)
        if j >= 0
    }


def small_model(**fields) -> SpanBertForCoreference:
    torch.manual_seed(0)
    fields = {"initializer_range": 0.2, "ffnn_dropout": 0.0, "hidden_dropout_prob": 0.0} | SMALL_HEAD | fields
    return SpanBertForCoreference(tiny_config(attention_probs_dropout_prob=0.0, **fields))


def small_batch(num_documents: int = 3) -> dict[str, torch.Tensor]:
    """Documents of 1, 2, 3, … segments of up to 12 pieces, with two clusters each."""
    generator = torch.Generator().manual_seed(0)
    document_index = torch.arange(num_documents).repeat_interleave(torch.arange(1, num_documents + 1))
    shape = (len(document_index), 12)
    attention_mask = torch.ones(shape, dtype=torch.long)
    attention_mask[1::2, 9:] = 0
    words = torch.arange(12).expand(shape) + 12 * torch.arange(shape[0])[:, None]
    words = words.masked_fill((torch.arange(12) == 0) | (torch.arange(12) == attention_mask.sum(1)[:, None] - 1), -1)
    return {
        "input_ids": torch.randint(5, 100, shape, generator=generator),
        "attention_mask": attention_mask,
        "sentence_map": torch.arange(12).expand(shape) // 6 + 2 * torch.arange(shape[0])[:, None],
        "word_map": words,
        "speaker_ids": torch.randint(3, shape, generator=generator),
        "genre_ids": torch.arange(num_documents) % 7,
        "document_index": document_index,
        "gold_starts": torch.tensor([[1, 2, 4, 6, 7]] * num_documents),
        "gold_ends": torch.tensor([[1, 3, 4, 6, 7]] * num_documents),
        "gold_cluster_ids": torch.tensor([[0, 0, 1, 0, 1]] * num_documents),
    }


def one_document(batch: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    per_document = {"genre_ids", "gold_starts", "gold_ends", "gold_cluster_ids"}
    rows = batch["document_index"] == number
    picked = {k: v[number : number + 1] if k in per_document else v[rows] for k, v in batch.items()}
    return picked | {"document_index": torch.zeros(int(rows.sum()), dtype=torch.long)}


# The original's numbers


def vector_cases() -> list[dict]:
    return json.loads(testdata_file("coref", "head_forward.json").read_text(encoding="utf-8"))["cases"]


def vector_model(case: dict, **fields) -> SpanBertForCoreference:
    config = tiny_config(**case["config"], candidate_boundaries="subword", **fields)
    model = SpanBertForCoreference(config).eval()
    weights = {}
    for name, values in case["weights"].items():
        module, _, kind = name.rpartition(".")
        weights[f"{COREFERENCE_HEAD[module]}.{kind}"] = torch.tensor(values)
    model.coreference.load_state_dict(weights)
    return model


def vector_document(case: dict) -> Document:
    inputs = case["inputs"]
    mask = torch.tensor(inputs["mask"]).bool()  # (S, L)
    return Document(
        pieces=torch.tensor(inputs["embeddings"])[mask],
        segment=torch.arange(len(mask))[:, None].expand_as(mask)[mask],
        sentence=torch.tensor(inputs["sentence_map"]),
        speaker=torch.tensor(inputs["speaker_ids"])[mask],
        word=None,
        genre=torch.tensor(inputs["genre"]),
    )


@pytest.mark.parametrize("computed", ["in blocks", "naively"])
def test_head_gives_the_numbers_of_the_original(computed):
    for case in vector_cases():
        model, document, expected = vector_model(case), vector_document(case), case["expected"]
        head = model.coreference
        with torch.no_grad():
            allowed = candidate_spans(document.sentence, None, head.config.max_span_width)
            candidate_scores = head.mentions(document.pieces, allowed)
            mentions = head(document) if computed == "in blocks" else naive_head(head, document)
        start, width = allowed.nonzero(as_tuple=True)
        assert torch.stack([start, start + width], 1).tolist() == expected["candidates"]
        assert candidate_scores.tolist() == pytest.approx(expected["mention_scores"], abs=2e-4)
        assert torch.stack([mentions.start, mentions.end], 1).tolist() == expected["top_spans"]
        theirs = {(i, j): score for i, row in enumerate(expected["antecedent_scores"]) for j, score in row}
        assert pairs(mentions) == pytest.approx(theirs, abs=2e-4)


def test_model_gives_the_loss_of_the_original(monkeypatch):
    for case in vector_cases():
        model, inputs = vector_model(case), case["inputs"]
        embeddings, mask = torch.tensor(inputs["embeddings"]), torch.tensor(inputs["mask"])
        sentence_map = torch.zeros_like(mask)
        sentence_map[mask.bool()] = torch.tensor(inputs["sentence_map"])
        monkeypatch.setattr(model, "_encode", lambda *args, embeddings=embeddings, **kwargs: embeddings)
        output = model(
            torch.ones_like(mask),
            attention_mask=mask,
            sentence_map=sentence_map,
            speaker_ids=torch.tensor(inputs["speaker_ids"]),
            genre_ids=torch.tensor([inputs["genre"]]),
            **{name: torch.tensor(inputs[name]) for name in ("gold_starts", "gold_ends", "gold_cluster_ids")},
        )
        assert output.loss.item() == pytest.approx(case["expected"]["loss"], abs=2e-4)
        assert torch.stack([output.mention_starts, output.mention_ends], 1).tolist() == case["expected"]["top_spans"]


def test_spans_are_pruned_as_by_the_original():
    vectors = json.loads(testdata_file("coref", "decoding.json").read_text(encoding="utf-8"))
    for case in vectors["pruning"]:
        allowed = candidate_spans(torch.zeros(case["n_tokens"], dtype=torch.long), None, case["max_span_width"])
        start, width = allowed.nonzero(as_tuple=True)
        kept = select_spans(start, start + width, torch.tensor(case["scores"]), case["k"])
        assert torch.stack([start[kept], (start + width)[kept]], 1).tolist() == case["selected"]


def test_distances_fall_into_ten_buckets():
    buckets = json.loads(testdata_file("coref", "decoding.json").read_text(encoding="utf-8"))["distance_buckets"]
    assert distance_bucket(torch.tensor([int(distance) for distance in buckets])).tolist() == list(buckets.values())


# The naive computation's numbers and gradients


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("coref_depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("num_pieces", "num_sentences"), [(1, 1), (2, 1), (3, 2), (5, 1), (12, 12), (40, 1), (70, 5), (150, 9)]
)
def test_blocks_and_naive_computation_agree_in_scores_and_gradients(num_pieces, num_sentences, coref_depth, words):
    head = make_head(coref_depth=coref_depth, mention_loss_coef=0.5).train()
    gold = torch.randint(0, num_pieces, (3, 10), generator=torch.Generator().manual_seed(num_pieces)).sort(0).values
    losses, gradients, found = [], [], []
    for computed in (head, lambda document: naive_head(head, document)):
        document = make_document(num_pieces, num_pieces, num_sentences, words=words)
        document.pieces.requires_grad_()
        mentions = computed(document)
        cluster = gold_clusters(mentions, gold[0], gold[1], gold[2] % 3)
        loss = antecedent_loss(mentions, cluster) + mention_loss(mentions, cluster)
        head.zero_grad()
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in head.named_parameters()} | {"pieces": document.pieces.grad})
        found.append(mentions)
    assert torch.equal(found[0].start, found[1].start) and torch.equal(found[0].end, found[1].end)
    assert torch.allclose(found[0].score, found[1].score)
    assert pairs(found[0]) == pytest.approx(pairs(found[1]), rel=1e-9)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, gradient in gradients[0].items():
        assert gradient is not None, f"{name} is in no graph, as DDP needs"
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-6, atol=1e-8), name


@pytest.mark.parametrize("fields", [{"max_antecedent_search": 4}, {"max_num_spans": 7}, {"top_span_ratio": 0.9}])
def test_bounds_mean_the_same_to_the_naive_computation(fields):
    head = make_head(**fields)
    mentions, naive = head(make_document(60)), naive_head(head, make_document(60))
    assert pairs(mentions) == pytest.approx(pairs(naive))
    if "max_antecedent_search" in fields:
        assert {i - j for i, j in pairs(mentions)} == {1, 2, 3, 4}
    if "max_num_spans" in fields:
        assert len(mentions.start) == 7


@pytest.mark.parametrize("score_block_size", [1, 2, 7, 100])
def test_the_size_of_blocks_changes_no_number(score_block_size):
    document = make_document(80)
    expected = make_head()(document)
    mentions = make_head(score_block_size=score_block_size)(document)
    assert torch.equal(mentions.start, expected.start) and pairs(mentions) == pytest.approx(pairs(expected), rel=1e-9)


def test_a_document_without_candidates_has_no_mentions():
    head = make_head(candidate_boundaries="word")
    document = make_document(9)._replace(word=torch.full((9,), -1))
    mentions = head(document)
    assert len(mentions.start) == 0 and mentions.antecedents.shape == (0, 0)
    assert antecedent_loss(mentions, mentions.start) == 0


def test_dropout_of_a_block_is_the_same_when_it_is_computed_again():
    head = make_head(ffnn_dropout=0.3).train()
    document = make_document(50)
    values = [document.pieces.clone().requires_grad_() for _ in range(2)]
    step = 1e-5
    torch.manual_seed(1)
    mentions = head(document._replace(pieces=values[0]))
    clusters = torch.zeros_like(mentions.start)
    antecedent_loss(mentions, clusters).backward()
    direction = values[0].grad / values[0].grad.norm()
    losses = []
    for sign in (1, -1):
        torch.manual_seed(1)
        moved = head(document._replace(pieces=document.pieces + sign * step * direction))
        losses.append(antecedent_loss(moved, clusters).item())
    # In float32 sums, whose rounding a step of 1e-5 makes 100 times larger.
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(values[0].grad.norm().item(), rel=0.05)


# Candidates


def test_candidates_are_inside_of_a_sentence_and_no_wider_than_allowed():
    allowed = candidate_spans(torch.tensor([0, 0, 0, 1]), None, max_span_width=2)
    assert allowed.tolist() == [[True, True], [True, True], [True, False], [True, False]]


def test_candidates_start_and_end_with_a_word():
    #         [CLS] a  ##b  c [SEP] [CLS] ##d  e [SEP]   the word c ##d is cut between two segments
    word = torch.tensor([-1, 0, 0, 1, -1, -1, 1, 2, -1])
    allowed = candidate_spans(torch.zeros(9, dtype=torch.long), word, max_span_width=7)
    start, width = allowed.nonzero(as_tuple=True)
    spans = list(zip(start.tolist(), (start + width).tolist(), strict=True))
    assert spans == [(1, 2), (1, 6), (1, 7), (3, 6), (3, 7), (7, 7)]


def test_spans_that_cross_a_better_one_are_skipped_and_nested_ones_kept():
    start, end = torch.tensor([0, 1, 1, 2, 4]), torch.tensor([2, 3, 1, 2, 5])
    score = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1])
    assert select_spans(start, end, score, 4).tolist() == [0, 2, 3, 4]
    assert select_spans(start, end, score, 2).tolist() == [0, 2]
    assert select_spans(start[1:2], end[1:2], score[1:2], 5).tolist() == [0]  # fewer, none twice


def test_given_spans_are_the_mentions_whatever_they_score_and_wherever_they_cross():
    head, document = make_head(top_span_ratio=0.1), make_document(30, words=True)
    spans = [(0, 1), (1, 3), (2, 2), (9, 14)]
    given = torch.zeros(30, head.config.max_span_width, dtype=torch.bool)
    for start, end in spans:
        given[start, end - start] = True
    mentions = head(document, given)
    assert list(zip(mentions.start.tolist(), mentions.end.tolist(), strict=True)) == spans
    assert len(pairs(mentions)) == 6


# Losses


def test_the_loss_by_hand():
    """Three mentions; 0 and 2 are one cluster. P(2 -> 0) = e^1 / (e^0 + e^1 + e^2)."""
    mentions = Mentions(
        start=torch.tensor([0, 2, 4]),
        end=torch.tensor([0, 3, 4]),
        score=torch.tensor([1.0, -1.0, 0.0]),
        antecedents=torch.tensor([[-1, -1], [0, -1], [1, 0]]),
        antecedent_scores=torch.tensor([[-torch.inf, -torch.inf], [3.0, -torch.inf], [2.0, 1.0]]),
    )
    gold = [torch.tensor(values) for values in ([4, 0, 7, -1], [4, 0, 9, -1], [5, 5, 5, -1])]
    cluster = gold_clusters(mentions, *gold)
    assert cluster.tolist() == [5, -1, 5]
    e = torch.e
    by_hand = -torch.tensor([1 / (1 + e**3), e / (1 + e + e**2)]).log().sum()
    assert antecedent_loss(mentions, cluster).item() == pytest.approx(by_hand.item(), rel=1e-6)
    by_hand = -torch.tensor([1, 1, 0.0]).sigmoid().log().sum()
    assert mention_loss(mentions, cluster).item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_a_batch_is_its_documents_one_by_one():
    model, batch = small_model(mention_loss_coef=0.5).eval(), small_batch()
    with torch.no_grad():
        output = model(**batch)
        alone = [model(**one_document(batch, number)) for number in range(3)]
    assert output.loss.item() == pytest.approx(sum(each.loss.item() for each in alone) / 3, rel=1e-5)
    before = 0
    for number, each in enumerate(alone):
        rows = output.document_index == number
        assert output.mention_starts[rows].tolist() == each.mention_starts.tolist()
        width = each.antecedent_index.shape[1]
        found = output.antecedent_index[rows]
        assert torch.where(found < 0, -1, found - before)[:, :width].tolist() == each.antecedent_index.tolist()
        assert torch.allclose(output.antecedent_scores[rows][:, :width], each.antecedent_scores, atol=1e-4)
        before += len(each.mention_starts)
    assert before == len(output.mention_starts)


def test_accumulation_equals_one_big_batch():
    model, batch = small_model().train(), small_batch()
    model(**batch).loss.backward()
    whole = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for number in range(3):
        model(**one_document(batch, number), num_items_in_batch=torch.tensor(3)).loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, whole[name], rtol=1e-3, atol=1e-5), name


def test_one_document_is_learnt_by_heart():
    # All candidates are kept: a mention that is not would be forgotten, not learnt.
    fields = {"initializer_range": 0.02, "top_span_ratio": 1, "max_span_width": 1, "max_top_antecedents": 50}
    model, batch = small_model(**fields).train(), one_document(small_batch(), 2)
    batch["gold_ends"] = batch["gold_starts"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    with torch.no_grad():
        output = model.eval()(**batch)
    linked = {}
    for i, (best, j) in enumerate(zip(*[v.tolist() for v in output.antecedent_scores.max(-1)], strict=True)):
        if best > 0:
            linked[int(output.mention_starts[i])] = int(output.mention_starts[output.antecedent_index[i, j]])
    assert linked.keys() == {2, 6, 7} and linked[2] == 1 and linked[6] in (1, 2) and linked[7] == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_finite_losses(dtype):
    model = small_model(initializer_range=0.05).eval().to(dtype)
    with torch.no_grad():
        output = model(**small_batch())
    assert output.loss.isfinite() and output.loss.dtype == torch.float32


def test_it_trains_under_autocast():
    model = small_model(initializer_range=0.05, ffnn_dropout=0.3, mention_loss_coef=0.5).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**small_batch()).loss
    loss.backward()
    assert loss.dtype == torch.float32 and all(p.grad.isfinite().all() for p in model.parameters())


def test_long_documents_are_encoded_some_segments_at_a_time(monkeypatch):
    model, batch = small_model().eval(), small_batch(5)  # 15 segments
    with torch.no_grad():
        in_parts = model(**batch)
    at_once = model(**batch)
    assert torch.allclose(in_parts.loss, at_once.loss, rtol=1e-5)
    assert torch.equal(in_parts.mention_starts, at_once.mention_starts)


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"word_map": None}, "needs word_map"),
        ({"sentence_map": None}, "expected sentence_map"),
        ({"gold_starts": [0] * 3, "gold_ends": [0] * 3, "gold_cluster_ids": [0] * 3}, r"one shape \(3, M\)"),
        ({"gold_ends": None}, "all of gold_starts, gold_ends and gold_cluster_ids, or none"),
        (
            {"gold_ends": [[1, 2]]},
            r"gold mentions of shapes \(3, 5\), \(1, 2\), \(3, 5\): expected one shape \(3, M\)",
        ),
        ({"speaker_ids": [[0] * 11] * 6}, r"of shape \(6, 11\): expected \(6, 12\), as input_ids"),
        ({"document_index": [0, 1]}, r"document_index of shape \(2,\): expected \(6,\)"),
        ({"document_index": [0, 1, 1, 2, 2, 3]}, "document_index 3: expected 0 to 2"),
        ({"document_index": [0, -1, 1, 2, 2, 2]}, "document_index -1: expected 0 to 2"),
        ({"document_index": [0, 0, 0, 2, 2, 2]}, "document 1 has no pieces"),
    ],
)
def test_inputs_that_cannot_be_right_are_refused_in_one_line(change, message):
    batch = small_batch() | {k: None if v is None else torch.tensor(v) for k, v in change.items()}
    with pytest.raises(ValueError, match=message) as error:
        small_model()(**batch)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"candidate_boundaries": "piece"}, "unknown candidate_boundaries 'piece'; known: word, subword"),
        ({"top_span_ratio": 0}, "top_span_ratio=0: expected a positive number"),
        ({"mention_loss_coef": -1}, "mention_loss_coef=-1: expected 0 or a positive number"),
        ({"max_antecedent_search": 0}, "max_antecedent_search=0: expected at least 1, or None"),
        ({"coref_depth": 0}, "coref_depth=0: expected at least 1"),
        ({"ffnn_dropout": 1.5}, "ffnn_dropout=1.5: expected a probability"),
        ({"genres": ["nw", "nw"]}, r"genres=\['nw', 'nw'\]: expected at least one, each once"),
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        SpanBertConfig(**fields)


# Sharing


def test_a_checkpoint_reads_back_and_brings_its_code(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    verify(model, tmp_path)
    assert (tmp_path / "modeling_spanbert_coref.py").is_file()
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert saved["auto_map"]["AutoModel"] == "modeling_spanbert_coref.SpanBertForCoreference"
    assert saved.keys() >= set(COREFERENCE_FIELDS)


def test_the_probe_of_an_export_has_mentions_and_antecedents():
    model = small_model().eval()
    with torch.no_grad():
        output = model(**probe_batch(model))
    assert (output.antecedent_index >= 0).any()


@pytest.mark.parametrize(("auto_class", "name"), AUTO_CLASSES.items())
def test_every_auto_class_opens_a_checkpoint(auto_class, name, tmp_path):
    small_model().save_pretrained(tmp_path)
    model = getattr(transformers, auto_class).from_pretrained(tmp_path)
    name = "SpanBertForCoreference" if auto_class == "AutoModel" else name
    assert type(model) is getattr(modeling_spanbert, name)


def test_only_its_own_checkpoints_write_the_fields_of_the_head(tmp_path):
    SpanBertModel(tiny_config()).save_pretrained(tmp_path)
    assert not json.loads((tmp_path / "config.json").read_text(encoding="utf-8")).keys() & set(COREFERENCE_FIELDS)
    SpanBertModel(tiny_config(coref_depth=3)).save_pretrained(tmp_path)
    assert SpanBertConfig.from_pretrained(tmp_path).coref_depth == 3


def test_it_starts_from_a_pre_training_checkpoint(tmp_path):
    pretrained = SpanBertForPreTraining(tiny_config())
    pretrained.save_pretrained(tmp_path)
    model, info = SpanBertForCoreference.from_pretrained(tmp_path, output_loading_info=True, **SMALL_HEAD)
    assert all(key.startswith("coreference.") for key in info["missing_keys"]) and not info["unexpected_keys"]
    assert torch.equal(model.get_input_embeddings().weight, pretrained.get_input_embeddings().weight)


@pytest.mark.slow
def test_it_opens_without_the_package(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    verify_remote_code(tmp_path, model)  # AutoModel's outputs are compared
