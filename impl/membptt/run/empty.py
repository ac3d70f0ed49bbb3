"""A sequence without a step: its outputs have length 0, and otherwise the shapes of a step's."""

from __future__ import annotations

from typing import Any, Final

import torch

from membptt.run.outputs import Outputs, Reduce
from membptt.run.problem import Problem
from membptt.state.trees import flatten
from membptt.step.generators import Generators
from membptt.step.surroundings import Surroundings
from membptt.torch_private import buffers_of, without_data


def outputs_of_no_step(problem: Problem, reduce: Reduce | None) -> Any:
    """Return the outputs of a sequence of length 0. The step is run once, on tensors that hold no data.

    Raises:
        ValueError: it does not run without data, or the mean over no step is asked for; and as a first step.
    """
    outputs, inputs = Outputs(0, reduce), problem.inputs
    if reduce == "mean":
        raise ValueError("xs has no step, and nothing has no mean: give reduce='sum', or at least one step")
    leaves, spec = inputs.fetch(inputs.leaves, slice(0, 0))
    generators, surroundings = Generators(problem.devices), Surroundings.of(problem.reach)
    with generators.exclusive(), generators.preserved(), surroundings.undone(), torch.no_grad(), without_data() as of:
        for module in surroundings.modules:
            buffers = buffers_of(module)
            buffers |= {name: of(buffer) for name, buffer in buffers.items() if buffer is not None}
        steps = (1,) if problem.segments else ()
        x: Any = spec.unflatten([of(leaf.new_empty((*steps, *leaf.shape[1:]))) for leaf in leaves])
        try:
            after, y = problem.step(problem.spec.unflatten(map(of, problem.carry)), x)
        except Exception as error:
            raise ValueError(_UNKNOWN) from error
        problem.forms(problem.spec, problem.carry).settle(after, 0)
        ys, spec = flatten("the output y", y)
    shapes = [(0, *leaf.shape[len(steps) :]) for leaf in ys]
    nothing: Any = [
        torch.empty(shape, dtype=leaf.dtype, device=leaf.device) for shape, leaf in zip(shapes, ys, strict=True)
    ]
    outputs.put(slice(0, 0), spec.unflatten(nothing))
    return spec.unflatten(outputs.take())


_UNKNOWN: Final = (
    "xs has no step, and the shapes of the outputs cannot be known: the step does not run on tensors that hold no "
    "data. Give at least one step, or leave such a sequence out"
)
