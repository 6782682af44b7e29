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
"""PyTorch SpanBERT (https://arxiv.org/abs/1907.10529).

The encoder is BERT's, with BERT's module names: any BERT or SpanBERT checkpoint loads, and plain `Bert*` classes read
ours. SpanBERT changes which tokens are masked (by the data collator) and adds the span boundary objective (here).

Shapes: B rows, T tokens, H hidden size, A attention heads, V vocabulary, N masked tokens in the whole batch. A packed
row holds several sequences; `sequence_ids` (B, T) numbers them 1, 2, …, with 0 for padding.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask, packed_sequence_mask_function
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_spanbert import AUTO_CLASSES, SpanBertConfig
from .dropout import SpanBertDropout, dropout_product
from .unpadding import real_tokens
from .vocabulary_loss import vocabulary_losses


# The bound of the original's `--clamp-attention`: scores of the large model pass fp16's range, and inf - inf is NaN.
MAX_FP16_ATTENTION_SCORE = 1e4


class SpanBertEmbeddings(nn.Module):
    """Sum of word, position and token type embeddings, normalised."""

    def __init__(self, config: SpanBertConfig):
        super().__init__()
        # No padding_idx: the original initialises the row of [PAD] like any other, and attention never reads it.
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = SpanBertDropout(config.hidden_dropout_prob)

    def forward(self, input_ids, token_type_ids, position_ids, inputs_embeds) -> torch.Tensor:
        """Embeddings (B, T, H) of `input_ids` (B, T), or of `inputs_embeds` (B, T, H) in place of word embeddings."""
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        embeddings = (
            inputs_embeds + self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids)
        )
        return self.dropout(self.LayerNorm(embeddings))


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(q k / sqrt(d) + mask) v for (B, A, T, d) inputs: the outputs (B, T, A, d), and the weights (B, A, T, T).

    The weights are those before dropout. In fp16 the scores are clamped as by the original and normalised in fp32.
    """
    scores = torch.matmul(query * scaling, key.transpose(2, 3))  # (B, A, T, T)
    if scores.dtype == torch.float16:
        scores = scores.clamp(-MAX_FP16_ATTENTION_SCORE, MAX_FP16_ATTENTION_SCORE).float()
    if attention_mask is not None:
        scores = scores.add_(attention_mask)
    weights = F.softmax(scores, dim=-1).to(value.dtype)
    return dropout_product(weights, value, dropout, module.training).transpose(1, 2).contiguous(), weights


