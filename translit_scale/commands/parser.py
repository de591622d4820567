"""The argument parser of all commands: it reports a wrong command line as an error with a suggestion."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from translit_scale.errors import ConfigError

_WRONG_CHOICE = re.compile(r"invalid choice: '(?P<word>.*)' \(choose from (?P<choices>.*)\)")


class Parser(argparse.ArgumentParser):
    """Raises ConfigError instead of ending the process, so that all programs and ranks report errors in one way.

    The message begins with the usage of the command that was meant. Options are not abbreviated, because an
    abbreviation can get another meaning when an option is added.
    """

    free_words: re.Pattern[str] | None = None
    """Positional words of this form may stand between options; argparse by itself takes them from one place only."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does it, but a word that this parser does not know is an error of its own.

        Raises:
            ConfigError: the command line is wrong.
        """
        if self.free_words and args is not None:
            free = self.free_words
            args = sorted(args, key=lambda word: not free.match(word))
        if args is not None and not self._subparsers:  # first, because a misspelt option is missing as well
            self._refuse_unknown([word for word in args if word.startswith("--") and not self._knows(word)])
        parsed, unknown = super().parse_known_args(args, namespace)
        self._refuse_unknown(unknown)
        return parsed, []

    def _knows(self, word: str) -> bool:
        # A word with a space is the value of an option, as argparse sees it: `submit --evaluate '--data DIR ...'`.
        return word == "--" or " " in word.partition("=")[0] or word.partition("=")[0] in self._option_string_actions

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        if words:
            self._refuse(f"unrecognized arguments: {' '.join(words)}", self._similar_option(words))

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError; if a word is not among its choices, the hint names the choice that is most like it."""
        wrong = _WRONG_CHOICE.search(message)
        self._refuse(message, wrong and _similar(wrong["word"], re.findall(r"[^\s',]+", wrong["choices"])))

    def _similar_option(self, unknown: Sequence[str]) -> str | None:
        known = [option for action in self._actions for option in action.option_strings]
        return next((near for word in unknown if (near := _similar(word.partition("=")[0], known))), None)

    def _refuse(self, message: str, meant: str | None) -> NoReturn:
        hint = f"did you mean {meant}? " if meant else ""
        raise ConfigError(f"{message}\n{self.format_usage().rstrip()}", f"{hint}{self.prog} --help")


def _similar(word: str, known: Sequence[str]) -> str | None:
    """The known word that is most like this one, dashes aside."""
    bare = {name.lstrip("-"): name for name in known}
    return next((bare[near] for near in difflib.get_close_matches(word.lstrip("-"), bare, n=1)), None)
