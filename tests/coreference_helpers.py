"""A tiny coreference model that knows one made-up document by heart, for tests that need clusters."""

import torch
from helpers import WORDS, tiny_config, tiny_tokenizer

from modeling_spanbert import SpanBertForCoreference
from modeling_spanbert.coreference import collate_documents, encode_document


SENTENCES = [["the", "queen", "saw", "a", "dog", "."], ["She", "won", "it", "."], ["We", "lost", "."]]
TEXT = "the queen saw a dog. She won it. We lost."
CLUSTERS = [[(0, 1), (6, 6)], [(3, 4), (8, 8)], [(10, 10)]]  # in words, the last included
STRINGS = [["the queen", "She"], ["a dog", "it"]]
SINGLETON = ["We"]
TOKENIZER = tiny_tokenizer(f"{WORDS} She We")
HEAD = {"max_span_width": 2, "ffnn_size": 16, "feature_emb_size": 4, "max_top_antecedents": 5, "ffnn_dropout": 0.0}


def random_model(seed: int = 0, **fields) -> SpanBertForCoreference:
    """With weights large enough that something is linked."""
    torch.manual_seed(seed)
    return SpanBertForCoreference(
        tiny_config(vocab_size=len(TOKENIZER), **(HEAD | {"initializer_range": 0.3} | fields))
    ).eval()


def learnt_model() -> SpanBertForCoreference:
    """Knows `TEXT` by heart, in some seconds."""
    fields = {"initializer_range": 0.02, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = random_model(num_hidden_layers=1, top_span_ratio=1.0, mention_loss_coef=0.5, **fields).train()
    document = encode_document(SENTENCES, TOKENIZER, clusters=CLUSTERS)
    batch = collate_documents([document], TOKENIZER.pad_token_id, model.config.genres, with_gold=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return model.eval()
