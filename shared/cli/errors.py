"""What becomes of an error in a command: one line that says what is wrong, and an exit status."""

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import typer

from shared.errors import BowerbirdError


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. Like KeyboardInterrupt, it passes through everything that cleans up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class CommandError(BowerbirdError):
    """The command cannot do what was asked; the text says why and what to do."""


class WrongCallError(CommandError):
    """What was typed cannot be meant; exit status 2."""


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Run a command's body: its errors become one line on standard error and exit status 1 (wrongly called: 2).

    Under ``BOWERBIRD_LOG_LEVEL=DEBUG`` the traceback goes before the line. Ctrl-C is left to typer (status 130).
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _terminate)
    try:
        yield
    except typer.Exit:
        raise
    except Terminated as error:
        raise typer.Exit(128 + error.number) from None
    except BrokenPipeError:  # whoever read our output has enough, such as `| head`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  or the interpreter fails flushing it at exit
        raise typer.Exit(1) from None
    except Exception as error:  # noqa: BLE001  the edge: nothing above us but the user
        _fail(error)


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


def _fail(error: Exception) -> NoReturn:
    from shared.publications import InvalidCollectionError

    if logging.getLogger().isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    print(f"Error: {explain(error)}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(2 if isinstance(error, WrongCallError | InvalidCollectionError) else 1) from None


def explain(error: Exception) -> str:
    """Return what to tell a person about an error: our own texts as they are, others with what they are about."""
    from shared.logging import mask

    if isinstance(error, BowerbirdError):
        return mask(str(error))
    text = " ".join(mask(str(getattr(error, "orig", None) or error)).split())
    if type(error).__module__.partition(".")[0] in ("sqlalchemy", "psycopg2"):
        return f"The database refused or cannot be reached: {text}"
    if isinstance(error, OSError):
        return text
    return f"Unexpected {type(error).__name__}: {text} (BOWERBIRD_LOG_LEVEL=DEBUG shows where.)"
