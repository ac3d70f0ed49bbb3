"""Every name of torch that is not public, looked up once, when the runtime is imported.

Torch may rename any of them. Where one is missing, what it serves is left out, with a single warning that says what is
lost; nothing is looked up on the path of a call. What lies in the compiler (`torch._inductor` takes a second to import)
is looked up when something is compiled.
"""

from __future__ import annotations

import ctypes
import logging
import struct
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial, wraps
from math import prod
from operator import attrgetter
from types import ModuleType
from typing import Any, Final, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations, parametrize
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode


class MissingPrivateNameWarning(UserWarning):
    """This torch has lost a name that is not public, and the runtime what it served."""


def find(name: str, lost: str, instead: Any, root: ModuleType | type = torch) -> Any:
    """Return a name below `root`, or `instead`, with a warning that names what is `lost`."""
    value: Any = root
    for part in name.split("."):
        value = getattr(value, part, _ABSENT)
        if value is _ABSENT:
            warnings.warn(
                f"torch {torch.__version__} has no {root.__name__}.{name}: {lost}; use a version that this release was "
                "tested with",
                MissingPrivateNameWarning,
                stacklevel=2,
            )
            return instead
    return value


_ABSENT: Final = object()
_NEVER_ENDS: Final = "nested scans on a device may wait for ever"
_COMPILER: Final = "torch._dynamo"
Traced = TypeVar("Traced", bound=Callable[..., Any])

# ---- the compiler's tracer ----

# torch.compile around a call goes on after it. The public torch.compiler.disable imports the whole compiler.
_untraced = find("_compile._disable_dynamo", "torch.compile traces into scan", torch.compiler.disable)


def untraced(function: Traced) -> Traced:
    """Keep `torch.compile` around a call of `function` from tracing into it."""
    apart = _untraced(function)

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        # Importing the compiler takes a second; nothing is traced where nobody did.
        return (apart if _COMPILER in sys.modules else function)(*args, **options)

    return cast("Traced", call)


# ---- a thread's storage, which autograd's engine hands to the threads that work for it ----

_stash = find("_C._stash_obj_in_tls", _NEVER_ENDS, None)
_is_key = find("_C._is_key_in_tls", _NEVER_ENDS, None)
_get = find("_C._get_obj_in_tls", _NEVER_ENDS, None)
_remove = find(
    "_C._remove_obj_from_tls", "a thread that scanned may wait for ever when it ends", lambda flag: _stash(flag, None)
)
_THREADS: Final = None not in (_stash, _is_key, _get)


@contextmanager
def flagged(flag: str) -> Iterator[None]:
    """Set `flag` in this thread's storage, which autograd's engine hands to threads that work for it."""
    if is_set(flag) or not _THREADS:
        yield
        return
    try:
        try:
            _stash(flag, True)
            yield
        finally:
            _unset(flag)
    finally:
        _unset(flag)  # Ctrl-C may have cut the first short


def is_set(flag: str) -> bool:
    """Whether `flag` is set in this thread's storage."""
    return _THREADS and _is_key(flag) and bool(_get(flag))


def _unset(flag: str) -> None:
    # Taken out, not overwritten: a thread that ends with an object there may wait for ever, as torch says of its own.
    if _is_key(flag):
        _remove(flag)


# ---- regions of autocast ----

_NOT_OUTER: Final = "inside a region of autocast that is switched off, a step that casts by itself is refused"
_open_region = find("autocast_increment_nesting", _NOT_OUTER, None)
_close_region = find("autocast_decrement_nesting", _NOT_OUTER, None)


def casts_are_kept() -> bool:
    """Whether casts of weights outlive the region of autocast that made them: there is one around it, on or off."""
    if _open_region is None or _close_region is None:
        return False
    depth: int = _open_region()
    _close_region()
    return depth > 1


# ---- the random generator of the CPU ----

_generator = find("default_generator._cdata", "every call reads the state of torch's generator", 0)
_WORDS: Final = 624  # of a Mersenne Twister


