"""Text on disk: reading and cleaning sentences, shards and their manifest, tokenizers."""