class SpanBertSelfAttention(nn.Module):
    """Multi-head attention of every token to every token of its own sequence."""

    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.config = config
        self.head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_size**-0.5
        self.dropout_prob = config.attention_probs_dropout_prob
        self.is_causal = False
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states, attention_mask, sequence_lengths=None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of `hidden_states` (B, T, H); with `sequence_lengths` of sequences laid end to end, (1, their sum, H)."""
        heads = (*hidden_states.shape[:-1], -1, self.head_size)  # (B, T, A, d)
        attend = partial(
            ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward),
            self,
            attention_mask=attention_mask,
            dropout=self.dropout_prob if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        projected = [
            project(hidden_states).view(heads).transpose(1, 2) for project in (self.query, self.key, self.value)
        ]
        if sequence_lengths is None:
            output, weights = attend(*projected)
        else:
            sequences = zip(*(tensor.split(sequence_lengths, dim=2) for tensor in projected), strict=True)
            output, weights = torch.cat([attend(*sequence)[0] for sequence in sequences], dim=1), None
        return output.reshape(hidden_states.shape), weights


class SpanBertAddNorm(nn.Module):
    """LayerNorm(x + dropout(W h)): how each half of a layer ends (post-norm, as BERT)."""

    def __init__(self, input_size: int, config: SpanBertConfig):
        super().__init__()
        self.dense = nn.Linear(input_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = SpanBertDropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + residual)


class SpanBertAttention(nn.Module):
    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.self = SpanBertSelfAttention(config)
        self.output = SpanBertAddNorm(config.hidden_size, config)

    def forward(self, hidden_states, attention_mask, **kwargs) -> torch.Tensor:
        attended, _ = self.self(hidden_states, attention_mask, **kwargs)
        return self.output(attended, hidden_states)


class SpanBertIntermediate(nn.Module):
    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(hidden_states))


class SpanBertLayer(GradientCheckpointingLayer):
    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.attention = SpanBertAttention(config)
        self.intermediate = SpanBertIntermediate(config)
        self.output = SpanBertAddNorm(config.intermediate_size, config)

    def forward(self, hidden_states, attention_mask, **kwargs) -> torch.Tensor:
        hidden_states = self.attention(hidden_states, attention_mask, **kwargs)
        return self.output(self.intermediate(hidden_states), hidden_states)


class SpanBertEncoder(nn.Module):
    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.layer = nn.ModuleList([SpanBertLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(self, hidden_states, attention_mask, **kwargs) -> torch.Tensor:
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)  # positional, for gradient checkpointing
        return hidden_states


class SpanBertPooler(nn.Module):
    """tanh(W x_[CLS]), for next sentence prediction and for classification."""

    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(hidden_states[:, 0]))


class SpanBertPredictionTransform(nn.Module):
    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.activation(self.dense(hidden_states)))


class MaskedLanguageModelingHead(nn.Module):
    """Scores a token's own vector against the word embeddings (tied), with a vocabulary bias (BERT; Section 2)."""

    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.transform = SpanBertPredictionTransform(config)
        # The decoder has no bias of its own: one parameter under two names breaks FSDP2.
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Logits (…, V) of `hidden_states` (…, H)."""
        return F.linear(self.transform(hidden_states), self.decoder.weight, self.bias)


class SpanBoundaryHead(nn.Module):
    """Represents a masked token by the two tokens just outside its span (Section 3.2).

    For a token i of the span (s, e), with x the encoder's output:

        h0  = [x_{s-1}; x_{e+1}; p_{i-s+1}]
        h1  = LayerNorm(GELU(W1 h0))
        y_i = LayerNorm(GELU(W2 h1))

    and scores y_i against the word embeddings (tied), with a vocabulary bias of its own, as in the released code.
    """

    def __init__(self, config: SpanBertConfig):
        super().__init__()
        hidden_size, eps = config.hidden_size, config.layer_norm_eps
        self.span_position_embeddings = nn.Embedding(config.max_span_positions, config.span_position_size)
        self.dense1 = nn.Linear(2 * hidden_size + config.span_position_size, hidden_size)
        self.norm1 = nn.LayerNorm(hidden_size, eps=eps)
        self.dense2 = nn.Linear(hidden_size, hidden_size)
        self.norm2 = nn.LayerNorm(hidden_size, eps=eps)
        self.activation = ACT2FN[config.hidden_act]
        self.decoder = nn.Linear(hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def transform(self, left: torch.Tensor, right: torch.Tensor, span_position: torch.Tensor) -> torch.Tensor:
        """y (N, H), from the encoder's output at s-1 and e+1 (N, H) and `span_position` i-s (N,), from 0."""
        hidden = torch.cat([left, right, self.span_position_embeddings(span_position)], dim=-1)  # (N, 2H + P)
        hidden = self.norm1(self.activation(self.dense1(hidden)))  # (N, H)
        return self.norm2(self.activation(self.dense2(hidden)))

    def forward(self, left: torch.Tensor, right: torch.Tensor, span_position: torch.Tensor) -> torch.Tensor:
        """Logits (N, V); takes what `transform` takes."""
        return F.linear(self.transform(left, right, span_position), self.decoder.weight, self.bias)


class SpanBertPreTrainingHeads(nn.Module):
    """The heads of `objectives`: `predictions` (mlm), `span_boundary` (sbo), `seq_relationship` (nsp)."""

    def __init__(self, config: SpanBertConfig, objectives: list[str]):
        super().__init__()
        self.predictions = MaskedLanguageModelingHead(config)
        if "sbo" in objectives:
            self.span_boundary = SpanBoundaryHead(config)
        if "nsp" in objectives:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)


