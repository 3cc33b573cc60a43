"""How the command ends: one sentence and an exit code for every failure, and a clean stop on Ctrl-C."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

_STOPPED = {130: "interrupted", 143: "terminated"}
# A second Ctrl-C within this time would disturb the clean-up of the first.
_PATIENCE = 1.0
# How long a stop that came at a moment when it would be lost is put off, again and again.
_DELAY = 0.02


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with the code documented in `unfade.core.errors`."""
    from unfade.cli.app import app

    given = list(sys.argv[1:] if arguments is None else arguments)
    given, debug = _without_debug(given)
    for stream in (sys.stdout, sys.stderr):
        # File names may hold what the terminal's encoding can't say.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with _stoppable():
            app(args=given, prog_name="unfade")
    except SystemExit as end:
        if end.code in _STOPPED:
            _tell_stop(int(end.code or 0))
        raise
    except KeyboardInterrupt:
        _tell_stop(130)
        sys.exit(130)
    except Exception as error:
        sys.exit(_tell_failure(error, debug))
    sys.exit(0)


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    asked = len(options) < end or os.environ.get("UNFADE_DEBUG", "0") not in ("", "0")
    return options + arguments[end:], asked


def _tell_failure(error: Exception, debug: bool) -> int:
    """Prints what happened to stderr and gives the exit code."""
    if debug:
        traceback.print_exception(error)
    # A failure of ours can only have been raised by a module that has loaded the errors.
    if "unfade.core.errors" in sys.modules:
        from unfade.core.errors import UnfadeError

        if isinstance(error, UnfadeError):
            typer.echo(f"error: {error}", err=True)
            return error.exit_code
    hint = "" if debug else "; run it again with --debug to see where"
    typer.echo(f"fault: {type(error).__name__}: {' '.join(str(error).split())}{hint}", err=True)
    return 1


def _tell_stop(code: int) -> None:
    typer.echo(f"{_STOPPED[code]}; what was finished is kept, nothing is half-written", err=True)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turns SIGINT and SIGTERM into exceptions, so that temporary files are removed on the way out."""
    last = 0.0
    running = True

    def again(number: int) -> None:
        if running:
            signal.raise_signal(number)

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if _called_by_libvips(frame):
            later = threading.Timer(_DELAY, again, [number])
            later.daemon = True
            later.start()
            return
        now = time.monotonic()
        if last and now - last < _PATIENCE:
            return
        last = now
        if number == signal.SIGTERM:
            raise SystemExit(128 + number)
        raise KeyboardInterrupt

    before = {}
    # Python lets only the main thread handle signals.
    mine = threading.current_thread() is threading.main_thread()
    for number in (signal.SIGINT, signal.SIGTERM) if mine else ():
        # Whoever ignores a signal (nohup, a background job) has a reason.
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        running = False
        for number, handler in before.items():
            signal.signal(number, handler)


def _called_by_libvips(frame: FrameType | None) -> bool:
    """Whether Python runs on behalf of C code there, which would swallow an exception.

    A signal that comes while libvips works is handled as soon as any Python runs, and that is libvips telling
    its log that it has finished.
    """
    while frame is not None:
        code = frame.f_code
        if (
            code.co_name.startswith(("_log_handler", "_marshal"))
            and Path(code.co_filename).parent.name == "pyvips"
        ):
            return True
        frame = frame.f_back
    return False
