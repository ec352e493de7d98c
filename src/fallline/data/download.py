"""A file from the first mirror that gives a good one; nothing else is left behind."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

MAX_BYTES = 256 << 20
_CHUNK = 1 << 16
_TIMEOUT = 30  # seconds of silence


def cache_dir() -> Path:
    """Where downloads are kept: FALLLINE_CACHE_DIR/data, or the system's place for caches."""
    chosen = os.environ.get("FALLLINE_CACHE_DIR")
    if chosen and chosen != "off":  # which is about kernels
        return Path(chosen).expanduser() / "data"
    import platformdirs

    return Path(platformdirs.user_cache_dir("fallline")) / "data"


def fetch(
    name: str,
    mirrors: Sequence[str],
    target: Path,
    check: Callable[[Path], T],
    *,
    max_bytes: int = MAX_BYTES,
    progress: bool | None = None,
) -> T:
    """Download `name` to `target` from the first of the mirrors whose file passes `check`.

    `check` raises ValueError for a file that is not the right one; what it returns for the right
    one is returned. When all mirrors fail, ConnectionError says what each of them did. `progress`
    is a bar on a terminal and one line elsewhere; False is silence.
    """
    if not mirrors:
        raise ConnectionError(f"fetch: {name} is missing, and no mirror may be asked.")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    # Beside the target, so that the last move cannot be torn; removed with all it holds.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
        draft = Path(folder) / target.name
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{name}"
            try:
                _download(url, draft, max_bytes, progress)
                checked = check(draft)
            except (OSError, ValueError) as error:
                failures.append(f"  {url}: {_reason(error)}")
                continue
            os.replace(draft, target)
            return checked
    raise ConnectionError("\n".join([f"fetch: {name} could not be downloaded:", *failures]))


def _download(url: str, target: Path, max_bytes: int, progress: bool | None) -> None:
    from pooch import HTTPDownloader

    with _Meter(url, max_bytes, progress) as meter:
        HTTPDownloader(progressbar=meter, chunk_size=_CHUNK, timeout=_TIMEOUT)(url, target, None)


class _Meter:
    """What pooch tells about a download: shown, and stopped where it exceeds every expectation."""

    def __init__(self, url: str, max_bytes: int, progress: bool | None) -> None:
        self.url = url
        self.max_bytes = max_bytes
        self.total = 0
        self.got = 0
        self.silent = progress is False
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> _Meter:
        if self.silent:
            return self
        if not sys.stderr.isatty():
            print(f"downloading {self.url}", file=sys.stderr)
            return self
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task(self.url, total=None)
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, size: int) -> None:
        self.got += size
        if self.got > self.max_bytes + _CHUNK:
            raise ValueError(f"it sends more than the {self.max_bytes:,} bytes that were expected")
        if self.bar is not None:
            self.bar.update(self.task, completed=self.got, total=self.total or None)

    def reset(self) -> None:
        self.got = 0

    def close(self) -> None:
        """Pooch's end of a download; the bar is stopped on leaving, also after an error."""


def _reason(error: Exception) -> str:
    """One line of what is often a chain of several libraries' errors."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", error))  # urllib3's own reason, where requests wraps it