class SpanBertPreTrainedModel(PreTrainedModel):
    config: SpanBertConfig
    base_model_prefix = "bert"  # and so any checkpoint with BERT's key names loads
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["SpanBertEmbeddings", "SpanBertLayer"]
    _can_record_outputs = {"hidden_states": SpanBertLayer, "attentions": SpanBertSelfAttention}
    # Buffers and the second name of the MLM bias in checkpoints of older BERT classes.
    _keys_to_ignore_on_load_unexpected = [r"embeddings\.position_ids", r"cls\.predictions\.decoder\.bias"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """N(0, `initializer_range`) for matrices, [PAD]'s row included, 0 for biases, 1 for LayerNorm weights."""
        super()._init_weights(module)
        if isinstance(module, MaskedLanguageModelingHead | SpanBoundaryHead):
            init.zeros_(module.bias)


class SpanBertModel(SpanBertPreTrainedModel):
    """The encoder. It has a pooler only where something uses it: by default, with the objective "nsp"."""

    def __init__(self, config: SpanBertConfig, add_pooling_layer: bool | None = None):
        super().__init__(config)
        if add_pooling_layer is None:
            add_pooling_layer = "nsp" in config.objectives
        self.embeddings = SpanBertEmbeddings(config)
        self.encoder = SpanBertEncoder(config)
        self.pooler = SpanBertPooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding):
        self.embeddings.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        sequence_ids: torch.Tensor | None = None,
        max_sequences: int | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """Encodes `input_ids` (B, T) or `inputs_embeds` (B, T, H).

        `sequence_ids` (B, T): 1, 2, … per sequence of a packed row, 0 = padding. Sequences of a row do not see each
        other, and `position_ids`, when not given, restart in each; `attention_mask` is not needed then.
        `max_sequences`: as many as a batch may hold, a row's padding counted as one; with it the shapes of flash
        attention's inputs are the same in every batch, and no step waits for the device to count them.

        Where much of the batch is padding, it is left out of the computation (see `unpadding.real_tokens`), and the
        output there is 0; not so where `output_hidden_states` or `output_attentions` are asked for.

        Raises `ValueError` for inputs of another shape, or longer than `max_position_embeddings`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected exactly one of input_ids and inputs_embeds")
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given.dim() != (2 if inputs_embeds is None else 3) or 0 in given.shape[:2]:
            raise ValueError(
                f"input of shape {tuple(given.shape)}: expected input_ids (rows, tokens) or inputs_embeds "
                "(rows, tokens, hidden size) with at least one row and one token"
            )
        shape, device = given.shape[:2], given.device
        if position_ids is None:
            if shape[1] > self.config.max_position_embeddings:
                raise ValueError(
                    f"{shape[1]} tokens in a row, but max_position_embeddings={self.config.max_position_embeddings}: "
                    "truncate or split the text"
                )
            position_ids = torch.arange(shape[1], device=device).expand(shape)
            if sequence_ids is not None:
                position_ids = position_ids - sequence_starts(sequence_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros(shape, dtype=torch.long, device=device)

        unpadded = None
        if sequence_ids is None and not any(
            kwargs.get(name, getattr(self.config, name)) for name in ("output_hidden_states", "output_attentions")
        ):
            unpadded = real_tokens(attention_mask, shape, self.config._attn_implementation)
        if unpadded is not None:
            input_ids, inputs_embeds, token_type_ids, position_ids = (
                None if tensor is None else unpadded.pick(tensor.expand(*shape, *tensor.shape[2:]))
                for tensor in (input_ids, inputs_embeds, token_type_ids, position_ids)
            )

        hidden_states = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)  # (B, T, H)
        if unpadded is not None:
            attention_mask = None
            kwargs |= unpadded.attention_arguments(self.config._attn_implementation)
        elif sequence_ids is None:
            attention_mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=hidden_states, attention_mask=attention_mask
            )
        else:
            attention_mask, packing = packed_attention(self.config, hidden_states, sequence_ids, max_sequences)
            kwargs |= packing
        hidden_states = self.encoder(hidden_states, attention_mask, **kwargs)
        if unpadded is not None:
            hidden_states = unpadded.put_back(hidden_states)
        pooled = None if self.pooler is None else self.pooler(hidden_states)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


def sequence_starts(sequence_ids: torch.Tensor) -> torch.Tensor:
    """For each token the position (B, T) in the row at which its sequence begins."""
    position = torch.arange(sequence_ids.shape[1], device=sequence_ids.device).expand_as(sequence_ids)
    begins = F.pad(sequence_ids[:, 1:] != sequence_ids[:, :-1], (1, 0), value=True)
    return torch.where(begins, position, 0).cummax(dim=1).values


def packed_attention(
    config: SpanBertConfig, hidden_states: torch.Tensor, sequence_ids: torch.Tensor, max_sequences: int | None = None
):
    """The attention mask of packed rows in the form that `config._attn_implementation` takes, and its keywords.

    Tokens of equal `sequence_ids` see each other. So does padding, alone: no row of scores is empty, none is NaN.
    Flash attention is told of `max_sequences`, where it is given: those that the batch does not have are empty.
    """
    implementation = config._attn_implementation
    if "flash" in implementation:  # sequences laid end to end, padding as sequences of their own
        begins = sequence_starts(sequence_ids) == torch.arange(sequence_ids.shape[1], device=sequence_ids.device)
        if max_sequences is None:
            offsets = F.pad(begins.flatten().nonzero().flatten(), (0, 1), value=sequence_ids.numel())
            longest = int(offsets.diff().max())
        else:
            check_limit("max_sequences", max_sequences, begins)
            offsets = torch.nonzero_static(begins.flatten(), size=max_sequences + 1, fill_value=begins.numel())
            offsets, longest = offsets.flatten(), sequence_ids.shape[1]
        offsets = offsets.to(torch.int32)
        return None, {
            "cu_seq_lens_q": offsets,
            "cu_seq_lens_k": offsets,
            "max_length_q": longest,
            "max_length_k": longest,
        }
    if implementation == "flex_attention":
        # Not transformers' mask, which asks torch to compile it in a way that breaks a graph around it.
        num_rows, num_tokens = sequence_ids.shape
        same_sequence = packed_sequence_mask_function(sequence_ids)
        blocks = create_block_mask(same_sequence, num_rows, None, num_tokens, num_tokens, device=sequence_ids.device)
        return blocks, {}
    visible = (sequence_ids[:, :, None] == sequence_ids[:, None, :])[:, None]  # (B, 1, T, T)
    if implementation == "eager":
        lowest = torch.finfo(hidden_states.dtype).min
        visible = torch.zeros_like(visible, dtype=hidden_states.dtype).masked_fill_(~visible, lowest)
    return visible, {}


def can_be_checked(values: torch.Tensor) -> bool:
    """Whether one may look at them: not in a graph, nor on a device, for which the step would have to wait.

    There torch itself stops at what is out of range, if less politely.
    """
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def check_limit(name: str, limit: int, places: torch.Tensor) -> None:
    """Raises ValueError where more of `places` are True than the keyword `name` allows."""
    if can_be_checked(places) and int(places.sum()) > limit:
        raise ValueError(f"{name}={limit}, but the batch has {int(places.sum())}: raise it, or leave it out")


def check_labels(labels: torch.Tensor, highest: int) -> None:
    """Raises ValueError for labels that are neither 0 to `highest` nor -100, which is not predicted."""
    if not can_be_checked(labels):
        return
    labels = labels[labels != -100]
    if not len(labels):
        return
    low, high = (bound.item() for bound in labels.aminmax())
    if not (low >= 0 and high <= highest):  # so that NaN is refused too
        wrong = high if low >= 0 else low
        raise ValueError(f"label {wrong}: expected 0 to {highest}, or -100 where nothing is predicted")


def per_item(total: torch.Tensor, num_items_in_batch: torch.Tensor | int) -> torch.Tensor:
    """`total` / `num_items_in_batch`; without any item `total`, which is 0 then, and not NaN."""
    if torch.is_tensor(num_items_in_batch):
        return total / num_items_in_batch.clamp(min=1)
    return total / max(num_items_in_batch, 1)


def cross_entropy(logits, labels, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
    """The sum of CE of `logits` (…, C) at `labels` (…) that are not -100, in fp32, divided by one count.

    The count is `num_items_in_batch`, of the whole update over micro-batches and processes, or else that of `labels`.
    """
    if num_items_in_batch is None:
        num_items_in_batch = (labels != -100).sum()
    loss = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten().long(), reduction="sum")
    return per_item(loss, num_items_in_batch)


def masked_tokens(labels: torch.Tensor, max_masked_tokens: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Where `labels` (B, T) are not -100, in the B T tokens of the batch, and the labels there, (N,) each.

    With `max_masked_tokens` N is that number: those that the batch does not have are at place 0, with the target -100.
    """
    masked = (labels != -100).flatten()
    if max_masked_tokens is None:
        places = masked.nonzero().flatten()
        return places, labels.flatten()[places]
    check_limit("max_masked_tokens", max_masked_tokens, masked)
    places = torch.nonzero_static(masked, size=max_masked_tokens, fill_value=-1).flatten()
    targets = labels.flatten()[places].masked_fill(places < 0, -100)
    return places.clamp(min=0), targets


