"""Settings as an early version stored them in a checkpoint: a frozen record, which must not follow later settings."""

from typing import Any

OLD_MIXTURE = {"kind": "temperature", "alpha": 0.9, "weights": None, "max_repeats": None}
OLD_SCIENCE: dict[str, Any] = {
    "data": {
        "shards": "s", "languages": None, "mixture": OLD_MIXTURE | {"alpha": 0.5},
        "mixture_schedule": [{"from_step": 3, "mixture": OLD_MIXTURE}], "max_unknown_fraction": 0.05,
    },
    "model": {
        "pretrained": None, "tokenizer": "t", "hidden_size": 768, "num_layers": 12, "num_heads": 12,
        "intermediate_size": 3072, "max_length": 512, "dropout": 0.1,
    },
    "objectives": {
        "pair_with": "transliteration",
        "masking": {"mlm_probability": 0.15, "mask_replace_prob": 0.8, "random_replace_prob": 0.1},
        "tcm": {
            "weight": 0.0, "loss": "info_nce", "layer": 8, "temperature": 1.0, "learn_temperature": False,
            "initial_bias": -10.0, "similarity": "dot", "exclude_duplicates": False, "scope": "effective_batch",
        },
        "tlm": {"weight": 0.0}, "parity": None,
    },
    "train": {
        "batch_pairs": 1024, "epochs": 1.0, "max_steps": 9, "lr": 1.0, "warmup_steps": 0, "betas": [0.9, 0.999],
        "eps": 1e-06, "weight_decay": 0.01, "max_grad_norm": 1.0, "max_skipped_steps": 5, "seed": 0,
        "gradient_checkpointing": False, "compile": False, "precision": "fp32",
    },
}  # fmt: skip
"""`CheckpointInfo.science` as commit afe9946 wrote it, the first with records of format 2."""
