"""The test sets of the papers and their files: what tasks there are, where their files lie, and how they are read."""
