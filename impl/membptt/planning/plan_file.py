"""A plan: what was chosen, what it was chosen from, and its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from membptt_theory.actions import Prices
from membptt_theory.files import read_json, write_whole
from membptt_theory.footprint import Measured
from membptt_theory.options import Option, Tiers, check_size, readable
from membptt_theory.policies import POLICIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT: Final = "membptt-plan/5"
LARGEST_FILE: Final = 2**20  # bytes; a plan with every alternative takes a tenth of it


_TYPES: Final = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "str | None": (str, type(None)),
}


class PlanError(ValueError):
    """A file that should hold a plan is not what it claims to be."""


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What `plan` chose, and what it chose from; printed, a few lines.

    Args:
        steps: length of the sequence it was made for.
        budget: bytes.
        segments: made for a segment step.
        digest: of what decides the schedule that will be executed: a table, or a formula.
        options: what fits, the chosen one first.
        outputs: bytes of the outputs of all steps, as they are stacked without `reduce`.
        gradients: bytes of the gradients of parameters, inputs and starting carry.
        compile: whether compiled cores were tried beside eager ones: a scan that is to compile runs the chosen ones.
        doubtful: cores whose times disagreed with those of others however often they were taken, in words.
    """

    steps: int
    budget: int
    segments: bool
    digest: str
    options: tuple[Option, ...]
    outputs: int = 0
    gradients: int = 0
    compile: bool = False
    doubtful: str = ""

    @property
    def chosen(self) -> Option:
        """The alternative of least predicted time."""
        return self.options[0]

    @property
    def chunk(self) -> int:
        """Steps per core."""
        return self.chosen.measured.chunk

    @property
    def peak_bytes(self) -> int:
        """Predicted peak of the stored states and the working core, the slow tier left out; measured is not more."""
        return self.chosen.bytes

    @property
    def total_bytes(self) -> int:
        """Predicted peak in all: `peak_bytes`, stacked outputs with a gradient as large, and the other gradients.

        Inputs and parameters are there before; what the loss makes for itself comes on top.
        """
        return self.peak_bytes + 2 * self.outputs + self.gradients

    @property
    def seconds(self) -> float:
        """Predicted time of one gradient."""
        return self.chosen.seconds

    @property
    def plain(self) -> float:
        """Predicted time of plain backpropagation through the same cores, which keeps them all."""
        return self.chosen.cores * self.chosen.measured.stored

    def __repr__(self) -> str:
        """Say what was chosen, in words."""
        option, title = self.chosen, POLICIES[self.chosen.policy].title
        steps = "1 step" if self.chunk == 1 else f"{self.chunk} steps"
        kernels = f", {'compiled' if option.measured.compiled else 'eager'}" if self.compile else ""
        slow = f" and {option.tiers.peak} in the slow tier" if option.tiers else ""
        return (
            f"{self.steps} steps within {readable(self.budget)}: {title}, {steps} a core{kernels}, "
            f"{option.slots} slots of {readable(option.unit)}{slow}\n"
            f"  {option.forwards} forwards of {option.cores} cores; predicted: a peak of {readable(self.peak_bytes)}, "
            f"{option.seconds / self.plain:.2f} of plain backpropagation's time\n"
            f"  beside the budget: {readable(self.outputs)} of outputs, as much for their gradient, "
            f"{readable(self.gradients)} of other gradients; in all {readable(self.total_bytes)}"
        )

    def explain(self, *, everything: bool = False) -> None:
        """Print what was chosen and why: the best option of each policy, fastest first, with predicted peak and time.

        Time is in seconds and over plain backpropagation's through the chosen cores.

        Args:
            everything: every option that fits, not only the best of each policy.
        """
        from membptt.planning.view import show  # noqa: PLC0415  (rich is slow to import)

        show(self, everything=everything)

    def draw(self) -> Figure:
        """Draw the chosen schedule: position to the right, execution downward (needs matplotlib)."""
        from membptt.planning.view import draw  # noqa: PLC0415  (only who draws needs matplotlib)

        return draw(self)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, whole or not at all."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"
        write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that `save` wrote, and rebuild the table or formula that it names.

        The file is bounded before it is read, and the table before it is built: no larger than what `plan` asks for.

        Raises:
            PlanError: no such plan: missing, foreign, another version, or its table has another digest now.
        """
        with reading(path, FORMAT) as stored:
            options = tuple(_option(entry) for entry in stored["options"])
            plan: Plan = exactly(cls, {**stored, "options": options})
            for option in options:
                check_size(option)
                if option.cores != -(-plan.steps // option.measured.chunk):
                    raise ValueError(f"{plan.steps} steps are not {option.cores} cores of {option.measured.chunk}")
            digest = plan.chosen.schedule().digest
        if digest != plan.digest:
            raise PlanError(f"{path}: its schedule has digest {digest}, the plan says {plan.digest}: plan anew")
        return plan


@contextmanager
def reading(path: str | Path, expected: str, /) -> Iterator[dict[str, Any]]:
    """Hand out what a plan's file of the expected format holds; whatever is wrong with it is a `PlanError`."""
    try:
        stored = read_json(Path(path), limit=LARGEST_FILE)
        if not isinstance(stored, dict):
            raise ValueError(f"it holds a {type(stored).__name__}, a plan is an object")
        if (stored_format := stored.pop("format")) != expected:
            raise PlanError(f"{path}: format is {stored_format!r}, this version reads {expected!r}: plan anew")
        yield stored
    except PlanError:
        raise
    except KeyError as error:
        raise PlanError(f"{path}: not a readable plan (it has no {error})") from error
    except (ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        raise PlanError(f"{path}: not a readable plan ({error})") from error


def _option(entry: dict[str, Any]) -> Option:
    tiers = entry["tiers"]
    if tiers is not None:
        tiers = exactly(Tiers, {**tiers, "prices": exactly(Prices, tiers["prices"])})
    option: Option = exactly(Option, {**entry, "measured": exactly(Measured, entry["measured"]), "tiers": tiers})
    return option


def exactly(kind: Any, entry: dict[str, Any]) -> Any:
    """Return a `kind` of exactly its fields, with numbers where it has numbers."""
    names: Sequence[str] = [field.name for field in fields(kind)]
    if sorted(entry) != sorted(names):
        raise ValueError(f"a plan's {kind.__name__.lower()} has the fields {names}, found {sorted(entry)}")
    for field in fields(kind):
        value, allowed = entry[field.name], _TYPES.get(str(field.type))
        if allowed is not None and type(value) not in allowed:
            raise ValueError(f"{field.name} must be {field.type}, got {value!r}")
        if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
            raise ValueError(f"{field.name} must be finite and not negative, got {value!r}")
    return kind(**entry)
