"""The papers' experiments as a whole: from text to a page, at several scales."""
