"""What all command lines share: flat flags, exit codes, and one line for every mistake.

Without JAX, so that help and errors come at once.
"""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import tyro

from mqsa_jax.errors import UserError

Parsed = TypeVar("Parsed")


def run_command(
    program: str, command: Callable[[Sequence[str]], None], arguments: Sequence[str]
) -> int:
    """Runs a command; returns its exit code. What a user can mend is told in one line on stderr."""

    def show_warning(message, category, filename, lineno, file=None, line=None):
        print(f"{program}: warning: {message}", file=sys.stderr)

    warnings.showwarning = show_warning
    try:
        command(arguments)
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"{program}: error: {error}; train again with a smaller --lr", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Who read the output has left, as `head` does; there is nobody to complain to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{program}: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; run it again to continue", file=sys.stderr)
        return 130
    return 0


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """The value of `--flag VALUE` or `--flag=VALUE`, the last one given."""
    value = None
    for place, argument in enumerate(arguments):
        if argument == f"--{flag}" and place + 1 < len(arguments):
            value = arguments[place + 1]
        elif argument.startswith(f"--{flag}="):
            value = argument.split("=", 1)[1]
    return value


def parse(
    program: str,
    into: type[Parsed],
    arguments: Sequence[str],
    description: str | None,
    default: Parsed | None = None,
) -> Parsed:
    """Parses flat flags, hyphens or underscores; raises UserError in one line."""
    options = {} if default is None else {"default": default}
    with _one_line_errors():
        return tyro.cli(
            into,
            prog=program,
            args=list(arguments),
            description=description,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
            **options,
        )


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turns tyro's framed messages into a UserError of one line."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        # The frame is drawn in ASCII where stderr is not UTF-8.
        lines = [line.strip("│| ") for line in box.getvalue().splitlines()]
        message = " ".join(line for line in lines[1:] if line.strip("╭╮╰╯─-+ "))
        message = message.split("For full helptext")[0].strip().rstrip(".")
        raise UserError(f"{message}; see --help") from None
