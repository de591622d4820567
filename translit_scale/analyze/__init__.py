"""What encoders represent: the similarities of paper A."""
