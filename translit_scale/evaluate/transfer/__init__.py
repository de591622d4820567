"""Zero-shot transfer: fine-tuning on source languages, tests on target languages."""
