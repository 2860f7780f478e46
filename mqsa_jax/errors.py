"""The error that a user can mend."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line that says what is wrong, where, and what to do about it. The command
    line prints it without a traceback and exits with status 2.
    """
