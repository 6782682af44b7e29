"""SpanBERT (https://arxiv.org/abs/1907.10529) on transformers.

Importing this package registers its classes with transformers' Auto classes; no `trust_remote_code` is needed then.
"""

import transformers

from . import modeling_spanbert
from .configuration_spanbert import AUTO_CLASSES, SIZES, SpanBertConfig
from .coreference_document import DocumentToResolve
from .coreference_resolver import CoreferenceResolver, CoreferenceResult
from .data_collator import DataCollatorForSpanMasking
from .masking import MASKING_SCHEMES
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
from .question_answering import QuestionAnswerer
from .relations import RelationExtractor
from .span_filling import SpanFiller
from .tokenization_spanbert import SpanBertTokenizer


transformers.AutoConfig.register(SpanBertConfig.model_type, SpanBertConfig, exist_ok=True)
SpanBertConfig.register_for_auto_class("AutoConfig")
transformers.AutoTokenizer.register(SpanBertConfig, SpanBertTokenizer, exist_ok=True)
for auto_class, name in AUTO_CLASSES.items():
    model_class = getattr(modeling_spanbert, name)
    getattr(transformers, auto_class).register(SpanBertConfig, model_class, exist_ok=True)
# As `auto_map` says where this package is not installed: by `architectures` of a checkpoint, by default the first.
transformers.AutoModel.register(
    SpanBertConfig, (SpanBertModel, SpanBertForRelationExtraction, SpanBertForCoreference), exist_ok=True
)

__all__ = [
    "MASKING_SCHEMES",
    "SIZES",
    "CoreferenceResolver",
    "CoreferenceResult",
    "DataCollatorForSpanMasking",
    "DocumentToResolve",
    "QuestionAnswerer",
    "RelationExtractor",
    "SpanBertConfig",
    "SpanBertForCoreference",
    "SpanBertForMaskedLM",
    "SpanBertForPreTraining",
    "SpanBertForQuestionAnswering",
    "SpanBertForRelationExtraction",
    "SpanBertForSequenceClassification",
    "SpanBertForTokenClassification",
    "SpanBertModel",
    "SpanBertTokenizer",
    "SpanFiller",
]
