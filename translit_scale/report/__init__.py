"""Results as the papers' tables, beside the numbers that the papers print."""
