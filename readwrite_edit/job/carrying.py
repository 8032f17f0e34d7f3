"""Work in a run folder: lock, console, signals and a true state at every end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from readwrite_edit.align.trouble import as_run_error
from readwrite_edit.job.session import Session, StopAskedError
from readwrite_edit.runs.console import tee_console
from readwrite_edit.runs.signals import Interruption
from readwrite_edit.runs.writer import RunWriter

Found = TypeVar("Found")


def carry_out(
    writer: RunWriter, interruption: Interruption, work: Callable[[Session], Found], *, again: str, less: str
) -> Found | None:
    """Do a run's work, and leave its folder with the state that is true.

    Args:
        writer: Of the run folder; closed at the end.
        interruption: Signals heeded.
        work: Measures and writes.
        again: What to do after a stop or once trouble is put right, such as ``go on with COMMAND``.
        less: Options to lower where memory runs out.

    Returns:
        What the work returns; None where it was stopped.

    Raises:
        ReadWriteEditError: It failed; the folder says why.
    """
    folder = writer.folder
    with writer, tee_console(folder.console):
        session = Session(writer, lambda: interruption.asked)
        try:
            with interruption.patiently():
                found = work(session)
        except StopAskedError:
            session.close()
            writer.mark("stopped")
            session.say(f"stopped; {again}")
            return None
        except KeyboardInterrupt:
            writer.mark("stopped")
            raise
        except Exception as error:
            known = as_run_error(error, folder.path, again=again, less=less)
            if known is None:
                raise
            raise known from error
        finally:
            session.close()
        writer.mark("finished")
    return found
