"""Errors that a user can mend."""

import re


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line that says what is wrong, where, and what to do about it. The command
    line prints it without a traceback and exits with status 2.
    """


class SettingError(UserError):
    """A setting that is out of range or contradicts another one.

    Args:
      template: the message, with names of settings in braces: `{num_heads} must be at least 1`.

    >>> error = SettingError("{num_heads} must be at least 1")
    >>> str(error), error.with_flags
    ('num_heads must be at least 1', '--num-heads must be at least 1')
    """

    def __init__(self, template: str):
        super().__init__(re.sub(r"\{(\w+)\}", r"\1", template))
        self.with_flags = re.sub(
            r"\{(\w+)\}", lambda found: "--" + found[1].replace("_", "-"), template
        )
        """The message as a command line prints it."""


class FolderError(UserError):
    """A folder of results that is in use, or holds something other than what is asked for."""


class DataError(UserError):
    """Data other than those that a run was trained on."""


class DivergenceError(UserError):
    """Training whose losses or scores grow without bound or are not numbers."""


class SaveError(UserError):
    """A checkpoint that could not be written: the disk is full, or may not be written to."""


class LostPeerError(Exception):
    """Another process of the run has ended or cannot be reached."""


class StoppedError(Exception):
    """Training that was asked to end, by SIGTERM or a notice of preemption, and is saved."""
