"""The demo: every stage of the project on text from installed packages."""
