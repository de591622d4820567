"""The errors a user can mend, and the exit codes of every command."""

from __future__ import annotations

EXIT_USAGE = 2
"""Wrong command line, configuration or combination of settings."""
EXIT_DATA = 3
"""Input that is missing, damaged or does not fit."""
EXIT_NUMERIC = 4
"""The loss or the gradient is no longer a finite number."""


class UserError(Exception):
    """Something the user can mend. Printed as one message without a traceback.

    The message says what is wrong and where (file:line, shard:block, language), what was expected
    and what was found; `hint` is the next thing to do, a command where there is one.
    """

    exit_code = EXIT_USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class ConfigError(UserError):
    """A setting is unknown, malformed or contradicts another one."""


class DataError(UserError):
    """An input file, shard or checkpoint is missing, damaged or does not match."""

    exit_code = EXIT_DATA


class NumericError(UserError):
    """Training produced a number that is not finite."""

    exit_code = EXIT_NUMERIC
