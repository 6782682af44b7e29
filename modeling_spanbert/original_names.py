"""The names that other programs gave to SpanBERT's parameters, and what parameters tell of a configuration.

They are those of the original program (fairseq), of its fine-tuning scripts and of transformers, and, for coreference,
of coref-hoi (https://github.com/lxucs/coref-hoi), a PyTorch port of the original's TensorFlow model.
"""

import re

import torch

from .configuration_spanbert import GENRES
from .modeling_spanbert import (
    SpanBertForMaskedLM,
    SpanBertForPreTraining,
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
    SpanBertForSequenceClassification,
    SpanBertForTokenClassification,
    SpanBertModel,
)
from .modeling_spanbert_coref import SpanBertForCoreference


EXPECTED = "expected a fairseq checkpoint, model.pt, pytorch_model.bin or .safetensors of SpanBERT or coref-hoi"
ENCODER = ("embeddings", "encoder", "pooler")  # what the keys of an encoder without prefix start with
BOUNDARY_HEAD = {
    "pair_target_predictions.position_embeddings": "span_boundary.span_position_embeddings",
    "pair_target_predictions.mlp_layer_norm.linear": "span_boundary.dense",
    "pair_target_predictions.mlp_layer_norm.layer_norm": "span_boundary.norm",
    "pair_target_predictions": "span_boundary",
}
# Modules of coref-hoi, and ours inside of `coreference`.
COREFERENCE_HEAD = {
    "emb_span_width": "mentions.width_embeddings",
    "emb_span_width_prior": "mentions.width_prior_embeddings",
    "mention_token_attn": "mentions.attention",
    "span_emb_score_ffnn.0": "mentions.scorer.hidden",
    "span_emb_score_ffnn.3": "mentions.scorer.output",
    "span_width_score_ffnn.0": "mentions.width_prior_scorer.hidden",
    "span_width_score_ffnn.3": "mentions.width_prior_scorer.output",
    "coarse_bilinear": "antecedents.coarse",
    "emb_antecedent_distance_prior": "antecedents.distance_prior_embeddings",
    "antecedent_distance_score_ffnn": "antecedents.distance_prior",
    "emb_same_speaker": "antecedents.speaker_embeddings",
    "emb_genre": "antecedents.genre_embeddings",
    "emb_segment_distance": "antecedents.segment_distance_embeddings",
    "emb_top_antecedent_distance": "antecedents.distance_embeddings",
    "coref_score_ffnn.0": "antecedents.scorer.hidden",
    "coref_score_ffnn.3": "antecedents.scorer.output",
    "gate_ffnn": "antecedents.gate",
}
# What the parameters of each head start with, a pooler aside, under our names.
HEADS = {
    SpanBertForPreTraining: "cls.",
    SpanBertForQuestionAnswering: "qa_outputs.",
    SpanBertForSequenceClassification: "classifier.",
    SpanBertForCoreference: "coreference.",
}
# What each class has beside the encoder.
PARTS = {
    SpanBertForMaskedLM: ("cls.predictions",),
    SpanBertForPreTraining: ("cls.predictions", "cls.span_boundary"),
    SpanBertForQuestionAnswering: ("qa_outputs",),
    SpanBertForSequenceClassification: ("bert.pooler", "classifier"),
    SpanBertForTokenClassification: ("classifier",),
    SpanBertForRelationExtraction: ("bert.pooler", "classifier"),
    SpanBertForCoreference: ("coreference",),
}
POOLED = (SpanBertForSequenceClassification, SpanBertForRelationExtraction)


def our_name(key: str) -> str:
    """Our name of a parameter of theirs."""
    name = key.removeprefix("decoder.")
    if name.split(".")[0] in ENCODER:
        name = f"bert.{name}"
    name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
    if name.startswith("cls.pair_target_predictions."):
        for theirs, ours in BOUNDARY_HEAD.items():
            name = name.replace(theirs, ours)
    module, _, parameter = name.rpartition(".")
    if module in COREFERENCE_HEAD:
        name = f"coreference.{COREFERENCE_HEAD[module]}.{parameter}"
    return name


def class_of(names: set[str], architectures: list[str]) -> type:
    """The class whose parameters `names`, ours, are; `architectures` of a config.json tells what they leave open.

    A classifier with a pooler is of sequences, one without of tokens. Raises ValueError for two heads.
    """
    found = [model for model, prefix in HEADS.items() if any(name.startswith(prefix) for name in names)]
    if len(found) > 1:
        raise ValueError(f"it has the heads {' and '.join(HEADS[model] for model in found)}; expected one of them")
    if found != [SpanBertForSequenceClassification]:
        return found[0] if found else SpanBertModel
    for model in (*POOLED, SpanBertForTokenClassification):
        if any(str(name).endswith(model.__name__.removeprefix("Span")) for name in architectures):
            return model
    has_pooler = any(name.startswith("bert.pooler.") for name in names)
    return SpanBertForSequenceClassification if has_pooler else SpanBertForTokenClassification


