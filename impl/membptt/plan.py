"""From a budget in bytes to a policy, its slots and its cores: `plan` measures, looks costs up and chooses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from membptt.core import Step
from membptt.guards import declared_by
from membptt.inputs import Inputs
from membptt.measure import Trial
from membptt.tier import SlowTier, slow_tier
from membptt_theory.actions import Prices
from membptt_theory.files import read_json, write_whole
from membptt_theory.footprint import Measured
from membptt_theory.options import Option, Tiers, check_size, least_bytes, options, parse_bytes, too_small
from membptt_theory.recurrences import POLICIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT: Final = "membptt-plan/2"
_LARGEST_FILE: Final = 2**20  # bytes; a plan with every alternative takes a tenth of it
_TYPES: Final = {"str": (str,), "bool": (bool,), "int": (int,), "int | None": (int, type(None)), "float": (float, int)}
_LARGEST_CHUNK: Final = 256
_LARGEST_COMPILED: Final = 8  # each length is compiled twice, and that takes time


class PlanError(ValueError):
    """A file that should hold a plan is not what it claims to be."""


def plan(
    step: Step,
    init: Any,
    xs: Any,
    /,
    *,
    budget: int | str,
    params: Iterable[Tensor] | None = None,
    chunk: int | None = None,
    policy: str = "auto",
    segments: bool = False,
    compile: bool = False,
    spill: bool | SlowTier = False,
) -> Plan:
    """Measure `step` on a short run and choose the policy, slots and chunk of least predicted time within `budget`.

    The budget covers the stored states and one working core, each storage once. Parameters, inputs, outputs and
    gradients are outside it. Predicted time is ``(C - t) * advance + t * backprop`` with ``C`` from the policy's table.
    With `spill`, HSM in two tiers competes: the slow tier is outside the budget, each store to it and restart from it
    takes the time that was measured, and its table is built for these times in sixteenths of a core's forward, rounded.

    Args:
        step: as for `scan`, as are `init`, `xs`, `params`, `segments` and `compile`.
        init: starting carry.
        xs: inputs.
        budget: bytes, or text such as ``"512MiB"`` or ``"1.5 GB"``.
        params: tensors used by a step that is no module.
        chunk: steps per core; ``None`` tries powers of two, up to 256, or 8 where compiled.
        policy: a policy's name, or ``"auto"`` for all of them.
        segments: `step` eats a whole core.
        compile: measure compiled cores.
        spill: ``True``, or a `SlowTier` with a bound or a directory; the plan measures its prices.

    Raises:
        TypeError: `budget` is neither bytes nor text, or `chunk` is no integer; and as `scan`.
        ValueError: text that names no size, an unknown policy or one that cannot spill, given prices, or a budget that
            is too small: the message names the smallest feasible one; and as `scan`.
        RuntimeError: the step changes what it is given, or a state outside the carry.

    Claim: plan-bounds-peak, plan-tiers-bounds-peak.
    """
    limit = parse_bytes(budget)
    if policy not in ("auto", *POLICIES):
        raise ValueError(f"unknown policy {policy!r}; known policies are auto, {', '.join(POLICIES)}")
    slow = slow_tier(spill)
    if slow is not None and policy not in ("auto", "hsm"):
        raise ValueError(
            f"spill goes with policy 'auto' or 'hsm', got {policy!r}: the slow tier takes hidden states only"
        )
    if slow is not None and slow.prices is not None:
        raise ValueError("a plan measures the prices of its slow tier: give prices with slots= only")
    steps = Inputs(xs, 1).steps
    trial = Trial(step, init, xs, declared_by(step, params), segments=segments, compile=compile, slow=slow)
    measured = [trial.weigh(size) for size in ([Inputs(xs, chunk).chunk] if chunk is not None else [1])]
    largest = min(steps, _LARGEST_COMPILED if compile else _LARGEST_CHUNK)
    while chunk is None and 2 * measured[-1].chunk <= largest:
        # A larger core is not tried where it would not fit; its size is known well enough before it is run.
        if least_bytes(measured[-1:]) + measured[-1].internal > limit:
            break
        measured.append(trial.weigh(2 * measured[-1].chunk))
    policies = POLICIES if policy == "auto" else (policy,)
    found = options(
        trial.timed(measured), steps, limit, policies, tiers=slow is not None, slow=slow.slots if slow else None
    )
    if not found:
        raise ValueError(too_small(measured, limit))
    return Plan(steps, limit, segments, found[0].table().digest, tuple(found))


@dataclass(frozen=True, slots=True)
class Plan:
    """What `plan` chose, and what it chose from.

    Args:
        steps: length of the sequence it was made for.
        budget: bytes.
        segments: made for a segment step.
        digest: of the policy table that will be executed.
        options: what fits, the chosen one first.
    """

    steps: int
    budget: int
    segments: bool
    digest: str
    options: tuple[Option, ...]

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
    def seconds(self) -> float:
        """Predicted time of one gradient."""
        return self.chosen.seconds

    def explain(self) -> None:
        """Print the alternatives, fastest first, with predicted peak and time."""
        from membptt.picture import show  # noqa: PLC0415  (rich is slow to import)

        show(self)

    def draw(self) -> Figure:
        """Draw the chosen schedule: position to the right, execution downward (needs matplotlib)."""
        from membptt.picture import draw  # noqa: PLC0415  (only who draws needs matplotlib)

        return draw(self)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, whole or not at all."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"
        write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that `save` wrote, and rebuild the table it names.

        The file is bounded before it is read, and the table before it is built: no larger than what `plan` asks for.

        Raises:
            PlanError: no such plan: missing, foreign, another version, or its table has another digest now.
        """
        try:
            stored = read_json(Path(path), limit=_LARGEST_FILE)
            if not isinstance(stored, dict):
                raise ValueError(f"it holds a {type(stored).__name__}, a plan is an object")
            if (found_format := stored.pop("format")) != FORMAT:
                raise PlanError(f"{path}: format is {found_format!r}, this version reads {FORMAT!r}: plan anew")
            found = tuple(_option(entry) for entry in stored["options"])
            made: Plan = _exactly(cls, {**stored, "options": found})
            for option in found:
                check_size(option)
                if option.cores != -(-made.steps // option.measured.chunk):
                    raise ValueError(f"{made.steps} steps are not {option.cores} cores of {option.measured.chunk}")
            digest = made.chosen.table().digest
        except PlanError:
            raise
        except KeyError as error:
            raise PlanError(f"{path}: not a readable plan (it has no {error})") from error
        except (ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
            raise PlanError(f"{path}: not a readable plan ({error})") from error
        if digest != made.digest:
            raise PlanError(f"{path}: its policy table has digest {digest}, the plan says {made.digest}: plan anew")
        return made


def _option(entry: dict[str, Any]) -> Option:
    tiers = entry["tiers"]
    if tiers is not None:
        tiers = _exactly(Tiers, {**tiers, "prices": _exactly(Prices, tiers["prices"])})
    option: Option = _exactly(Option, {**entry, "measured": _exactly(Measured, entry["measured"]), "tiers": tiers})
    return option


def _exactly(kind: Any, entry: dict[str, Any]) -> Any:
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
