"""Parts of a remote wheel: a local file of the wheel's size whose holes are filled as they are asked for."""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from kernel_builder.errors import FetchError, Problem
from kernel_builder.sdk.connections import redact_url
from kernel_builder.sdk.index import Link
from kernel_builder.sdk.spans import Journal, Span, coalesce_spans, is_covered, subtract_spans
from kernel_builder.sdk.transport import InterruptedTransferError, Stream, Transport

_ATTEMPTS = 4
_PAUSE = 0.2
_LARGEST_WHEEL = 16 << 30
_EMPTY_ARCHIVE = 22


class DamagedWheelError(FetchError):
    """Bytes that came are not what the wheel or its index say; none is kept, since fetched again they may be right."""


class PartialWheel:
    """A wheel of which only parts are here. Give it a directory that nobody else uses; what was left there counts.

    tail: bytes at its end that are read first, for the list of files and RECORD. A server that does not know ranges
    sends the whole wheel once, and that is kept.
    """

    def __init__(self, link: Link, directory: Path, transport: Transport, *, tail: int) -> None:
        self._link = link
        self._tail = tail
        self._transport = transport
        self._file = directory / "wheel"
        self._size_file = directory / "size"
        self._journal = Journal.load(directory / "spans")
        self._local = link.path
        self._size = self._load_size()

    @property
    def is_whole(self) -> bool:
        """Whether every byte is here, so that the wheel's own digest can be checked."""
        return self._local is not None or (self._size is not None and self._journal.spans == [(0, self._size)])

    @property
    def size(self) -> int:
        """Bytes of the whole wheel."""
        if self._size is None:
            self.fetch_tail()
        return self._size or 0

    def discard(self) -> None:
        """Forget everything that came."""
        self._forget()
        self._size = self._load_size()

    def fetch_tail(self) -> None:
        """Bring the end of the file; from a server that only counts from the front its length first."""
        if self._local is not None and self._size is None:
            problem = f"`{self._local}` is not there"
            raise FetchError(Problem(problem, hint="correct `find-links` or the index URL in pip's configuration"))
        if self._size is None:
            self._transfer_tail()
        if self._size is None:
            self._fetch_span(0, 1)
        size = self._size or 0
        self.fetch([(max(0, size - self._tail), size)])

    def fetch(self, spans: Iterable[Span]) -> None:
        """Bring these spans, with those that lie close in one request. Raises `FetchError`."""
        if self._local is not None:
            return
        for start, stop in coalesce_spans(spans, self._journal.spans):
            self._fetch_span(start, stop)

    def has(self, span: Span) -> bool:
        """Whether these bytes are here."""
        return self._local is not None or is_covered(span, self._journal.spans)

    def open(self) -> IO[bytes]:
        """The file for reading; bytes that were not fetched read as zeros."""
        return (self._local or self._file).open("rb")

    @contextlib.contextmanager
    def open_archive(self) -> Iterator[zipfile.ZipFile]:
        """The wheel as an archive, with its list of files. Raises `FetchError` when it is none."""
        self.fetch_tail()
        with _Watched(self) as file:
            archive = self._read_list(file)
            if archive is None:
                raise self._lies("its list of files is damaged")
            with archive:
                yield archive

    def _read_list(self, file: _Watched) -> zipfile.ZipFile | None:
        """The archive; None when it is none."""
        for _ in range(2):
            try:
                return zipfile.ZipFile(file)
            except _Unfetched as gap:
                self.fetch([(gap.start, self.size)])  # a longer list than most; its start is known now
            except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                break
        return None

    def _fetch_span(self, start: int, stop: int) -> None:
        """Fetch with retries that go on where the last one broke off."""
        failures = 0
        while not is_covered((start, stop), self._journal.spans):
            missing = next(iter(subtract_spans((start, stop), self._journal.spans)))
            before = sum(last - first for first, last in self._journal.spans)
            try:
                self._transfer(*missing)
            except InterruptedTransferError as error:
                progressed = sum(last - first for first, last in self._journal.spans) > before
                failures = 0 if progressed else failures + 1
                if failures >= _ATTEMPTS:
                    raise FetchError(
                        Problem(
                            f"`{redact_url(self._link.url)}` broke off {_ATTEMPTS} times at byte {missing[0]}: {error}",
                            hint="what came is kept: run the command again to go on from there",
                        )
                    ) from error
                if failures:
                    time.sleep(_PAUSE * 2**failures)

    def _transfer_tail(self) -> None:
        """Try to bring the tail in one request; not every server counts from the end."""
        stream = self._transport.open_tail(self._link.url, self._tail)
        if stream is not None:
            with contextlib.suppress(InterruptedTransferError):  # what is missing is fetched again
                self._write(stream)

    def _transfer(self, start: int, stop: int) -> None:
        """One request, written to its place block by block."""
        self._write(self._transport.open_range(self._link.url, start, stop))

    def _write(self, stream: Stream) -> None:
        if stream.total is None:
            self._write_unmeasured(stream)
            return
        self._keep_size(stream.total)
        position = stream.start
        with self._file.open("r+b") as file:
            file.seek(position)
            for block in stream.blocks:
                if position + len(block) > stream.total:
                    raise self._lies("it sends more than it announced")
                file.write(block)
                file.flush()
                self._journal.add((position, position + len(block)))
                position += len(block)
        if not stream.is_partial and position < stream.total:
            raise InterruptedTransferError(f"{position} of {stream.total} bytes came")

    def _write_unmeasured(self, stream: Stream) -> None:
        """A whole wheel from a server that does not say how long it is: it ends where the answer ends."""
        position = 0
        with self._file.with_name("stream").open("wb") as file:
            for block in stream.blocks:
                position += len(block)
                if position > _LARGEST_WHEEL:
                    raise self._lies("it does not end")
                file.write(block)
        self._keep_size(position)
        self._file.with_name("stream").replace(self._file)
        self._journal.add((0, position))

    def _keep_size(self, total: int) -> None:
        if self._size is not None and self._size != total:
            raise self._lies(f"the wheel has {total} bytes now and had {self._size} before")
        if not _EMPTY_ARCHIVE <= total <= _LARGEST_WHEEL:
            raise self._lies(f"a file of {total} bytes is no wheel")
        self._size = total
        if not self._file.exists():
            with self._file.open("wb") as file:
                file.truncate(total)
            self._size_file.write_text(f"{total}\n", encoding="ascii")

    def _load_size(self) -> int | None:
        if self._local is not None:
            return self._local.stat().st_size if self._local.is_file() else None
        try:
            size = int(self._size_file.read_text(encoding="ascii"))
            if self._file.stat().st_size == size:
                return size
        except (OSError, ValueError):
            pass
        self._forget()
        return self._link.size

    def _forget(self) -> None:
        for path in (self._journal.path, self._size_file, self._file, self._file.with_name("stream")):
            path.unlink(missing_ok=True)
        self._journal.spans = []

    def _lies(self, reason: str) -> DamagedWheelError:
        return DamagedWheelError(
            Problem(f"`{redact_url(self._link.url)}` cannot be used: {reason}", hint="try again, or use another index")
        )


class _Unfetched(Exception):  # noqa: N818 - not an error: it asks for more
    """A reader wants bytes that are not here."""

    def __init__(self, start: int) -> None:
        super().__init__(f"byte {start} was not fetched")
        self.start = start


class _Watched(io.RawIOBase):
    """The file of a partial wheel, which refuses to read a hole as zeros."""

    def __init__(self, wheel: PartialWheel) -> None:
        self._wheel = wheel
        self._file = wheel.open()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        start = self._file.tell()
        stop = self._wheel.size if size < 0 else min(start + size, self._wheel.size)
        if start < stop and not self._wheel.has((start, stop)):
            raise _Unfetched(start)
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        super().close()
