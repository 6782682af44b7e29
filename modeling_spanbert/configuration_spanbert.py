# Copyright 2026 The SpanBERT on Hugging Face authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""SpanBERT configuration: BERT's fields under BERT's names, and what our objectives and heads add."""

import math
from difflib import get_close_matches

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN


OBJECTIVES = ("mlm", "nsp", "sbo")
# How a relation's entities are shown in the sentence (`relations.py` says with an example), and what represents them.
RELATION_INPUTS = (
    "entity_mask",
    "entity_marker",
    "entity_marker_punct",
    "typed_entity_marker",
    "typed_entity_marker_punct",
)
RELATION_POOLINGS = ("cls", "entity_start")
# Where mentions may start and end, and what the coreference head alone reads (the genres are those of OntoNotes).
CANDIDATE_BOUNDARIES = ("word", "subword")
GENRES = ("bc", "bn", "mz", "nw", "pt", "tc", "wb")
COREFERENCE_FIELDS = (
    "max_span_width",
    "top_span_ratio",
    "max_num_spans",
    "max_top_antecedents",
    "max_antecedent_search",
    "coref_depth",
    "candidate_boundaries",
    "restore_brackets",
    "ffnn_size",
    "ffnn_dropout",
    "feature_emb_size",
    "genres",
    "max_segment_length",
    "max_training_sentences",
    "mention_loss_coef",
    "score_block_size",
)

# Heads = hidden / 64 and intermediate = 4 x hidden, as in BERT; base and large are the paper's.
SIZES = {
    name: {
        "num_hidden_layers": num_layers,
        "hidden_size": hidden_size,
        "num_attention_heads": hidden_size // 64,
        "intermediate_size": 4 * hidden_size,
    }
    for name, num_layers, hidden_size in (
        ("tiny", 2, 128),
        ("mini", 4, 256),
        ("small", 4, 512),
        ("base", 12, 768),
        ("large", 24, 1024),
    )
}

# The class that each Auto class opens: written into every saved config, so that every head of a checkpoint opens
# with `trust_remote_code=True`, and registered on import of the package, where no such flag is needed.
AUTO_CLASSES = {
    "AutoModel": "SpanBertModel",
    "AutoModelForPreTraining": "SpanBertForPreTraining",
    "AutoModelForMaskedLM": "SpanBertForMaskedLM",
    "AutoModelForQuestionAnswering": "SpanBertForQuestionAnswering",
    "AutoModelForSequenceClassification": "SpanBertForSequenceClassification",
    "AutoModelForTokenClassification": "SpanBertForTokenClassification",
}
# Heads for which transformers has no Auto class, and their module: AutoModel opens their own checkpoints with them.
AUTO_MODEL_HEADS = {
    "SpanBertForCoreference": "modeling_spanbert_coref",
    "SpanBertForRelationExtraction": "modeling_spanbert",
}


def complete_auto_map(architectures: list[str]) -> dict[str, str]:
    """The code that opens a checkpoint, for every Auto class."""
    auto_map = {"AutoConfig": "configuration_spanbert.SpanBertConfig"}
    auto_map |= {auto_class: f"modeling_spanbert.{name}" for auto_class, name in AUTO_CLASSES.items()}
    for name in architectures:
        if name in AUTO_MODEL_HEADS:
            auto_map["AutoModel"] = f"{AUTO_MODEL_HEADS[name]}.{name}"
    return auto_map


