"""What all calls have in common once it is settled what is executed: one node of autograd's graph, or none."""

from __future__ import annotations

from typing import Any

from membptt.kernels.compiled import Compile, compile_chunk
from membptt.kernels.joint import join_cores
from membptt.run.continuity import Continuity
from membptt.run.core import Core, LoopCore, is_known_to_round
from membptt.run.meter import active
from membptt.run.node import Call, Choice
from membptt.run.outputs import Graphed, Outputs, Reduce
from membptt.run.parts import parts_of
from membptt.run.problem import Problem
from membptt.run.progress import Progress, told
from membptt.run.witness import Witness
from membptt.state.garbage import uncollected
from membptt.state.leaves import Leaves
from membptt.state.states import Hidden
from membptt.step.autocast import Autocast
from membptt.step.changes import InPlace
from membptt.step.declared import needs_grad
from membptt.step.generators import Generators
from membptt.step.refusals import refuse_kernel_dropout
from membptt.step.surroundings import Surroundings
from membptt.torch_private import is_transformed


def execute(
    problem: Problem,
    choice: Choice,
    *,
    reduce: Reduce | None,
    preserve_rng_state: bool,
    compile: Compile,
    check: bool | None,
    progress: Progress,
) -> tuple[Any, Any]:
    """Return the final carry and the outputs; ``None`` in place of them where there was no step."""
    if is_transformed():
        return _loop(problem, choice, reduce)
    carry, declared, devices, inputs = problem.carry, problem.params, problem.devices, choice.inputs
    tell = told(progress, "gradient")
    generators = Generators(devices, enabled=preserve_rng_state)
    report, wanted = active(), needs_grad(carry, inputs.leaves, declared)
    parts = parts_of(declared, problem.earliest, start=bool(problem.earliest) and needs_grad(carry, inputs.leaves))
    # In parts, what was handed on may be changed (an optimizer in a hook): nothing can be looked at twice.
    numbers = bool(compile) or is_known_to_round(problem.step) or len(parts) > 1
    compiled = compile_chunk(problem.step, devices, inputs.chunk, compile)
    core = Core(
        problem,
        inputs,
        generators=generators,
        compiled=compiled,
        joint=join_cores(problem.step, devices, inputs.chunk) if compiled is not None else None,
        witness=Witness() if check else None,
        promise=choice.promise,
        metered=report is not None or choice.weighed,
        fresh=problem.fresh if wanted else (),
    )
    if wanted and check is not False:
        cores = inputs.cores if inputs.known else None
        core.continuity = Continuity(cores, inputs.chunk, numbers=numbers, alike=core.forms.alike)
    outputs = Outputs(inputs.places if inputs.known else None, reduce, inputs.order)
    if wanted:
        refuse_kernel_dropout(problem.reach.named, devices)
        autocast = Autocast.current(devices)
        with uncollected():
            surroundings = Surroundings.of(problem.reach)
        generators.follow(surroundings.vectors)
        rewound = surroundings.vectors if preserve_rng_state else ()
        inner = InPlace(surroundings, rewound=(*rewound, *problem.rewound))
        sizes, own = (len(carry), len(inputs.leaves)), tuple([leaf if leaf.is_leaf else None for leaf in carry])
        around = outputs, generators, autocast, surroundings
        ends = None if sees_each(check, progress) else frozenset([part.first for part in parts])
        call = Call(core, choice, *around, *sizes, report, tell, own, parts, problem.settle, ends)
        flat = call.apply(carry, inputs.leaves, declared)
        inner.check()  # which also releases it and its samples
    else:
        final = choice.course.advance(core, Hidden.of(carry, ()), inputs.leaves, outputs)
        core.check_unchanged()
        outputs.ended(inputs.steps)
        flat = tuple(leaf.detach() for leaf in (*final.leaves, *outputs.take()))
        if report is not None:
            report.advanced += choice.course.cores
    return _results(core, outputs, flat)


def sees_each(check: bool | None, progress: Progress) -> bool:
    """Whether each core is to be seen by itself: by whoever compares, counts or tells how far it is."""
    return bool(check or progress) or active() is not None


def _loop(problem: Problem, choice: Choice, reduce: Reduce | None) -> tuple[Any, Any]:
    """Run the plain loop: what transforms the step is right for it, and would not be for a node of autograd's graph."""
    inputs, report = choice.inputs, active()
    outputs = Graphed(reduce, inputs.order)
    core = LoopCore(problem, inputs, generators=Generators(problem.devices, enabled=False))
    final = choice.course.advance(core, Hidden.of(problem.carry, ()), inputs.leaves, outputs)
    core.check_unchanged()
    outputs.ended(inputs.places)
    if report is not None:
        report.advanced += choice.course.cores
    return _results(core, outputs, (*(leaf.clone() for leaf in final.leaves), *outputs.take()))


def _results(core: Core, outputs: Outputs, flat: Leaves) -> tuple[Any, Any]:
    after = core.form.spec
    ys = outputs.spec.unflatten(flat[after.num_leaves :]) if outputs.spec is not None else None
    return after.unflatten(flat[: after.num_leaves]), ys
