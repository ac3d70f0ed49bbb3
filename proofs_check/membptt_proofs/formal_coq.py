"""Coq, as a program: what `proofs_check/formal` holds, compiled in a folder of its own, and what it then answers."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1] / "formal"
OUT: Final = ROOT / "out"
LIBRARY: Final = "Membptt"
# Their computations take minutes each.
SLOW: Final = frozenset({"Five", "Six", "Slow"})
ABSENT: Final = "Coq is not installed: no coqc on the path. Install it with: apt-get install coq"

_REQUIRE = re.compile(rf"From {LIBRARY} Require(?: Import| Export)?((?:\s+\w+)+)\.")
_COMMENT = re.compile(r"\(\*|\*\)")


class CoqError(Exception):
    """Coq is absent, or refused a file; the message is what it said."""


def installed() -> bool:
    """Return whether there is a Coq to check with."""
    return shutil.which("coqc") is not None


@cache
def version() -> str:
    """Return the name and version of Coq.

    Raises:
        CoqError: Coq is absent.
    """
    return _run(["coqc", "--version"], ROOT).splitlines()[0].removeprefix("The ")


def sources(root: Path = ROOT, /, *, slow: bool = True) -> dict[str, Path]:
    """Return the files of the development by name, each after those that it requires.

    Args:
        root: the folder.
        slow: with the files of `SLOW`.

    Raises:
        CoqError: two files of a name, a file that is required and not there, or files that require one another.
    """
    paths: dict[str, Path] = {}
    for path in sorted(root.rglob("*.v")):
        if path.is_relative_to(root / "out"):
            continue
        if path.stem in paths:
            raise CoqError(f"two files are named {path.name}: {paths[path.stem]} and {path}")
        paths[path.stem] = path
    ordered: dict[str, Path] = {}

    def visit(name: str, below: tuple[str, ...]) -> None:
        if name in below:
            raise CoqError(f"these files require one another: {' '.join((*below, name))}")
        if name not in paths:
            raise CoqError(f"{below[-1]}.v requires {name}, and there is no such file")
        if name not in ordered:
            for other in required(paths[name].read_text("utf-8")):
                visit(other, (*below, name))
            ordered[name] = paths[name]

    for name in paths:
        if slow or name not in SLOW:
            visit(name, ())
    return ordered


def required(text: str, /) -> list[str]:
    """Return the names of the development's own files that a file requires."""
    return [name for names in _REQUIRE.findall(without_comments(text)) for name in names.split()]


def without_comments(text: str, /) -> str:
    """Return a file without its comments, which may hold comments in turn."""
    kept, depth, last = [], 0, 0
    for mark in _COMMENT.finditer(text):
        if depth == 0:
            kept.append(text[last : mark.start()])
        depth += 1 if mark[0] == "(*" else -1
        last = mark.end()
    return "".join([*kept, text[last:]])


def build(
    names: Iterable[str] | None = None,
    *,
    slow: bool = False,
    fresh: bool = False,
    progress: Callable[[Sequence[str]], Iterable[str]] = iter,
    out: Path = OUT,
) -> list[str]:
    """Compile what is not compiled yet, in `out`; return the names of the files compiled now.

    A file is compiled again where it, but for comments and spaces, a file that it requires, or Coq has changed since.

    Args:
        names: the files that are needed, with those that they require; ``None``: all.
        slow: with the files of `SLOW`.
        fresh: forget what is compiled.
        progress: wraps the names of the files to go through.
        out: the folder to compile in.

    Raises:
        CoqError: Coq is absent, or refused a file.
    """
    files = sources(slow=slow)
    if names is not None:
        files = {name: files[name] for name in _needed(names, files)}
    with _alone(out):
        stamps: dict[str, str] = {}
        compiled = []
        for name in progress(list(files)):
            text = files[name].read_text("utf-8")
            words = without_comments(text).split()
            key = "\n".join([version(), *words, *(stamps[other] for other in required(text))])
            stamps[name] = hashlib.sha256(key.encode()).hexdigest()
            copy = out / files[name].relative_to(ROOT)
            stamp = copy.with_suffix(".stamp")
            if not fresh and stamp.is_file() and stamp.read_text("utf-8") == stamps[name]:
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            stamp.unlink(missing_ok=True)
            copy.write_text(text, encoding="utf-8")
            coqc(copy, out)
            stamp.write_text(stamps[name], encoding="utf-8")
            compiled.append(name)
    return compiled


def _needed(names: Iterable[str], files: dict[str, Path]) -> list[str]:
    needed = set(names)
    for name in reversed(files):
        if name in needed:
            needed.update(required(files[name].read_text("utf-8")))
    return [name for name in files if name in needed]


def ask(commands: Iterable[tuple[str, str]], *, requires: str, out: Path = OUT) -> dict[str, str]:
    """Return what Coq answers to each of the commands, by its name.

    Args:
        commands: names, and one command each.
        requires: the names of the files to load; nothing of ours is imported, so that Coq answers in full names.
        out: the folder that they were compiled in.

    Raises:
        CoqError: Coq is absent, or refused a command.
    """
    lines = [
        "Require Import Arith List Bool. Import ListNotations.",
        f"From {LIBRARY} Require {requires}.",
        "Set Printing Width 110. Set Printing Depth 10000.",
    ]
    for name, command in commands:
        lines += [f'Goal True. idtac "@@ {name}". exact I. Qed.', command]
    with _alone(out):
        (out / "Questions.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
        answer = coqc(out / "Questions.v", out)
    parts = re.split(r"^@@ (.*)\n", answer, flags=re.M)[1:]
    return {name: _tidy(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _tidy(text: str) -> str:
    """Leave out how arguments are to be read, and spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.partition("\n\nArguments ")[0].strip().splitlines())


def check_text(name: str, text: str, *, out: Path = OUT) -> None:
    """Let Coq check a file that was generated, beside what is compiled.

    Raises:
        CoqError: Coq is absent, or refused the file.
    """
    with _alone(out):
        (out / f"{name}.v").write_text(text, encoding="utf-8")
        coqc(out / f"{name}.v", out)


def coqc(path: Path, out: Path = OUT, /) -> str:
    """Compile one file and return what Coq printed.

    Raises:
        CoqError: Coq is absent, or refused the file.
    """
    return _run(["coqc", "-q", "-Q", str(out), LIBRARY, str(path)], out)


def coqchk(names: Iterable[str], out: Path = OUT, /) -> str:
    """Let Coq's independent checker check compiled files and all that they rest on; return its summary.

    Raises:
        CoqError: Coq is absent, or the checker refused a file.
    """
    # Its summary goes to the standard error.
    modules = (f"{LIBRARY}.{name}" for name in names)
    return _run(["coqchk", "-o", "-Q", str(out), LIBRARY, *modules], out, errors=True)


def _run(command: list[str], folder: Path, *, errors: bool = False) -> str:
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CoqError(ABSENT) from error
    if result.returncode:
        raise CoqError(f"{command[0]} refused {Path(command[-1]).name}:\n{(result.stderr or result.stdout).strip()}")
    return result.stdout + result.stderr if errors else result.stdout


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other processes out of the folder meanwhile."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
