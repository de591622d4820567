"""From text files to shards: read, clean, leave out what is held out, sample, romanize, pack."""