class SpanBertHeadModel(SpanBertPreTrainedModel):
    """What the two classes with a vocabulary head share: tied decoders, and biases that follow the vocabulary."""

    def get_output_embeddings(self) -> nn.Linear:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, value: nn.Linear):
        self.cls.predictions.decoder = value

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Embedding:
        """As transformers' method; the vocabulary biases, which that does not know, follow (new entries are 0)."""
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        size = embeddings.weight.shape[0]
        for head in self.cls.children():
            if hasattr(head, "decoder"):
                head.bias = nn.Parameter(F.pad(head.bias.data, (0, size - head.bias.shape[0])))
                if len(head.decoder.weight) != size:  # the SBO's, where decoders are not tied
                    head.decoder = self._get_resized_lm_head(head.decoder, size)
                head.decoder.out_features = size
        return embeddings


@dataclass
class SpanBertForPreTrainingOutput(ModelOutput):
    """Losses and logits of pre-training.

    Args:
        loss: the sum of the parts that follow; None without `labels` and `next_sentence_label`.
        mlm_loss, sbo_loss, nsp_loss: the parts, each divided by its count; None for what was not asked.
        prediction_logits: (B, T, V) without labels; with labels (N, V), a row for each place where `labels != -100`
            in row-major order; None with labels in training mode.
        boundary_logits: (N', V), a row for each place where `span_position >= 0` in row-major order, when the three
            boundary keys are given; None with labels in training mode.
        seq_relationship_logits: (B, 2), with the objective "nsp"; 1 = random, as BERT.
        hidden_states, attentions: per layer, on request.
    """

    loss: torch.Tensor | None = None
    mlm_loss: torch.Tensor | None = None
    sbo_loss: torch.Tensor | None = None
    nsp_loss: torch.Tensor | None = None
    prediction_logits: torch.Tensor | None = None
    boundary_logits: torch.Tensor | None = None
    seq_relationship_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor] | None = None
    attentions: tuple[torch.Tensor] | None = None


