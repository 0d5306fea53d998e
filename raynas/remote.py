"""A place in an object store, such as `s3://bucket/runs/first`, used like a `pathlib.Path`.

An object is written whole or not at all, and a reader sees the old one or the new one: there is
no rename, no lock and no folder. Credentials, region and endpoint come from the environment
(`AWS_PROFILE`, `AWS_ENDPOINT_URL`, ...) and are never part of a place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from raynas.errors import UserError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # of raynas, per kind of store
READS = 16  # objects that are fetched at once: each takes tens of milliseconds


class StoreError(UserError):
    """An object store, or a disk, that does not do what it was asked, and may do so later."""


class Remote(PurePosixPath):
    """A URL that any file system of fsspec knows; has what this package uses of a `Path`.

    Nothing is cached: what another process has written is seen. A folder is there as long as
    something is in it; making one does nothing.
    """

    def __str__(self) -> str:
        return f"{self.parts[0]}//{'/'.join(self.parts[1:])}"

    def exists(self) -> bool:
        """Whether there is an object or a folder.

        Raises:
            StoreError: the store does not answer (which must not pass for "no").
        """
        return self._kind() is not None

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def read_bytes(self) -> bytes:
        with asked(self):
            return bytes(self._system.cat_file(self._key))

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        """Replaces the object; returns when the store has it."""
        with asked(self, writing=True):
            self._system.pipe_file(self._key, content)

    def create(self, content: bytes) -> bool:
        """Writes the object if there is none; returns whether it did."""
        with asked(self, writing=True):
            try:
                self._system.pipe_file(self._key, content, mode="create")
            except FileExistsError:
                return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with asked(self):
                self._system.rm_file(self._key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def iterdir(self) -> Iterator[Remote]:
        try:
            with asked(self):
                found = self._system.ls(self._key, detail=False)
        except FileNotFoundError:
            return iter(())
        names = (key.rstrip("/").rpartition("/")[2] for key in found if key.rstrip("/"))
        own = self._key.rstrip("/").rpartition("/")[2]
        return iter([self / name for name in names if found != [self._key] or name != own])

    def glob(self, pattern: str) -> Iterator[Remote]:
        """The objects here whose names match: `*.parquet`."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder comes with what is written into it."""

    def resolve(self) -> Remote:
        return self

    @property
    def _system(self) -> Any:
        return _system(self.parts[0].rstrip(":"))

    @property
    def _key(self) -> str:
        return str(self._system._strip_protocol(str(self)))

    def _kind(self) -> str | None:
        try:
            with asked(self):
                return str(self._system.info(self._key)["type"])
        except FileNotFoundError:
            return None


def remote(url: str) -> Remote:
    """The place that a URL names.

    Raises:
        UserError: it is of no kind that is known, its client is not installed, or it holds a
            secret or a `..`.
    """
    from fsspec import available_protocols

    kind, _, rest = url.partition("://")
    if kind not in available_protocols():
        raise UserError(
            f"expected a folder, or a URL such as s3://BUCKET/RUN or gs://BUCKET/RUN; got {url}."
        )
    if "@" in rest.partition("/")[0] or "?" in rest:
        raise UserError(
            f"expected {kind}://BUCKET/RUN without a name, password or setting in it, as a run "
            "keeps how it was started. Give them in the environment (AWS_ACCESS_KEY_ID, "
            "AWS_ENDPOINT_URL, ...)."
        )
    if ".." in rest.split("/") or not all(rest.strip("/").partition("/")[::2]):
        raise UserError(f"expected {kind}://BUCKET/RUN, without '..'; got {url}.")
    _system(kind)
    return Remote(url)


def read_all(places: Sequence[Remote]) -> list[bytes | None]:
    """The contents of several objects, fetched side by side; None for one that is gone."""

    def content(place: Remote) -> bytes | None:
        try:
            return place.read_bytes()
        except FileNotFoundError:
            return None

    if not places:
        return []
    with ThreadPoolExecutor(min(READS, len(places))) as pool:
        return list(pool.map(content, places))


def remove(places: Sequence[Remote]) -> None:
    """Removes objects with as few requests as the store knows; those that are gone are fine."""
    if not places:
        return
    system = places[0]._system
    try:
        with asked(places[0].parent):
            system.rm([place._key for place in places])
    except FileNotFoundError:  # one is: then one after another
        for place in places:
            place.unlink(missing_ok=True)


@contextmanager
def asked(place: PurePosixPath, writing: bool = False) -> Iterator[None]:
    """Says plainly what a store answers; clients raise their own kinds of errors.

    Raises:
        FileNotFoundError: there is no such object.
        FileExistsError: there is one already.
        StoreError: anything else; for whoever writes, also that there is no such bucket.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, FileExistsError):
            raise
        if isinstance(error, FileNotFoundError) and not writing:
            raise
        cause = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise StoreError(
            f"{place} cannot be used: {cause}. See to it that the bucket is there, that the "
            "network reaches it, and that credentials and endpoint are in the environment."
        ) from error


@cache
def _system(kind: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(kind, use_listings_cache=False)
    except ImportError as error:
        extra = EXTRAS.get(kind)
        hint = f"pip install 'raynas[{extra}]'" if extra else str(error)
        raise UserError(f"{kind}:// needs a package that is not installed: {hint}.") from None
