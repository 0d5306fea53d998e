"""Files that a reader sees whole, in a folder or in an object store: the one place that knows both.

On a path a file is written beside its place and renamed; in a store an object is replaced, which
nobody sees half done (`raynas.remote`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from raynas.disk import on_disk
from raynas.errors import UserError
from raynas.remote import Remote, StoreError, read_all, remote
from raynas.remote import remove as remove_objects

AT_ONCE = 32  # files of a store that are fetched together


def place(text: str | Path) -> Path:
    """A path or a URL as something to read and write by.

    What a URL gives is no `pathlib.Path`, and has what this package asks of one.

    Raises:
        UserError: the URL cannot be used here.
    """
    if isinstance(text, str) and "://" in text:
        if text.startswith("file://"):
            return Path(text.removeprefix("file://"))
        return cast(Path, remote(text))
    if isinstance(text, Path) and len(text.parts) > 1 and text.parts[0] in ("s3:", "gs:"):
        raise UserError(f"expected a URL as text, of which a Path drops a slash; got {text}.")
    return text if isinstance(text, Remote) else Path(text)


def write_table(path: Path, table: pa.Table) -> None:
    """Replaces a Parquet file at once and durably: readers see the old file or the new."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file at once and durably; may be tried again if it raises.

    Raises:
        StoreError: there is no room for it, or the place is not there; the old file is.
    """
    if isinstance(path, Remote):
        path.write_bytes(content)
        return
    temporary = path.with_name(f".{path.name}.tmp")  # the dot hides it from Parquet readers
    with on_disk(path, writing=True):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()  # it may be what fills the disk
            raise
        keep_names(path.parent)


def keep_names(folder: Path) -> None:
    """Returns when the names of new files in a folder would survive a crash."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file.

    Raises:
        FileNotFoundError: there is none.
        pyarrow.ArrowInvalid, OSError: it is broken.
        StoreError: the store or disk that it is in does not answer.
    """
    return _table(path.read_bytes() if isinstance(path, Remote) else path, columns)


def read_tables(
    paths: Sequence[Path], columns: list[str] | None = None
) -> Iterator[tuple[Path, pa.Table | Exception]]:
    """Several Parquet files in turn, each as a table or, if it is broken, as the error.

    Raises:
        StoreError: the store or disk that they are in does not answer.
    """
    for first in range(0, len(paths), AT_ONCE):
        some = paths[first : first + AT_ONCE]
        sources = read_contents(some) if isinstance(some[0], Remote) else some
        for path, source in zip(some, sources, strict=True):
            found: pa.Table | Exception
            try:
                found = _table(path if source is None else source, columns)
            except StoreError:  # it is not the file that is broken
                raise
            except (pa.ArrowInvalid, OSError) as error:
                found = error
            yield path, found


def read_contents(paths: Sequence[Path]) -> list[bytes | None]:
    """The contents of several files; None for one that is gone."""
    if paths and isinstance(paths[0], Remote):
        return read_all(cast(Sequence[Remote], paths))
    return [_content(path) for path in paths]


def remove(paths: Sequence[Path]) -> None:
    """Removes several files."""
    if paths and isinstance(paths[0], Remote):
        remove_objects(cast(Sequence[Remote], paths))
    else:
        for path in paths:
            path.unlink(missing_ok=True)


def move(path: Path, to: Path) -> None:
    """Gives a file another name beside it; what was there is replaced."""
    if isinstance(path, Remote):
        write_atomically(to, path.read_bytes())
        path.unlink()
    else:
        path.replace(to)


def _table(source: Path | bytes, columns: list[str] | None) -> pa.Table:
    if isinstance(source, bytes):
        return pq.read_table(pa.BufferReader(source), columns=columns, partitioning=None)
    with on_disk(source):
        return pq.read_table(source, columns=columns, partitioning=None)


def _content(path: Path) -> bytes | None:
    try:
        with on_disk(path):
            return path.read_bytes()
    except FileNotFoundError:
        return None