class SpanBertForPreTraining(SpanBertHeadModel):
    """SpanBERT with the heads of its objectives: masked language modeling, span boundary, next sentence prediction.

    The loss is that of Section 3.2, as a sum over masked tokens divided by one count:

        L = (1/N) * sum over masked tokens i of [CE_mlm(i) + CE_sbo(i)]  (+ the mean of CE_nsp over rows)

    N is `num_items_in_batch` where it is given (the count of the whole update, over all micro-batches and
    processes), so that accumulation and data parallelism equal one big batch. A masked token without an SBO target
    adds 0 to the SBO sum and still counts in N: the paper's per-token sum. The released code divides the SBO sum by
    its own count of targets + 1, which weighs it 1 to 2 % more.
    """

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.span_boundary.decoder.weight": "bert.embeddings.word_embeddings.weight",
    }

    def __init__(self, config: SpanBertConfig):
        super().__init__(config)
        if "sbo" not in config.objectives:
            self._tied_weights_keys = SpanBertForMaskedLM._tied_weights_keys
        self.bert = SpanBertModel(config)
        self.cls = SpanBertPreTrainingHeads(config, config.objectives)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        left_boundary: torch.Tensor | None = None,
        right_boundary: torch.Tensor | None = None,
        span_position: torch.Tensor | None = None,
        sequence_ids: torch.Tensor | None = None,
        next_sentence_label: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        num_sequences_in_batch: torch.Tensor | int | None = None,
        max_masked_tokens: int | None = None,
        **kwargs,
    ) -> SpanBertForPreTrainingOutput:
        """Takes a batch of `DataCollatorForSpanMasking`; all tensors (B, T) but `next_sentence_label` (B,).

        Args:
            labels: the original id where a token is masked, -100 elsewhere.
            left_boundary, right_boundary: positions in the row of x_{s-1} and x_{e+1} of a masked token's span.
            span_position: i - s of a token with an SBO target, -1 elsewhere.
            sequence_ids: 1, 2, … per sequence of a packed row, 0 = padding.
            next_sentence_label: 1 = the second sequence is a random one, 0 = it is the next.
            num_items_in_batch: N of the whole update; default: the masked tokens of this batch.
            num_sequences_in_batch: rows of the whole update, for NSP; default: the rows of this batch.
            max_masked_tokens: as many as a batch may have. In training the heads then compute that number of rows in
                every batch, those beyond the masked tokens with weight 0: shapes are constant, as compiled steps need,
                and nothing waits for the device to count. Beyond it tokens would be lost, which is refused on a CPU.

        The SBO part is computed when its three keys are given. Without masked tokens the loss is 0, never NaN.
        Raises `ValueError` for labels outside of the vocabulary, for span positions beyond `max_span_positions`, and
        for a `next_sentence_label` without the objective "nsp".
        """
        objectives = self.config.objectives
        if next_sentence_label is not None and "nsp" not in objectives:
            raise ValueError(f"next_sentence_label given, but objectives={objectives} has no 'nsp'")
        encoded = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            sequence_ids=sequence_ids,
            **kwargs,
        )
        boundaries = (left_boundary, right_boundary, span_position)
        if "sbo" not in objectives or any(key is None for key in boundaries):
            boundaries = None
        if labels is None:
            parts = self._predict(encoded.last_hidden_state, boundaries)
        else:
            places, targets = masked_tokens(labels, max_masked_tokens if self.training else None)
            parts = self._masked_token_losses(
                encoded.last_hidden_state, places, targets, boundaries, num_items_in_batch
            )
        if "nsp" in objectives:
            parts["seq_relationship_logits"] = self.cls.seq_relationship(encoded.pooler_output)  # (B, 2)
            if next_sentence_label is not None:
                parts["nsp_loss"] = cross_entropy(
                    parts["seq_relationship_logits"], next_sentence_label, num_sequences_in_batch
                )
        losses = [parts[name] for name in ("mlm_loss", "sbo_loss", "nsp_loss") if name in parts]
        return SpanBertForPreTrainingOutput(
            loss=sum(losses[1:], start=losses[0]) if losses else None,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            **parts,
        )

    def _predict(self, hidden_states, boundaries) -> dict[str, torch.Tensor]:
        """Logits at every token, and at every token with a span position."""
        parts = {"prediction_logits": self.cls.predictions(hidden_states)}  # (B, T, V)
        if boundaries is not None:
            places = (boundaries[2] >= 0).flatten().nonzero().flatten()  # (N',)
            parts["boundary_logits"] = self.cls.span_boundary(*self._around(hidden_states, boundaries, places))
        return parts

    def _masked_token_losses(
        self, hidden_states, places, targets, boundaries, num_items_in_batch
    ) -> dict[str, torch.Tensor]:
        """Losses over the N masked tokens only, nothing of size B T V is built; and their logits in eval mode."""
        check_labels(targets, self.config.vocab_size - 1)
        if num_items_in_batch is None:
            num_items_in_batch = (targets != -100).sum()
        heads = {"mlm_loss": self.cls.predictions}
        hidden = [self.cls.predictions.transform(hidden_states.flatten(0, 1).index_select(0, places))]  # (N, H)
        head_targets = [targets]
        if boundaries is not None:
            # All N rows, also those without a target: the head's parameters are in every graph, as DDP needs.
            left, right, position = self._around(hidden_states, boundaries, places)
            heads["sbo_loss"] = self.cls.span_boundary
            hidden.append(self.cls.span_boundary.transform(left, right, position.clamp(min=0)))
            head_targets.append(targets.masked_fill(position < 0, -100))

        if self.training:
            losses = self._vocabulary_losses(list(heads.values()), hidden, head_targets)
            return {name: per_item(loss, num_items_in_batch) for name, loss in zip(heads, losses, strict=True)}
        parts = {}
        for (name, head), of_head, targets in zip(heads.items(), hidden, head_targets, strict=True):
            logits = F.linear(of_head, head.decoder.weight, head.bias)  # (N, V)
            parts[name] = cross_entropy(logits, targets, num_items_in_batch)
            if name == "mlm_loss":
                parts["prediction_logits"] = logits
            else:
                parts["boundary_logits"] = logits[targets != -100]
        return parts

    def _vocabulary_losses(self, heads, hidden, targets) -> list[torch.Tensor]:
        """Each head's sum of CE: by one product for all that share the output embeddings, as they do where tied."""
        if all(head.decoder.weight is heads[0].decoder.weight for head in heads):
            bias = torch.stack([head.bias for head in heads])  # (K, V)
            return [*vocabulary_losses(torch.stack(hidden), heads[0].decoder.weight, bias, torch.stack(targets))]
        return [
            vocabulary_losses(of_head[None], head.decoder.weight, head.bias[None], of_targets[None])[0]
            for head, of_head, of_targets in zip(heads, hidden, targets, strict=True)
        ]

    def _around(self, hidden_states, boundaries, places) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """For the tokens at `places` (N,): the encoder's output at s-1 and at e+1 (N, H), and i-s (N,), or -1."""
        left, right, position = (key.flatten()[places] for key in boundaries)  # (N,) each
        limit = self.config.max_span_positions
        if can_be_checked(position) and len(position) and int(position.max()) >= limit:
            raise ValueError(
                f"span_position {int(position.max())} in the batch, but max_span_positions={limit}: "
                f"give the collator max_span_positions={limit}"
            )
        row_start = places - places % hidden_states.shape[1]
        tokens = hidden_states.flatten(0, 1)  # (B T, H)
        return tokens.index_select(0, row_start + left), tokens.index_select(0, row_start + right), position