def _find_memory() -> ctypes.Array[ctypes.c_char] | None:
    """Return the memory in which the generator keeps its state: seed, position, words, normal numbers that are left."""
    state = torch.default_generator.get_state()
    start = struct.pack("64I", *struct.unpack_from("64Q", ctypes.string_at(state.data_ptr(), state.nbytes), 24))
    at = ctypes.string_at(_generator, 512).find(start) if _generator else -1
    return (ctypes.c_char * (20 + 4 * _WORDS + 28)).from_address(_generator + at - 20) if at >= 20 else None


_memory: Final = _find_memory()


def generator_memory() -> bytes:
    """Return what changes whenever a number is drawn from torch's generator on the CPU, or it is given a state."""
    if _memory is not None:
        return _memory.raw
    state = torch.default_generator.get_state()
    return ctypes.string_at(state.data_ptr(), state.nbytes)


# ---- pytrees ----

_registry: dict[type, Any] = find(
    "utils._pytree.SUPPORTED_NODES", "classes that torch's pytree knows have to be registered with optree", {}
)


def registered(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any]] | None:
    """Return how torch's pytree takes a class apart and puts it together again."""
    node = _registry.get(kind)
    return (node.flatten_fn, node.unflatten_fn) if node is not None else None


# ---- tensors without data ----

_fake = find("_subclasses.fake_tensor.FakeTensorMode", "a sequence without a step is refused", None)


@contextmanager
def without_data() -> Iterator[Callable[[Tensor], Tensor]]:
    """Let operations make tensors that have shapes and no data; give the function that makes such a one of another."""
    if _fake is None:
        raise ValueError("xs is empty: it has no step, and at least one is needed")
    with _fake(allow_non_fake_inputs=True) as mode:
        yield mode.from_tensor


def has_data(tensor: Tensor) -> bool:
    """Whether a tensor is none of those that have shapes and no data."""
    return getattr(tensor, "fake_mode", None) is None


# ---- autograd's graph ----

# How many nodes of the graph this thread has created.
nodes_made: Callable[[], float] = find(
    "_C._autograd._get_sequence_nr", "a leaf that a step creates by itself is refused", lambda: float("inf")
)
_NODE: Final = type((torch.zeros((), requires_grad=True) * 1).grad_fn)
_UNNUMBERED: Final = "weights' gradients take a second tensor each; one of a tensor that left the step may be lost"
_numbered = find("_sequence_nr", _UNNUMBERED, None, _NODE)


def number_of(node: Any) -> float:
    """Return the number of a node of the graph, which grows; where nobody knows it, one before all that is made."""
    return int(node._sequence_nr()) if _numbered is not None else -1


def first_since(nodes: Sequence[Any], since: float) -> Any:
    """Return the node that was made first of those made since; ``None`` where there is none, or nobody knows."""
    numbers = [node._sequence_nr() for node in nodes] if _numbered is not None else []
    first = min([number for number in numbers if number >= since], default=None)
    return None if first is None else nodes[numbers.index(first)]


_run_engine = find("autograd.Variable._execution_engine.run_backward", "cores are backpropagated more slowly", None)


