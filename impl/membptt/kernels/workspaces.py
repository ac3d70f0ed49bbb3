"""The workspaces of a captured core: in the graph's own memory, where nothing else frees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from membptt.torch_private import capture_policy, clear_workspaces


class OwnWorkspaces(capture_policy()):  # type: ignore[misc]
    """How Inductor captures a core: without cuBLAS workspaces that live outside the graph.

    A workspace that is there before a capture is one that any other capture may free, while this graph still writes to
    it. Cleared before, it is made during the capture, in the graph's own pool, as Inductor's trees do it.
    """

    def cudagraphify(
        self,
        model: Callable[..., Any],
        example_inputs: Sequence[Any],
        static_input_idxs: Sequence[int],
        **kwargs: Any,
    ) -> Callable[..., Any]:
        """Wrap `model`, which is called once to warm up and once to be captured."""

        def cleared(inputs: list[Any]) -> Any:
            clear_workspaces()
            try:
                return model(inputs)
            finally:
                clear_workspaces()

        wrapped: Callable[..., Any] = super().cudagraphify(cleared, example_inputs, static_input_idxs, **kwargs)
        return wrapped
