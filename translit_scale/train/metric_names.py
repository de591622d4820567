"""Names of groups of metrics; the report page reads them without torch."""

BY_LANGUAGE, BY_SCRIPT = "train_loss_by_language", "train_loss_by_script"
"""Groups of the losses of single languages, and of all languages of a script."""