def gradients(heads: Sequence[Any], inputs: Sequence[Any], grads: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return what ``torch.autograd.grad`` does, without its checks, which take longer than a small core."""
    if _run_engine is None:
        return torch.autograd.grad(heads, inputs, grads, allow_unused=True)
    shares: Sequence[Tensor | None] = _run_engine(
        tuple(heads), tuple(grads), False, False, tuple(inputs), True, accumulate_grad=False
    )
    return shares


# What `torch.set_grad_enabled` calls, which is made as an object each time.
switch_grad: Callable[[bool], object] = find(
    "_C._set_grad_enabled", "cores are recorded more slowly", torch.set_grad_enabled
)

_Handle = find("utils.hooks.RemovableHandle", "gradients of weights take a second tensor each", None)
_HANDLES: Final = isinstance(getattr(_Handle, "next_id", None), int)


def hooks_made() -> float:
    """Return how many hooks this process has put anywhere; where nobody knows, a number that equals no other."""
    return int(_Handle.next_id) if _HANDLES else float("nan")


_AT_ONCE: Final = "the gradients of a chain are handed on all at once"
_graph_task = find("_C._current_graph_task_id", _AT_ONCE, None)
_queue = find("autograd.Variable._execution_engine.queue_callback", _AT_ONCE, None)
IN_PARTS: Final = None not in (_graph_task, _queue)


def graph_task() -> int:
    """Return the number of the backward pass under way, which tells it from all others; -1 of none."""
    return int(_graph_task()) if _graph_task is not None else -1


def end_with(call: Callable[[], None]) -> None:
    """Have something called at the end of the backward pass under way; to be asked only where `IN_PARTS`."""
    _queue(call)


_inputs_of_region = find(
    "_CheckpointFrame.get_inputs", "plan and meter miss the inputs of checkpointed regions", None, checkpoint
)


def inputs_of_region(unpack: Any) -> Sequence[Any]:
    """Return what a hook of `torch.utils.checkpoint` keeps, by which a region is recomputed; of others, nothing."""
    for cell in getattr(unpack, "__closure__", None) or ():
        with suppress(ValueError):  # not assigned
            if getattr(type(cell.cell_contents), "get_inputs", _ABSENT) is _inputs_of_region:
                return cast("Sequence[Any]", cell.cell_contents.get_inputs())
    return ()


_top_hooks = find(
    "_C._autograd._top_saved_tensors_default_hooks", "torch.utils.checkpoint around a scan frees no state", None
)


def checkpointed() -> Literal["first", "again"] | None:
    """Say which run of a region of `torch.utils.checkpoint` (not reentrant) this is; ``None`` outside them."""
    hooks = _top_hooks(False) if _top_hooks is not None else None
    name = getattr(hooks[0], "__qualname__", "") if hooks is not None else ""
    if name.startswith("_recomputation_hook."):
        return "again"
    return "first" if name.startswith("_checkpoint_hook.") else None


_accumulate: type = torch.autograd.graph.get_gradient_edge(torch.zeros((), requires_grad=True)).node.__class__
_outputs = find("_input_metadata", "a run whose tensors grow past its plan is not told", None, _accumulate)


_add_hooks = find("_register_hook_dict", "first passes take a little longer", None, _accumulate)


def put_before(nodes: Iterable[Any], hooks: dict[int, Callable[[Tensor], None]]) -> None:
    """Have what `hooks` holds by then called whenever a backward is about to run one of these nodes."""
    if _add_hooks is None:
        for node in nodes:
            node.register_prehook(partial(_call_each, hooks))
        return
    carrier = torch.empty(0)
    carrier._backward_hooks = hooks  # type: ignore[assignment]
    for node in nodes:
        node._register_hook_dict(carrier)


def hooking(hook: Callable[[Tensor], Tensor]) -> Callable[[Iterable[Tensor]], None]:
    """Return what puts a hook on tensors that have a graph, without a dict and a handle for each: that takes longer."""
    carrier = torch.empty(0)
    carrier._backward_hooks = {0: hook}

    def put(tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            node: Any = tensor.grad_fn
            if _add_hooks is not None and tensor.output_nr == 0:
                node._register_hook_dict(carrier)
            else:
                tensor.register_hook(hook)  # type: ignore[no-untyped-call]

    return put


def _call_each(hooks: dict[int, Callable[[Tensor], None]], grads: Any) -> None:
    for hook in [*hooks.values()]:
        hook(grads)


def elements_of(nodes: Iterable[Any]) -> int:
    """Return how many elements the operations have given that these nodes of the graph stand for."""
    if _outputs is None:
        return 0
    with suppress(RuntimeError):  # nested tensors, which have no shape
        return sum(prod(output.shape) for node in nodes for output in node._input_metadata)
    return 0


def is_opaque(node: Any) -> bool:
    """Whether a node of the graph does not tell what it keeps: a write to a view, a scripted function, one in C++."""
    return type(node).__name__ in ("CopySlices", "CppFunction")


# ---- operations, as they are dispatched ----

DispatchMode = TorchDispatchMode

# ---- transforms, under which a scan runs as the plain loop ----

_transforms = find("_C._are_functorch_transforms_active", "torch.func around a scan fails", None)
_level = find("_current_level", "forward-mode derivatives of a scan are lost", None, forward_ad)
_cache = find("_cache_enabled", "a scan does not refuse to run in parametrize.cached()", None, parametrize)


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is under way, or dual numbers are in use."""
    return (_transforms is not None and bool(_transforms())) or (_level is not None and forward_ad._current_level >= 0)


def caches_parametrizations() -> bool:
    """Whether this is inside `torch.nn.utils.parametrize.cached`."""
    return _cache is not None and bool(parametrize._cache_enabled)


# ---- several gradients at once ----

_ONE: Final = "several gradients at once (is_grads_batched, vectorize, vmap) fail"
_is_batched = find("_C._functorch.is_legacy_batchedtensor", _ONE, lambda tensor: False)
_leave_batch = find("_C._vmapmode_decrement_nesting", _ONE, None)
_enter_batch = find("_C._vmapmode_increment_nesting", _ONE, None)
_without_batch = find("_remove_batch_dim", _ONE, None)
_with_batch = find("_add_batch_dim", _ONE, None)
_interpreter = find("_C._functorch.peek_interpreter_stack", _ONE, None)
_leave_map = find("_C._functorch.pop_dynamic_layer_stack", _ONE, None)
_enter_map = find("_C._functorch.push_dynamic_layer_stack", _ONE, None)
_without_map = find("_C._functorch._unwrap_batched", _ONE, None)
_with_map = find("_C._functorch._add_batch_dim", _ONE, None)
_Some = tuple[Tensor | None, ...]


def are_several(gradients: _Some) -> bool:
    """Whether gradients stand for several, or are under a transform of `torch.func`."""
    if _transforms is not None and _transforms():
        return True
    return any(gradient is not None and _is_batched(gradient) for gradient in gradients)


def each_alone(function: Callable[[_Some], _Some], gradients: _Some) -> _Some:
    """Apply a function to gradients; where they stand for several (``is_grads_batched``, `vmap`), to each of these.

    Raises:
        RuntimeError: they are under another transform of `torch.func`.
    """
    if not are_several(gradients):
        return function(gradients)
    if _transforms is not None and _transforms():
        return _each_mapped(function, gradients)
    level = _leave_batch() + 1  # inside, nothing may be drawn from a generator, as a recomputation may have to
    try:
        parts = [
            (_without_batch(each, level, 1, 0), 0) if each is not None and _is_batched(each) else (each, None)
            for each in gradients
        ]
        results = _stacked(partial(each_alone, function), parts)
    finally:
        _enter_batch()
    return tuple([_with_batch(each, 0, level) if each is not None else None for each in results])


def _each_mapped(function: Callable[[_Some], _Some], gradients: _Some) -> _Some:
    interpreter = _interpreter()
    if interpreter.key().name != "Vmap":
        raise RuntimeError(
            "a scan, while_loop or chain that was run outside a transform of torch.func is differentiated inside it: "
            "call it inside"
        )
    level, left = interpreter.level(), _leave_map()
    try:
        parts = [_without_map(each, level) if each is not None else (None, None) for each in gradients]
        mapped = any(dim is not None for _, dim in parts)
        results = (_stacked if mapped else _alone)(partial(each_alone, function), parts)
    finally:
        _enter_map(left)
    return tuple([_with_map(each, 0, level) if each is not None and mapped else each for each in results])


def _alone(function: Callable[[_Some], _Some], parts: Sequence[tuple[Any, int | None]]) -> _Some:
    return function(tuple([each for each, _ in parts]))


def _stacked(function: Callable[[_Some], _Some], parts: Sequence[tuple[Any, int | None]]) -> _Some:
    """Apply a function to each of several gradients, each a slice along a dimension, or the same for all."""
    slices = [each.unbind(dim) if dim is not None else None for each, dim in parts]
    count = max(len(some) for some in slices if some is not None)
    alike = [some if some is not None else (each,) * count for some, (each, _) in zip(slices, parts, strict=True)]
    columns = zip(*[function(row) for row in zip(*alike, strict=True)], strict=True)
    return tuple([torch.stack(column) if column[0] is not None else None for column in columns])


# ---- tensors and modules ----

_NO_SUBCLASS: Final = "where a tensor subclass starts a backward, its recomputations see plain tensors"
_subclasses_active = find("_C._is_torch_function_enabled", _NO_SUBCLASS, lambda: True)
_with_subclasses = find("_C._EnableTorchFunction", _NO_SUBCLASS, nullcontext)


def subclasses_as_now() -> Callable[[], AbstractContextManager[Any]]:
    """Return what puts ``__torch_function__`` into the effect it has now: a subclass's own backward switches it off."""
    return _with_subclasses if _subclasses_active() else torch._C.DisableTorchFunctionSubclass


# The parametrization of a spectral norm, which keeps its two vectors in buffers.
SpectralParametrization: type = find(
    "_SpectralNorm", "a spectral norm in training mode is refused", type(None), parametrizations
)

_foreach_add = find("_foreach_add_", "gradients are added up one by one", None)


def add_each(totals: list[Tensor], shares: list[Tensor]) -> None:
    """Add to each total its share, in place: one call for all of them, the same additions."""
    if _foreach_add is not None:
        _foreach_add(totals, shares)
        return
    for total, share in zip(totals, shares, strict=True):
        total.add_(share)


# ---- who else refers to a tensor ----

_TWICE: Final = "the first two gradients of a weight are added in a tensor of their own"
_uses = find("Tensor._use_count", _TWICE, None)
_uses_of_storage = find("_C._storage_Use_Count", _TWICE, None)


def _references(tensors: Sequence[Tensor | None], place: int) -> tuple[int, int, int]:
    tensor: Any = tensors[place]
    storage = _uses_of_storage(tensor.untyped_storage()._cdata)
    return sys.getrefcount(tensor), _uses(tensor), storage


_ALONE: Final = _references([torch.empty(1)], 0) if _uses and _uses_of_storage else None


def is_alone(tensors: Sequence[Tensor | None], place: int) -> bool:
    """Whether nothing but this sequence refers to one of its tensors, or to the memory of that, which it fills."""
    if _ALONE is None or type(tensors[place]) is not Tensor:
        return False
    try:
        dense = tensors[place].untyped_storage().nbytes() == tensors[place].nbytes  # type: ignore[union-attr]
        return dense and _references(tensors, place) == _ALONE
    except (NotImplementedError, RuntimeError):  # sparse, or inside a transform
        return False


def version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place; 0 of one that was made in inference mode and does not count."""
    return 0 if tensor.is_inference() else tensor._version


_count: Final = attrgetter("_version")


def versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the in-place counter of every tensor."""
    try:
        return tuple(map(_count, tensors))
    except RuntimeError:  # of one that does not count
        return tuple(map(version, tensors))


def is_view(tensor: Tensor) -> bool:
    """Whether an operation gave a tensor as a part of another one, as far as autograd has seen it."""
    return tensor._base is not None


def sparse_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return indices and values of a sparse tensor; nothing of a layout that does not show them."""
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()  # the public ones want a coalesced tensor
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return ()


def hooks_of(tensor: Tensor) -> dict[int, Callable[[Tensor], Tensor | None]]:
    """Return the backward hooks of a tensor, by their handles; the dict that torch holds, if it holds one."""
    return tensor._backward_hooks or {}


def hooks_of_each(tensors: Iterable[Tensor]) -> list[dict[int, Callable[[Tensor], Tensor | None]]]:
    """Return `hooks_of` of those tensors that have any."""
    return [*filter(None, map(_hooks, tensors))]


_hooks: Final = attrgetter("_backward_hooks")


def are_hooked(tensors: Sequence[Tensor]) -> bool:
    """Whether any of these tensors has a hook on its gradient, or on what adds it up."""
    return any(map(_hooks, tensors)) or any(map(_late_hooks, tensors))


_late_hooks: Final = attrgetter("_post_accumulate_grad_hooks")


def put_on(leaf: Tensor, key: int, hook: Callable[[Any], None]) -> None:
    """Put a hook on a leaf, without a handle: that takes longer."""
    if leaf._backward_hooks is None:
        leaf._backward_hooks = OrderedDict()  # as `Tensor.register_hook` does it: handles refer to it weakly
    leaf._backward_hooks[key] = hook


def take_off(leaf: Tensor, key: int) -> None:
    """Take it off again; where it was the only one, the engine does not look for any."""
    hooks = leaf._backward_hooks or {}
    hooks.pop(key, None)
    if not hooks:
        leaf._backward_hooks = None


# The dicts in which a module itself holds what is its own; attrgetters, which thousands of modules are asked by.
parameters_of: Final[Callable[[nn.Module], dict[str, Tensor | None]]] = attrgetter("_parameters")
buffers_of: Final[Callable[[nn.Module], dict[str, Tensor | None]]] = attrgetter("_buffers")
children_of: Final[Callable[[nn.Module], dict[str, nn.Module | None]]] = attrgetter("_modules")


def pre_hooks_of(module: nn.Module) -> Iterable[Any]:
    """Return what a module calls before its forward."""
    return module._forward_pre_hooks.values()


# ---- the compiler, looked up when something is compiled ----


OPERATION: Final[Any] = type(torch.ops.aten.mm.default)

_HAS_ONEDNN: Final = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_ONEDNN: Final = "ops.mkldnn._linear_pointwise.default"
onednn_linear: Any = (
    find(_ONEDNN, "compiled cores multiply more slowly on some processors", None) if _HAS_ONEDNN else None
)


def schema_of(operation: Any) -> Any:
    """Return the schema of an operation: which of its arguments it writes to."""
    return operation._schema


def inductor_options() -> Any:
    """Return ``torch._inductor.config``."""
    from torch._inductor import config  # noqa: PLC0415

    return config


def compile_graph() -> Any:
    """Return Inductor's own entry, which takes a policy for captures, as `torch.compile` does not."""
    from torch._inductor.compile_fx import compile_fx  # noqa: PLC0415

    return compile_fx


def compile_operations(graph: torch.fx.GraphModule, options: dict[str, Any]) -> Callable[[list[Tensor]], Any]:
    """Compile a graph of operations that change nothing in place, as `trace_operations` returns it.

    The function takes a list of tensors, which it empties: without the questions that `compile_fx` asks at every call.
    """
    from torch._guards import TracingContext, tracing  # noqa: PLC0415
    from torch._inductor.compile_fx import compile_fx_inner  # noqa: PLC0415
    from torch._inductor.virtualized import V  # noqa: PLC0415

    values = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
    mode = values[0].fake_mode
    output = graph.graph.output_node()
    count = len(output.args[0])  # type: ignore[arg-type]
    output.meta["user_visible_output_idxs"] = list(range(count))  # they lie as the graph says
    # What calls the kernels is compiled, too: in Python that takes as long as the kernels of a small core.
    patched = inductor_options().patch({**options, "cpp_wrapper": True})
    log = logging.getLogger("torch._inductor.ir")
    log.addFilter(_is_news)
    try:
        with patched, tracing(TracingContext(mode)), V.set_fake_mode(mode), V.set_real_inputs(values):
            compiled = compile_fx_inner(graph, values, is_inference=True, cpp_wrapper=True)
    finally:
        log.removeFilter(_is_news)
    return cast("Callable[[list[Tensor]], Any]", compiled)


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out that an operation is called by name, because it has no function in C."""
    return "c-shim" not in str(record.msg)


_BY_PYTHON: Final = "the products of compiled cores go by way of Python"


def lower_product(operation: Any) -> None:
    """Have Inductor call oneDNN where a graph has `operation`, a product of two matrices and a bias: not by Python."""
    from torch._inductor import ir, mkldnn_ir  # noqa: PLC0415
    from torch._inductor.lowering import lowerings, register_lowering  # noqa: PLC0415

    linear, create = (find(name, _BY_PYTHON, None, mkldnn_ir) for name in ("LinearUnary", "_create_output_node"))
    if None in (linear, create):
        return

    def lowered(left: Any, right: Any, bias: Any) -> Any:
        rows = linear.require_contiguous(linear.realize_input(left))
        weight = linear.realize_input(lowerings[torch.ops.aten.permute.default](right, [1, 0]))
        size = weight.get_size()
        if tuple(weight.get_stride()) not in {(size[1], 1), (1, size[0])}:
            weight = linear.require_contiguous(weight)  # with gaps, oneDNN takes a thousand times as long
        inputs, rest = [rows, weight], [None] * (bias is None) + ["none", [-1], ""]
        if bias is not None:
            inputs.append(linear.realize_input(bias))
        layout = ir.FixedLayout(rows.get_device_or_error(), rows.get_dtype(), [rows.get_size()[0], size[0]])
        return ir.TensorBox.create(create(linear(layout, inputs, rest)))

    register_lowering(operation, type_promotion_kind=None)(lowered)


def side_effects() -> bool:
    """Whether what Dynamo is tracing assigns to anything that was there before; to be asked by a backend."""
    from torch._dynamo.symbolic_convert import InstructionTranslator  # noqa: PLC0415

    effects = InstructionTranslator.current_tx().output.side_effects
    return bool(effects.tensor_hooks) or any(
        effects.is_modified(item) and type(item.mutation_type).__name__.endswith("Existing")
        for item in effects.id_to_variable.values()
    )


RECOMPILE_LIMIT: Final = "torch._dynamo.config.recompile_limit"  # as a user sets it


def is_one_too_many(error: Exception) -> bool:
    """Whether Dynamo refuses to compile a function once more: it was compiled as often as it may be."""
    exceptions: Any = sys.modules.get(f"{_COMPILER}.exc")
    return isinstance(error, getattr(exceptions, "FailOnRecompileLimitHit", ()))


def decompositions() -> Any:
    """Return what Inductor takes operations apart into."""
    from torch._inductor.decomposition import select_decomp_table  # noqa: PLC0415

    return select_decomp_table()


def trace_operations(function: Callable[..., Any], tensors: Sequence[Tensor], table: Any) -> torch.fx.GraphModule:
    """Return the graph of the operations that `function` runs on such tensors, taken apart by `table`."""
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415

    return make_fx(function, decomposition_table=table, tracing_mode="fake")(*tensors)


def graph_pass() -> Any:
    """Return the class that passes over a graph extend."""
    from torch._inductor.custom_graph_pass import CustomGraphPass  # noqa: PLC0415

    return CustomGraphPass


def hash_of_files(paths: tuple[str, ...]) -> Any:
    """Return what tells one version of these files from another, for the compiler's cache."""
    from torch._inductor.custom_graph_pass import get_hash_for_files  # noqa: PLC0415

    return get_hash_for_files(paths)


def capture_policy() -> Any:
    """Return the class that decides how a graph is captured."""
    from torch._inductor.cudagraph_utils import CUDAGraphPolicy  # noqa: PLC0415

    return CUDAGraphPolicy


def clear_workspaces() -> None:
    """Free cuBLAS's workspaces, so that the next capture makes its own."""
    torch._C._cuda_clearCublasWorkspaces()
