"""What a run hands to `export`, made up: the keys are those of `modeling_spanbert.export.render_card`."""

RUN = {
    "model_id": "your-org/spanbert-made-up-cased",
    "command": "accelerate launch training/pretrain.py training/recipes/pretrain/tiny.yaml --output_dir runs/tiny",
    "arguments": {
        "model_name_or_path": None,
        "dataset_name": None,
        "max_seq_length": 64,
        "global_batch_size": 8,
        "masking_scheme": "geometric_spans",
        "mask_ratio": 0.15,
        "p": 0.2,
        "max_span_length": 10,
        "learning_rate": 1e-4,
        "num_warmup_steps": 10,
        "max_train_steps": 1000,
        "weight_decay": 0.1,
        "mixed_precision": "no",
        "seed": 42,
    },
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "hardware": "2 cores of a made-up CPU",
    "data": {
        "files": ["first.txt", "second.txt"],
        "num_documents": 1234,
        "num_tokens": 567890,
        "num_rows": 8900,
        "padding_share": 0.0123,
        "fingerprint": "0123456789abcdef",
    },
}
TOKENIZER = {"kind": "WordPiece", "num_pieces": 144, "lower_cases": False, "mask_token": "[MASK]"}  # added by `export`
RESULTS = {
    "step": 1000,
    "num_tokens_seen": 512000,
    "wall_seconds": 3725.5,
    "held_out": {
        "num_masked_tokens": 4321,
        "mlm_loss": 4.5678,
        "sbo_loss": 5.4321,
        "sbo_accuracy": 0.123,
        "unigram_entropy": 6.7,
        "accuracy": 0.256,
        "mask_token_loss": 4.987,
        "mask_token_accuracy": 0.199,
        "unigram_accuracy": 0.051,
        "by_span_length": [
            {
                "length": 1,
                "num_masked_tokens": 1000,
                "accuracy": 0.41,
                "mask_token_accuracy": 0.3,
                "sbo_accuracy": 0.2,
            },
            {
                "length": "11+",
                "num_masked_tokens": 50,
                "accuracy": 0.11,
                "mask_token_accuracy": 0.1,
                "sbo_accuracy": None,
            },
        ],
    },
}
