"""What is read is bounded before it is held in memory; what is written is there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

LIMIT: Final = 2**26  # bytes of a text file: measured data, plans and ledgers take a hundredth of it


class UnreadableError(ValueError):
    """A file is missing, too large, or not in the form that it should have."""


def read_text(path: Path, /, *, limit: int = LIMIT) -> str:
    """Read a file of UTF-8 text.

    Raises:
        UnreadableError: missing, not a regular file, more than `limit` bytes, or not UTF-8.
    """
    try:
        # A pipe or a device has no size, and may have no end.
        if not path.is_file():
            raise UnreadableError(absence(path))
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise UnreadableError(f"it takes more than the limit of {limit} bytes")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error


def read_json(path: Path, /, *, limit: int = LIMIT) -> Any:
    """Read a file of JSON: RFC 8259, with no key twice in an object.

    Raises:
        UnreadableError: as `read_text`, or not JSON: NaN and infinities are not, and the depth of nesting is limited.
    """
    return parse_json(read_text(path, limit=limit))


def parse_json(text: str | bytes, /) -> Any:
    """Parse JSON as `read_json` does.

    >>> parse_json('{"steps": 3}')
    {'steps': 3}
    >>> parse_json('{"steps": NaN}')
    Traceback (most recent call last):
    membptt_theory.files.UnreadableError: not JSON (NaN is not a number)

    Raises:
        UnreadableError: not JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_unique)
    except UnreadableError:
        raise
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not JSON ({error})") from error


def absence(path: Path, /) -> str:
    """Return why there is no file to read at `path`."""
    return "it is a folder, a pipe or a device, not a file" if path.exists() else "there is no such file"


def write_whole(path: str | Path, write: Callable[[Path], object], /) -> None:
    """Let `write` fill a temporary neighbour of `path`, then rename it: readers see the old file or the new one."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        write(Path(temporary))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's 0600 would leave files that only their owner can read
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _no_number(constant: str) -> NoReturn:
    raise UnreadableError(f"not JSON ({constant} is not a number)")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise UnreadableError("not JSON (an object has the same key twice)")
    return members