class SpanBertForMaskedLM(SpanBertHeadModel):
    """SpanBERT with its masked language modeling head, under the contract of transformers: logits (B, T, V)."""

    _tied_weights_keys = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    # What a pre-training checkpoint has beside this head.
    _keys_to_ignore_on_load_unexpected = [
        *SpanBertPreTrainedModel._keys_to_ignore_on_load_unexpected,
        r"cls\.span_boundary",
        r"cls\.seq_relationship",
        r"^(bert\.)?pooler\.",
    ]

    def __init__(self, config: SpanBertConfig):
        super().__init__(config)
        self.bert = SpanBertModel(config, add_pooling_layer=False)
        self.cls = SpanBertPreTrainingHeads(config, ["mlm"])
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> MaskedLMOutput:
        """`labels` (B, T): ids to predict, -100 elsewhere; the loss is their sum of CE / `num_items_in_batch`.

        Raises `ValueError` for labels outside of the vocabulary.
        """
        encoded = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        logits = self.cls.predictions(encoded.last_hidden_state)  # (B, T, V)
        loss = None
        if labels is not None:
            check_labels(labels, self.config.vocab_size - 1)
            loss = cross_entropy(logits, labels, num_items_in_batch)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )


class SpanBertTaskModel(SpanBertPreTrainedModel):
    """What the heads of tasks share: the encoder, and what of a pre-training checkpoint they do without.

    All losses are sums divided by one count: `num_items_in_batch` where it is given (labels of the whole update that
    are not -100, as the Trainer of transformers counts them), so that accumulation and data parallelism equal one big
    batch; else the count of this batch. transformers' BERT divides by the latter in either case.
    """

    _keys_to_ignore_on_load_unexpected = [
        *SpanBertPreTrainedModel._keys_to_ignore_on_load_unexpected,
        r"^cls\.",
        r"^(bert\.)?pooler\.",
    ]

    def __init__(self, config: SpanBertConfig, add_pooling_layer: bool = False):
        super().__init__(config)
        self.bert = SpanBertModel(config, add_pooling_layer=add_pooling_layer)


