"""What a disk refuses, said plainly: it is full, or the folder is not there for a while."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raynas.remote import Remote, StoreError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
AWAY = {  # a share whose server is restarted, a ticket that ran out, a mount that was taken away
    errno.EACCES,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.EMFILE,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENFILE,
    errno.ENODEV,
    errno.ENOLCK,
    errno.ENOMEM,
    errno.ENOTCONN,
    errno.ENXIO,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


class DiskError(StoreError, OSError):
    """A disk that does not do what it was asked, and may do so later."""


@contextmanager
def on_disk(place: Path, writing: bool = False) -> Iterator[None]:
    """Says plainly what the operating system answers.

    Raises:
        DiskError: it may answer otherwise later; for whoever writes, also that there is no such
            folder.
        OSError: anything else.
    """
    try:
        yield
    except OSError as error:
        gone = writing and isinstance(error, FileNotFoundError)
        if isinstance(error, StoreError) or not (gone or error.errno in FULL | AWAY):
            raise
        told = DiskError(f"{place} cannot be {'written' if writing else 'read'}: {_why(error)}")
        told.errno = error.errno
        raise told from error


def listed(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder whose names match, in order; none if the run has no such folder.

    `Path.glob` takes a folder that cannot be read for an empty one.

    Raises:
        StoreError: nobody can say.
    """
    if isinstance(folder, Remote):
        return sorted(folder.glob(pattern))
    with on_disk(folder):
        try:
            found = [path for path in folder.iterdir() if path.match(pattern)]
        except FileNotFoundError:
            os.stat(folder.parent)
            return []
    return sorted(path for path in found if not path.name.startswith("."))


def _why(error: OSError) -> str:
    said = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in FULL:
        return f"{said}. Make room there."
    return f"{said}. See to it that the folder is there and may be used."
