"""What all command lines share: flat flags, exit codes, output, and one line for every mistake.

Without JAX, so that help and errors come at once.
"""

import contextlib
import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from mqsa_jax import hosts
from mqsa_jax.config import RunConfig
from mqsa_jax.errors import SettingError, StoppedError, UserError

Parsed = TypeVar("Parsed")
Command = Callable[[str, Sequence[str]], None]
"""Takes the program's name, as the user typed it, and the arguments."""
LOST_PEER = 69
"""Exit code after another process of the run has ended: EX_UNAVAILABLE of sysexits.h."""
LOST = (
    "another process of this run has ended, or cannot be reached; what it said tells why; run all "
    "of them again to go on from the last checkpoint"
)
STOPPED = 75
"""Exit code of training that was asked to end and goes on when run again: EX_TEMPFAIL."""


def run_command(
    program: str,
    command: Command,
    arguments: Sequence[str] | None,
    hints: Mapping[type[UserError], str] | None = None,
) -> int:
    """Runs a command; returns its exit code.

    Args:
      program: its name in messages.
      command: what to run.
      arguments: of the command; None: those of the process.
      hints: what the command adds to a kind of error, for example the flags that help.

    Returns:
      0; 2 after an error that the user can mend, told in one line on stderr; 69 if another process
      of the run has ended; 75 if training was asked to end and is saved; 130 if interrupted.
    """
    with _patient_output(), warnings.catch_warnings():
        _show_warnings(program)
        try:
            code = _run(program, command, arguments, hints or {})
        except BaseException:
            if hosts.num_processes() > 1:
                traceback.print_exc()
                hosts.leave(1, together=False)
            raise
        hosts.leave(code, together=code in (0, STOPPED))
    return code


def _run(
    program: str,
    command: Command,
    arguments: Sequence[str] | None,
    hints: Mapping[type[UserError], str],
) -> int:
    """Runs a command and tells of its errors; returns its exit code."""
    try:
        command(program, sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        return _told(f"{program}: error: {_message(error, hints)}", 2)
    except FloatingPointError as error:
        return _told(f"{program}: error: {error}; the run has diverged", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _told(f"{program}: error: {where}{error.strerror or error}", 2)
    except KeyboardInterrupt:
        return _told(f"{program}: interrupted; run it again to continue", 130)
    except StoppedError as error:
        return _told(f"{program}: {error}", STOPPED) if hosts.is_first() else STOPPED
    except Exception as error:
        if not hosts.means_lost_peer(error):
            raise
        return _told(f"{program}: error: {LOST}", LOST_PEER)
    return 0


def _told(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code


def join_hosts(run: RunConfig) -> None:
    """Joins the other processes of a run; only the first prints from here on.

    Errors are told by each process that meets them.
    """
    hosts.join(run.coordinator_address, run.num_processes, run.process_id)
    if not hosts.is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        warnings.simplefilter("ignore")


def _message(error: UserError, hints: Mapping[type[UserError], str]) -> str:
    text = error.with_flags if isinstance(error, SettingError) else str(error)
    return "; ".join([text, *(hint for kind, hint in hints.items() if isinstance(error, kind))])


def _show_warnings(program: str) -> None:
    def show_warning(message, category, filename, lineno, file=None, line=None):
        print(f"{program}: warning: {message}", file=sys.stderr)

    warnings.showwarning = show_warning


class _PatientStream:
    """A text stream that goes on without its reader.

    The reader of a pipe may leave early, as `head` does, or a disk may be full. What is printed
    then is dropped: the results are in files, and hours of training are worth more than a line.
    """

    def __init__(self, stream: io.TextIOBase):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, or drops the text where that fails."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flushes, or drops what was not written yet."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Sends the rest, and what the stream still holds, to the null device."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)
        if error.errno != errno.EPIPE:
            warnings.warn(f"output is lost: {error.strerror}", UserWarning, stacklevel=4)


@contextlib.contextmanager
def _patient_output() -> Iterator[None]:
    """Makes stdout and stderr survive lost readers, and names that they cannot encode."""
    before = sys.stdout, sys.stderr
    streams = [io.StringIO() if stream is None else stream for stream in before]
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = map(_PatientStream, streams)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """The value of `--flag VALUE` or `--flag=VALUE`, the last one given; `_` serves as `-`."""
    value = None
    for index, argument in enumerate(arguments):
        name, equals, text = argument.partition("=")
        if name.replace("_", "-") != f"--{flag}":
            continue
        if equals:
            value = text
        elif index + 1 < len(arguments):
            value = arguments[index + 1]
    return value


def numbers(flag: str, text: str, kind: type) -> list[float | int]:
    """The numbers of a comma list, each once.

    Raises:
      UserError: naming the flag, if one is not a number of that kind.
    """
    try:
        return list(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise UserError(f"--{flag} takes {what} with commas between them, got {text}") from None


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
