"""Every failure a user can cause, with the exit code the command ends with.

| code | meaning |
| --- | --- |
| 0 | everything asked for was done |
| 1 | a fault of ours: an unexpected exception |
| 2 | the command line does not make sense |
| 3 | an input can't be read: missing, empty, truncated, not an image or video, too large |
| 4 | an output can't be written: folder missing or read-only, disk full, file exists |
| 5 | several files were asked for and some of them failed |
| 6 | a model is unknown, missing, damaged or unsafe to load |
| 130 | interrupted (Ctrl-C; 143 when terminated); nothing half-written is left behind |
"""

from typing import ClassVar


class UnfadeError(Exception):
    """A failure to be told to the user in one sentence: what, where, what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(UnfadeError):
    """The request itself does not make sense."""

    exit_code = 2


class InputError(UnfadeError):
    """An input file or folder can't be used."""

    exit_code = 3


class OutputError(UnfadeError):
    """An output can't be written."""

    exit_code = 4


class PartialError(UnfadeError):
    """Some of several files failed; the others are done."""

    exit_code = 5


class ModelError(UnfadeError):
    """A model is unknown, missing, damaged or unsafe to load."""

    exit_code = 6