@strict
class SpanBertConfig(PreTrainedConfig):
    r"""Configuration of a SpanBERT model; the defaults are those of `spanbert-base-cased`.

    All fields of `BertConfig` that an encoder uses are here under the same names (`vocab_size`, `hidden_size`,
    `num_hidden_layers`, …), so the configuration of a BERT or of a released SpanBERT checkpoint loads as it is.

    Args:
        objectives (`list[str]`, *optional*, defaults to `["mlm", "sbo"]`):
            What the model is pre-trained on: "mlm" (always), "sbo" (the span boundary objective, Section 3.2) and
            "nsp" (next sentence prediction; needs two-sequence blocks, and brings a pooler).
        span_position_size (`int`, *optional*, defaults to 200):
            Width of the embedding of a token's position in its span (p in Section 3.2).
        max_span_positions (`int`, *optional*, defaults to 20):
            Number of these embeddings. Tokens further inside a span have no SBO target (0.3 % of pairs, in the
            original code, are longer than 20).
        null_score_diff_threshold (`float`, *optional*):
            Of a model for questions that may have no answer (SQuAD 2.0): how much more, in logits, no answer has to
            score than the best one to be given. Found on development data by fine-tuning; None counts as 0.
        relation_input (`str`, *optional*, defaults to `"entity_mask"`):
            For `SpanBertForRelationExtraction`: how the two entities are shown in the sentence, one of
            `RELATION_INPUTS`. The default is the paper's (Section 4.1).
        relation_pooling (`str`, *optional*, defaults to `"cls"`):
            What is classified: "cls" (the pooled [CLS], as in the paper) or "entity_start" (the vectors at which the
            two entities start).
        entity_token_map (`dict[str, str]`, *optional*):
            The token, or for "typed_entity_marker_punct" the words, that stands for each marker and entity type, as
            `{"SUBJ=PERSON": "[unused1]", …}`; see `relations.make_entity_token_map`. It belongs to the weights: with
            another one the types are scrambled.
        max_span_width (`int`, *optional*, defaults to 30):
            For `SpanBertForCoreference`, as all that follow, with the values of the original: pieces in a mention.
        top_span_ratio (`float`, *optional*, defaults to 0.4):
            Mentions that are kept, for each piece of the document.
        max_num_spans (`int`, *optional*, defaults to 3900):
            Mentions that are kept at most, whatever the length. Raise it for books.
        max_top_antecedents (`int`, *optional*, defaults to 50):
            Antecedents of each mention that are scored in full.
        max_antecedent_search (`int`, *optional*):
            How many kept mentions back these are looked for; None: in the whole document.
        coref_depth (`int`, *optional*, defaults to 2):
            How often antecedents are scored; after each time but the last, mentions take in their antecedents.
        candidate_boundaries (`str`, *optional*, defaults to `"word"`):
            Mentions start and end at a "word" boundary. "subword" is the original: at any piece, [CLS] and [SEP] too.
        restore_brackets (`bool`, *optional*, defaults to False):
            Reads "-LRB-" and the like of OntoNotes as the brackets that they stand for, which are what other texts
            have. The original does not: they are five pieces.
        ffnn_size (`int`, *optional*, defaults to 3000), ffnn_dropout (`float`, *optional*, defaults to 0.3):
            Hidden units of the scorers, and the dropout in the head.
        feature_emb_size (`int`, *optional*, defaults to 20):
            Width of the embedding of each feature: width, distance, speaker, genre.
        genres (`list[str]`, *optional*, defaults to those of OntoNotes):
            The kinds of documents, in the order of their embeddings; an unknown one counts as the first.
        max_segment_length (`int`, *optional*, defaults to 384):
            Pieces of a segment, with its [CLS] and [SEP]; less where the encoder takes less. 384 is that of the
            original's best base model, 512 of its large one.
        max_training_sentences (`int`, *optional*, defaults to 3):
            Segments of a document in a training step (the original's name). Segment distances are clipped below it.
        mention_loss_coef (`float`, *optional*, defaults to 0.0):
            Weight of the loss of the mention scores alone. Above 0, mention scores find singletons too.
        score_block_size (`int`, *optional*, defaults to 32):
            Mentions whose antecedents are scored at a time: less takes less memory, and gives the same numbers.

    Raises `StrictDataclassFieldValidationError` for a field of the wrong type and
    `StrictDataclassClassValidationError` for values that cannot make a model.
    """

    model_type = "spanbert"

    vocab_size: int = 28996
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    classifier_dropout: float | int | None = None  # None: hidden_dropout_prob
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True
    objectives: list[str] | None = None
    span_position_size: int = 200
    max_span_positions: int = 20
    null_score_diff_threshold: float | int | None = None
    relation_input: str = "entity_mask"
    relation_pooling: str = "cls"
    entity_token_map: dict[str, str] | None = None
    max_span_width: int = 30
    top_span_ratio: float | int = 0.4
    max_num_spans: int = 3900
    max_top_antecedents: int = 50
    max_antecedent_search: int | None = None
    coref_depth: int = 2
    candidate_boundaries: str = "word"
    restore_brackets: bool = False
    ffnn_size: int = 3000
    ffnn_dropout: float | int = 0.3
    feature_emb_size: int = 20
    genres: list[str] | None = None
    max_segment_length: int = 384
    max_training_sentences: int = 3
    mention_loss_coef: float | int = 0.0
    score_block_size: int = 32

    def __post_init__(self, **kwargs):
        if self.objectives is None:
            self.objectives = ["mlm", "sbo"]
        if self.genres is None:
            self.genres = list(GENRES)
        if self.architectures is None:  # AutoModel, which has several classes for this config, looks through them
            self.architectures = []
        super().__post_init__(**kwargs)
        # Always that of the folder it is saved to: a copy with `repo--` before its names would tie a re-saved
        # checkpoint to the code of another repository.
        self.auto_map = complete_auto_map(self.architectures)

        # The package has registered its pipeline itself. A repository that names its copy would be opened only with
        # `trust_remote_code`, and `model.save_pretrained` would go on naming it without bringing the file along.
        if not __name__.startswith("transformers_modules."):
            getattr(self, "custom_pipelines", {}).pop("span-question-answering", None)

    def save_pretrained(self, *args, **kwargs):
        # Again: by now `architectures` is that of the model, which may be another head than the config came with.
        self.auto_map = complete_auto_map(self.architectures)
        super().save_pretrained(*args, **kwargs)

    def to_diff_dict(self) -> dict:
        """What is written to config.json: the fields of the coreference head only by its own checkpoints.

        Where they differ from the defaults others write them too.
        """
        fields = super().to_diff_dict()
        if "SpanBertForCoreference" not in (self.architectures or ()):
            default = type(self)()
            for name in COREFERENCE_FIELDS:
                if fields.get(name) == getattr(default, name):
                    fields.pop(name, None)
        return fields

    def validate_objectives(self):
        unknown = [objective for objective in self.objectives if objective not in OBJECTIVES]
        if unknown:
            raise ValueError(f"unknown objectives {unknown}; known: {', '.join(OBJECTIVES)}")
        if "mlm" not in self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError(f"objectives={self.objectives}: expected 'mlm' and, each at most once, 'nsp' and 'sbo'")

    def validate_relations(self):
        for name, known in (("relation_input", RELATION_INPUTS), ("relation_pooling", RELATION_POOLINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")

    def validate_coreference(self):
        if self.candidate_boundaries not in CANDIDATE_BOUNDARIES:
            known = ", ".join(CANDIDATE_BOUNDARIES)
            raise ValueError(f"unknown candidate_boundaries {self.candidate_boundaries!r}; known: {known}")
        if not self.genres or len(set(self.genres)) != len(self.genres):
            raise ValueError(f"genres={self.genres}: expected at least one, each once")
        if not 0 < self.top_span_ratio < math.inf:
            raise ValueError(f"top_span_ratio={self.top_span_ratio}: expected a positive number")
        if not 0 <= self.mention_loss_coef < math.inf:
            raise ValueError(f"mention_loss_coef={self.mention_loss_coef}: expected 0 or a positive number")
        if self.max_segment_length < 3:
            raise ValueError(
                f"max_segment_length={self.max_segment_length}: expected at least 3, for [CLS] and [SEP] too"
            )
        if self.max_antecedent_search is not None and self.max_antecedent_search < 1:
            raise ValueError(f"max_antecedent_search={self.max_antecedent_search}: expected at least 1, or None")

    def validate_sizes(self):
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
            "span_position_size",
            "max_span_positions",
            "max_span_width",
            "max_num_spans",
            "max_top_antecedents",
            "coref_depth",
            "ffnn_size",
            "feature_emb_size",
            "max_training_sentences",
            "score_block_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 1")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}"
            )

    def validate_probabilities(self):
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "ffnn_dropout"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a probability, 0 to 1")

    def validate_scales(self):
        for name in ("layer_norm_eps", "initializer_range"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected a positive number")

    def validate_threshold(self):
        if not math.isfinite(self.null_score_diff_threshold or 0):
            raise ValueError(f"null_score_diff_threshold={self.null_score_diff_threshold}: expected a finite number")

    def validate_activation(self):
        if self.hidden_act not in ACT2FN:
            closest = get_close_matches(self.hidden_act, ACT2FN, n=1) or ["gelu"]
            raise ValueError(f"unknown hidden_act '{self.hidden_act}'; closest: {closest[0]}")


__all__ = ["SpanBertConfig"]