class SpanBertClassifier(SpanBertTaskModel):
    """Dropout and one linear layer to `num_labels` scores; its key names are BERT's."""

    def __init__(self, config: SpanBertConfig, add_pooling_layer: bool = False):
        super().__init__(config, add_pooling_layer)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = SpanBertDropout(dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class SpanBertForQuestionAnswering(SpanBertTaskModel):
    """SpanBERT with scores of each token as the start and as the end of the answer (Section 4.1; Devlin et al., 2019).

    The head has two outputs whatever `num_labels` says, by which BERT's class sizes it (and fails unless it is 2).
    """

    def __init__(self, config: SpanBertConfig):
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> QuestionAnsweringModelOutput:
        """`start_positions`, `end_positions` (B,): the first and the last token of the answer.

        The loss is (CE of starts + CE of ends) / 2, each a mean over the positions inside of the sequence, or a sum
        divided by `num_items_in_batch` (answers of the update). Positions outside, as of answers that were cut off,
        count nothing; so do negative ones, which BERT's class takes for 0, that is [CLS]. The Trainer of transformers
        counts `labels` only, hence averages micro-batches here: exact as long as no position is outside.

        Padding (`attention_mask` 0) is no candidate of the loss. In BERT's class it is one, so that the loss depends
        on how far a batch is padded, and accumulation on how rows are put together.

        Raises `ValueError` when only one of the two positions is given.
        """
        if (start_positions is None) != (end_positions is None):
            raise ValueError("expected both of start_positions and end_positions, or none")
        encoded = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        start_logits, end_logits = self.qa_outputs(encoded.last_hidden_state).unbind(-1)  # (B, T) each
        loss = None
        if start_positions is not None:
            losses = []
            for logits, positions in ((start_logits, start_positions), (end_logits, end_positions)):
                outside = (positions < 0) | (positions >= logits.shape[1])
                if attention_mask is not None and attention_mask.shape == logits.shape:
                    logits = logits.masked_fill(attention_mask == 0, torch.finfo(logits.dtype).min)
                losses.append(cross_entropy(logits, positions.masked_fill(outside, -100), num_items_in_batch))
            loss = (losses[0] + losses[1]) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits.contiguous(),
            end_logits=end_logits.contiguous(),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


class SpanBertForSequenceClassification(SpanBertClassifier):
    """SpanBERT with a classifier, or a regression, on the pooled [CLS] (Section 4.1; appendix B on GLUE).

    `config.problem_type` says which loss; where it is None the first labels decide, as in transformers: "regression"
    with one label, "single_label_classification" with integers, "multi_label_classification" with floats.
    """

    def __init__(self, config: SpanBertConfig):
        super().__init__(config, add_pooling_layer=True)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """`labels` (B,): class ids; (B, `num_labels`): 0 to 1 for each of several labels, or values of a regression.

        -100 stands for a label that is not known, also in the last two. Raises `ValueError` for labels that are no
        class, outside of 0 to 1, or of another shape.
        """
        encoded = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        logits = self.classifier(self.dropout(encoded.pooler_output))  # (B, num_labels)
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels, num_items_in_batch),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def _loss(self, logits, labels, num_items_in_batch) -> torch.Tensor:
        config = self.config
        if config.problem_type is None:  # kept, since the text-classification pipeline asks for it
            integers = labels.dtype in (torch.long, torch.int)
            several = "single_label_classification" if integers else "multi_label_classification"
            config.problem_type = "regression" if config.num_labels == 1 else several
        per_label = config.problem_type != "single_label_classification"
        if labels.numel() != (logits.numel() if per_label else len(logits)):
            expected = tuple(logits.shape) if per_label else (len(logits),)
            raise ValueError(
                f"labels of shape {tuple(labels.shape)}: expected {expected} for problem_type={config.problem_type}"
            )
        if not per_label:
            check_labels(labels, config.num_labels - 1)
            return cross_entropy(logits, labels, num_items_in_batch)

        labels = labels.view(logits.shape)
        if config.problem_type == "regression":
            losses = F.mse_loss(logits.float(), labels.float(), reduction="none")
        else:
            check_labels(labels, 1)
            losses = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
        known = labels != -100
        return per_item((losses * known).sum(), known.sum() if num_items_in_batch is None else num_items_in_batch)


