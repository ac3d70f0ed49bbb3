"""The headline theorems of `proofs_check/formal`: what each says, which claims it proves, and whether Coq agrees today.

`theorems.toml` lists them; `statements.txt` holds their statements as Coq prints them, with every definition that these
rest on, down to the machine. A theorem is checked when Coq has compiled it, says that it assumes nothing, and prints
statement and definitions as they are committed: nobody can weaken one unnoticed.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from membptt_proofs import formal_coq as coq

# A wheel carries a copy inside the package.
_INSTALLED: Final = Path(__file__).with_name("theorems.toml")
LIST: Final = _INSTALLED if _INSTALLED.exists() else coq.ROOT / "theorems.toml"
STATEMENTS: Final = coq.ROOT / "statements.txt"
NO_ASSUMPTIONS: Final = "Closed under the global context"
NOT_CHECKED: Final = "not checked here: coq is not installed"

# What would let a proof rest on something unproved. `Variable` and `Hypothesis` are allowed inside sections only.
FORBIDDEN: Final = re.compile(
    r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjectures?|Declare|Module\s+Type|"
    r"Unset\s+\w+\s+Checking|bypass_check|"
    r"Require\s+(?:Import\s+|Export\s+)?[\w.\s]*(?:Classical|Axiom|Extensionality|Reals)\w*)"
)
_OPENS = re.compile(r"\b(Section|Module)\s+(\w+)\s*\.|\bEnd\s+(\w+)\s*\.|\b(Variables?|Hypothes[ie]s|Context)\b")
_NAME = re.compile(r"\b([A-Z]\w*)\.(\w+)\b")


class StatementError(Exception):
    """The list of theorems, or of statements, is not as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theorem:
    """One headline theorem.

    Args:
        name: its name in Coq.
        file: the file that states it in the words of the model, relative to `proofs_check/formal`.
        proof: the file with its proof.
        statement: what it says, in words and plain mathematics.
        proves: ids of the claims that it proves for all sizes, where need be with the other theorems that name them.
        supports: ids of the claims of which it proves a part, or a sharper version.
        refutes: ids of the claims that it shows false.
    """

    name: str
    file: str
    proof: str
    statement: str
    proves: tuple[str, ...] = ()
    supports: tuple[str, ...] = ()
    refutes: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The name of its file in Coq."""
        return Path(self.file).stem

    @property
    def slow(self) -> bool:
        """Whether its computation takes minutes."""
        return self.module in coq.SLOW

    @property
    def key(self) -> str:
        """Its full name in Coq."""
        return f"{self.module}.{self.name}"


def theorems(*, slow: bool = True) -> tuple[Theorem, ...]:
    """Return the headline theorems in the order of the list.

    Raises:
        StatementError: the list is not well formed.
    """
    return tuple(theorem for theorem in _load(LIST.read_text("utf-8")) if slow or not theorem.slow)


@cache
def _load(text: str) -> tuple[Theorem, ...]:
    try:
        rows: list[dict[str, Any]] = tomllib.loads(text)["theorem"]
        listed = tuple(
            Theorem(**{**row, **{key: tuple(row.get(key, ())) for key in ("proves", "supports", "refutes")}})
            for row in rows
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise StatementError(f"{LIST.name} is not a list of theorems ({error})") from error
    if len({theorem.name for theorem in listed}) != len(listed):
        raise StatementError(f"{LIST.name} lists a theorem twice")
    return listed


def gaps(text: str, /) -> list[str]:
    """Return what a file assumes without proof: forbidden words, and variables and hypotheses outside of sections."""
    text = coq.without_comments(text)
    assumed = [mark[0] for mark in FORBIDDEN.finditer(text)]
    sections: list[str] = []
    for mark in _OPENS.finditer(text):
        if mark[2]:
            sections.append(mark[1])
        elif mark[3]:
            sections.pop()
        elif "Section" not in sections:
            assumed.append(f"{mark[4]} outside of a section")
    return assumed


def printed(chosen: Sequence[Theorem]) -> dict[str, str]:
    """Return what Coq prints of theorems and of all that their statements rest on, by full name, definitions last.

    Raises:
        CoqError: Coq is absent, or a theorem is not there.
    """
    requires = " ".join(dict.fromkeys(theorem.module for theorem in chosen))
    answers = coq.ask([(theorem.key, f"Check @{theorem.key}.") for theorem in chosen], requires=requires)
    modules = coq.sources().keys()
    known, fresh = set(answers), dict(answers)
    while fresh:
        names = {
            f"{module}.{name}" for text in fresh.values() for module, name in _NAME.findall(text) if module in modules
        }
        names -= known
        known |= names
        fresh = (
            coq.ask([(name, f"Print {name}.") for name in sorted(names, key=str.swapcase)], requires=requires)
            if names
            else {}
        )
        # Constructors and fields print as their type does, or as a projection of it: that type is there already.
        fresh = {name: text for name, text in fresh.items() if text not in answers.values() and not _projection(text)}
        for name, text in fresh.items():
            if text not in answers.values():
                answers[name] = text
    return answers


def _projection(text: str) -> bool:
    return re.search(r"=\s+fun [^=]*=>\s+let \(", text) is not None


def render(answers: dict[str, str]) -> str:
    """Return the text of `statements.txt`."""
    keys = {theorem.key for theorem in theorems()}
    lines = [
        "What the headline theorems say, as Coq prints it, and every definition that they rest on.",
        "Written by `python -m membptt_proofs.formal --write`; `make formal` compares it with what Coq prints today.",
    ]
    for kind, chosen in (
        ("theorem", [key for key in answers if key in keys]),
        ("definition", sorted(answers.keys() - keys)),
    ):
        for name in chosen:
            lines += ["", f"== {kind} {name}", answers[name]]
    return "\n".join(lines) + "\n"


def committed() -> dict[str, str]:
    """Return the committed statements and definitions, by full name.

    Raises:
        StatementError: there are none.
    """
    if not STATEMENTS.is_file():
        raise StatementError(f"there is no {STATEMENTS.name}; write it with: python -m membptt_proofs.formal --write")
    parts = re.split(r"^== (?:theorem|definition) (.*)\n", STATEMENTS.read_text("utf-8"), flags=re.M)[1:]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def differences(answers: dict[str, str]) -> list[str]:
    """Return how what Coq prints differs from what is committed: one message a name."""
    held = committed()
    messages = []
    for name, text in answers.items():
        if name not in held:
            messages.append(f"{name} is not in {STATEMENTS.name}")
        elif held[name] != text:
            change = difflib.unified_diff(
                held[name].splitlines(), text.splitlines(), "committed", "printed", lineterm="", n=1
            )
            messages.append(f"{name} is not what is committed:\n" + "\n".join(change))
    return messages


def assumptions(chosen: Sequence[Theorem], /, *, out: Path = coq.OUT) -> list[str]:
    """Return the theorems that rest on something unproved: one message each, with what Coq says.

    Raises:
        CoqError: Coq is absent, or a theorem is not there.
    """
    requires = " ".join(dict.fromkeys(theorem.module for theorem in chosen))
    # Coq walks through a whole proof for each question, so all theorems are one term first.
    term = ", ".join(f"@{theorem.key}" for theorem in chosen)
    together = f"Definition headlines := ({term}, tt). Print Assumptions headlines."
    if coq.ask([("all", together)], requires=requires, out=out)["all"].endswith(NO_ASSUMPTIONS):
        return []
    each = [(theorem.key, f"Print Assumptions {theorem.key}.") for theorem in chosen]
    answers = coq.ask(each, requires=requires, out=out)
    return [f"{name} rests on what is not proved: {text}" for name, text in answers.items() if text != NO_ASSUMPTIONS]


def proves(claim: str, /) -> tuple[Theorem, ...]:
    """Return the theorems that prove a claim."""
    return tuple(theorem for theorem in theorems() if claim in theorem.proves)


def check(name: str, /) -> tuple[bool | None, str]:
    """Check one headline theorem: compiled, assumes nothing, says what is committed.

    Args:
        name: its name in Coq.

    Returns:
        Whether it holds, and the evidence; ``None`` and `NOT_CHECKED` where Coq is absent.

    Raises:
        StatementError: there is no such theorem.
    """
    chosen = [theorem for theorem in theorems() if theorem.name == name]
    if not chosen:
        raise StatementError(f"there is no headline theorem {name!r}; {LIST.name} lists those that there are")
    if not coq.installed():
        return None, NOT_CHECKED
    try:
        coq.build(slow=chosen[0].slow)
        problems = [*assumptions(chosen), *differences(printed(chosen))]
    except coq.CoqError as error:
        return False, str(error)
    return not problems, "; ".join(
        problems
    ) or f"{chosen[0].file}: {name} holds without axioms, as stated ({coq.version()})"