def new_heads(model_class: type, names: set[str]) -> str:
    """What each class would start from random weights, of a checkpoint of `model_class` with parameters `names`."""
    names = {f"bert.{name}" for name in names} if model_class is SpanBertModel else names
    new = []
    for other, parts in PARTS.items():
        # The labels of another task are other ones, whatever the shape.
        missing = [
            part
            for part in parts
            if not any(name.startswith(f"{part}.") for name in names)
            or (part == "classifier" and other is not model_class)
        ]
        if missing:
            new.append(f"{other.__name__} ({', '.join(missing)})")
    return "; ".join(new)


def sizes(weights: dict[str, torch.Tensor], model_class: type) -> dict:
    """What the shapes and the names of all parameters, ours, tell of the configuration.

    Raises ValueError for a matrix that is missing or none.
    """

    def shape(name: str) -> torch.Size:
        if name not in weights:
            raise ValueError(f"{name} is missing; {EXPECTED}")
        if weights[name].dim() != 2:
            raise ValueError(f"{name} is {tuple(weights[name].shape)}, expected two dimensions")
        return weights[name].shape

    embeddings = "bert.embeddings.{}_embeddings.weight"
    layers = {match[1] for name in weights if (match := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))}
    fields = {
        "vocab_size": shape(embeddings.format("word"))[0],
        "hidden_size": shape(embeddings.format("word"))[1],
        "max_position_embeddings": shape(embeddings.format("position"))[0],
        "type_vocab_size": shape(embeddings.format("token_type"))[0],
        "num_hidden_layers": len(layers),
        "intermediate_size": shape("bert.encoder.layer.0.intermediate.dense.weight")[0],
        "num_attention_heads": shape(embeddings.format("word"))[1] // 64,
    }
    if model_class is SpanBertForCoreference:
        fields |= coreference_sizes(shape, "coreference.antecedents.gate.weight" in weights)
    elif any(name.startswith("classifier.") for name in weights):
        fields["num_labels"] = shape("classifier.weight")[0]
    elif model_class in (SpanBertForPreTraining, SpanBertModel):
        fields |= objective_sizes(shape, weights, model_class)
    return fields


def objective_sizes(shape, weights: dict[str, torch.Tensor], model_class: type) -> dict:
    """What the model was pre-trained on, and the boundary head's own sizes."""
    fields, objectives = {}, ["mlm"]
    has_boundary_head = any(name.startswith("cls.span_boundary.") for name in weights)
    if has_boundary_head:
        positions = shape("cls.span_boundary.span_position_embeddings.weight")
        fields = {"max_span_positions": positions[0], "span_position_size": positions[1]}
    if any(name.startswith(("bert.pooler.", "cls.seq_relationship.")) for name in weights):
        objectives.append("nsp")
    # Of an encoder alone nothing tells; what a SpanBERT is trained on, then.
    if has_boundary_head or model_class is SpanBertModel:
        objectives.append("sbo")
    return fields | {"objectives": objectives}


def coreference_sizes(shape, has_gate: bool) -> dict:
    """The sizes of a coreference head, whose candidates start and end at any piece in all programs but ours.

    How often mentions take in their antecedents no shape tells; with a gate, once, as in the original.
    """
    widths = shape("coreference.mentions.width_embeddings.weight")
    num_genres = shape("coreference.antecedents.genre_embeddings.weight")[0]
    return {
        "max_span_width": widths[0],
        "feature_emb_size": widths[1],
        "ffnn_size": shape("coreference.mentions.scorer.hidden.weight")[0],
        "max_training_sentences": shape("coreference.antecedents.segment_distance_embeddings.weight")[0],
        "genres": list(GENRES) if num_genres == len(GENRES) else [f"genre_{i}" for i in range(num_genres)],
        "coref_depth": 2 if has_gate else 1,
        "candidate_boundaries": "subword",
    }


def left_out(name: str, model_class: type) -> bool:
    """Whether a parameter, by our name, has no use in ours: a pooler that no head reads, a buffer of positions."""
    without_pooler = model_class not in (*POOLED, SpanBertForPreTraining, SpanBertModel)
    return name.endswith("embeddings.position_ids") or (without_pooler and name.startswith("bert.pooler."))
