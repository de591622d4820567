"""Errors that a user can fix, and the exit codes of all commands."""

from __future__ import annotations

EXIT_USAGE = 2
"""The command line or the configuration is wrong, or settings contradict each other."""
EXIT_DATA = 3
"""Input is missing, damaged or does not match."""
EXIT_NUMERIC = 4
"""The loss or the gradient is not finite."""
EXIT_LOST = 76
"""A training has lost a rank, a host, a process that reads ahead or its shards for a while, got stuck, or run out of
GPU memory and lowered its micro-batch: the experiment is right, and the same command resumes it."""


class UserError(Exception):
    """An error that the user can fix; it is printed as one message without a traceback.

    The message says what is wrong and where (file:line, shard:block, language), what was expected and what was found.
    `hint` says what to do next, as a command if possible.
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


class LostError(UserError):
    """Something that may be there again soon is gone: a process that was killed, or a file system."""

    exit_code = EXIT_LOST


class NumericError(UserError):
    """The loss or the gradient of training is not finite."""

    exit_code = EXIT_NUMERIC