class SpanBertForTokenClassification(SpanBertClassifier):
    """SpanBERT with a classifier on each token, for named entities and the like (Devlin et al., 2019)."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> TokenClassifierOutput:
        """`labels` (B, T): class ids, -100 where nothing is predicted. Raises `ValueError` for others."""
        encoded = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        logits = self.classifier(self.dropout(encoded.last_hidden_state))  # (B, T, num_labels)
        loss = None
        if labels is not None:
            check_labels(labels, self.config.num_labels - 1)
            loss = cross_entropy(logits, labels, num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )


class SpanBertForRelationExtraction(SpanBertTaskModel):
    """SpanBERT with a classifier of the relation between two entities of a sentence (Section 4.1).

    `relations.RelationFeaturizer` shows the model where they are; `config.relation_pooling` says what is classified:

        cls             W tanh(W' x_[CLS]), as in the paper; the original's key names are kept (and are BERT's)
        entity_start    W ReLU(W' [x_subject; x_object]), as in Zhou and Chen (2022, arXiv 2102.01373); the vectors are
                        those of each entity's mask, or of the first token of its opening marker
    """

    def __init__(self, config: SpanBertConfig):
        super().__init__(config, add_pooling_layer=config.relation_pooling == "cls")
        if config.relation_pooling == "entity_start":
            self.entity_dense = nn.Linear(2 * config.hidden_size, config.hidden_size)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = SpanBertDropout(dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        subject_index: torch.Tensor | None = None,
        object_index: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """`subject_index`, `object_index` (B,): where the entities start, which "cls" does not need; `labels` (B,).

        -100 stands for a label that is not known. Raises `ValueError` for labels that are no class, and for indices
        that "entity_start" needs and that are not given or outside of the sequence.
        """
        encoded = self.bert(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        if self.config.relation_pooling == "cls":
            pooled = encoded.pooler_output  # (B, H)
        else:
            starts = entity_starts(subject_index, object_index, encoded.last_hidden_state.shape[:2])  # (B, 2)
            rows = torch.arange(len(starts), device=starts.device)[:, None]
            pooled = F.relu(self.entity_dense(encoded.last_hidden_state[rows, starts].flatten(1)))  # (B, H)
        logits = self.classifier(self.dropout(pooled))  # (B, num_labels)
        loss = None
        if labels is not None:
            check_labels(labels, self.config.num_labels - 1)
            loss = cross_entropy(logits, labels, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )


def entity_starts(subject_index, object_index, shape: tuple[int, int]) -> torch.Tensor:
    """Both indices (B,) as one tensor (B, 2). Raises ValueError unless they are inside of rows of `shape` (B, T)."""
    if subject_index is None or object_index is None:
        raise ValueError("relation_pooling='entity_start' needs subject_index and object_index: where entities start")
    num_rows, num_tokens = shape
    for index in (subject_index, object_index):
        if index.shape != (num_rows,):
            raise ValueError(
                f"an entity index of shape {tuple(index.shape)}: expected ({num_rows},), one for each row"
            )
    starts = torch.stack([subject_index, object_index], dim=1)
    if not torch.compiler.is_compiling():
        low, high = (bound.item() for bound in starts.aminmax())
        if low < 0 or high >= num_tokens:
            wrong = high if low >= 0 else low
            raise ValueError(f"an entity starts at token {wrong}: expected 0 to {num_tokens - 1}, inside of the row")
    return starts


for auto_class, name in AUTO_CLASSES.items():
    globals()[name].register_for_auto_class(auto_class)
SpanBertForRelationExtraction.register_for_auto_class("AutoModel")

__all__ = [
    "SpanBertForMaskedLM",
    "SpanBertForPreTraining",
    "SpanBertForQuestionAnswering",
    "SpanBertForRelationExtraction",
    "SpanBertForSequenceClassification",
    "SpanBertForTokenClassification",
    "SpanBertModel",
    "SpanBertPreTrainedModel",
]
