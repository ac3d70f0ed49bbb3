"""The data files of all measurements: one folder, one way to read, write and resume; needs no torch.

A file is JSON, written whole or not at all. It names its format, the command that wrote it, and the conditions it was
measured under (`bench.machine`); a measurement goes on where it was cut off, under the same conditions only.

A file holds what one kind of processor did. What another kind does lies beside it, its short name at the end of the
file's: `fig17.json`, `fig17_epyc26m2.json`. Whoever writes or goes on gives the plain name; whoever checks a claim
reads all of them (`processors`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from membptt_theory.files import UnreadableError, read_json, write_whole

DATA: Final = Path(__file__).parent / "data"
FIGURE: Final = "membptt-measured/1"  # the format of what is measured for one figure


class StoreError(ValueError):
    """A data file is missing, damaged, of another format, or was measured under other conditions."""


def path_of(name: str, /) -> Path:
    """Return where a measurement is kept."""
    return DATA / f"{name}.json"


def short_name(processor: str, /) -> str:
    """Return one word for a kind of processor or device, from what it calls itself: ``"epyc26m2"``, ``"h200"``.

    Files that were measured before `bench.machine` told family and model have the first word alone: ``"xeon"``.
    """
    kind = re.search(r" \(family (\d+), model (\d+)\)", processor)
    named = processor[: kind.start()] if kind else processor
    words = re.sub(r"\((?:R|TM|C)\)", " ", named, flags=re.IGNORECASE).split()
    makers = ("intel", "amd", "nvidia", "apple", "arm", "genuine")
    telling = [word for word in words if word.lower() not in makers]
    name = re.sub(r"[^a-z0-9]+", "", telling[0].lower()) if telling else ""
    return f"{name}{kind[1]}m{kind[2]}" if kind else name


def device_of(content: dict[str, Any], /) -> str | None:
    """Return what the processor or device that a file's data were measured on calls itself; ``None`` if it is not told.

    Measurements of methods tell it beside their data, those for figures as ``cpu``, some of these under ``conditions``.
    """
    about = content.get("conditions", content)
    name = (about.get("device_name") or about.get("cpu")) if isinstance(about, dict) else None
    return name if isinstance(name, str) else None


def own(path: Path, content: dict[str, Any], /) -> Path:
    """Return where data of this content belong: at `path`, or beside it, where that holds another processor's."""
    mine, held = _processor(content), _held(path)
    return path if not mine or held in (None, mine) else path.with_stem(f"{path.stem}_{mine}")


def processors(path: Path, /) -> dict[str, Path]:
    """Return the file of each processor that was measured, by short name; that at `path` is the first."""
    files = {_held(path) or "": path} if path.exists() else {}
    for other in sorted(path.parent.glob(f"{path.stem}_*.json")):
        name = other.stem.removeprefix(f"{path.stem}_")
        if _held(other) == name:
            files[name] = other
    return files


def read(path: Path, data_format: str, /) -> dict[str, Any]:
    """Read a data file, finished or not.

    Raises:
        StoreError: it is missing, damaged, or of another format.
    """
    try:
        content = read_json(path)
    except UnreadableError as error:
        raise StoreError(f"{path.name} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path.name} is no measured data: it holds no JSON object")
    other = content.get("format")
    if other != data_format:
        raise StoreError(f"{path.name} has format {other!r}; this version reads {data_format!r}")
    return dict(content)


def save(path: Path, content: dict[str, Any], /) -> None:
    """Write JSON, whole or not at all, to its processor's file: a reader sees the old file or the new one."""
    path = own(path, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def resume(path: Path, fresh: dict[str, Any], grows: Sequence[str], /) -> dict[str, Any]:
    """Return what was measured so far, or `fresh` where nothing was.

    Args:
        path: the data file, whose processor's is gone on with.
        fresh: an empty record under today's conditions, its format included.
        grows: its keys that a measurement fills. The command is no condition either.

    Raises:
        StoreError: damaged, or measured under other conditions; names them.
    """
    path = own(path, fresh)
    if not path.exists():
        return fresh
    content = read(path, fresh["format"])
    if content.keys() != fresh.keys():
        raise StoreError(f"{path.name}: it does not have the keys {sorted(fresh)}")
    other = [key for key in fresh if key not in (*grows, "command") and content[key] != fresh[key]]
    if other:
        raise StoreError(f"{path.name} was measured with another {', '.join(other)}: move it away to measure afresh")
    return content


def read_figure(name: str, path: Path | None = None, /) -> dict[str, Any]:
    """Read what was measured for figure `name`, finished or not, as `save_figure` was given it.

    Args:
        name: of the figure.
        path: a processor's file, where it is not the first one's.

    Raises:
        StoreError: the file is missing, damaged, of another format, or holds another figure's data.
    """
    path = path or path_of(name)
    content = read(path, FIGURE)
    del content["format"]
    if content.get("figure") != name:
        raise StoreError(f"{path.name} does not hold the data of {name}")
    return content


def save_figure(name: str, content: dict[str, Any], /) -> None:
    """Write what was measured for figure `name`, and the format's name."""
    save(path_of(name), {**content, "format": FIGURE})


def _processor(content: Any) -> str | None:
    name = device_of(content) if isinstance(content, dict) else None
    return short_name(name) if name else None


def _held(path: Path) -> str | None:
    try:
        return _processor(read_json(path)) if path.exists() else None
    except UnreadableError:  # which whoever reads it is told
        return None
