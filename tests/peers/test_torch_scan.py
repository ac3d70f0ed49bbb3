"""What torch's tests of its own `scan` ask for."""

import pytest
import torch
from torch import nn

from membptt import scan

from .behaviours import answers, apart
from .loops import assert_scans, leaf, looped, total

REVERSE = pytest.mark.parametrize("reverse", [False, True])


def add(carry, x):
    return carry + x, carry * x


@answers("test_scan_dtype")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int32, torch.int64, torch.complex64])
def test_dtypes(dtype):
    """Floating, whole and complex numbers."""
    xs = torch.arange(1, 6).to(dtype)
    carry, ys = scan(add, torch.ones((), dtype=dtype), xs, slots=2)
    expected = looped(add, torch.ones((), dtype=dtype), xs)
    assert (carry.dtype, ys.dtype) == (dtype, dtype)
    torch.testing.assert_close((carry, ys), expected)


@answers("test_scan_dim")
def test_another_dimension():
    """Time in another dimension than the first: a view, `xs.movedim(dim, 0)`, does it."""
    xs, init = leaf(3, 5, 2), leaf(3, 2, seed=1)
    assert_scans(add, init, xs.movedim(1, 0), wanted=(xs, init))


@answers("test_scan_binary_operator")
@REVERSE
def test_an_associative_operator(reverse):
    """A linear recurrence over pairs, in either order."""
    a, b = leaf(6, 4), leaf(6, 4, seed=1)
    init = leaf(4, seed=2), leaf(4, seed=3)

    def step(carry, x):
        after = carry[0] * x[0], x[0] * carry[1] + x[1]
        return after, after

    assert_scans(step, init, (a, b), wanted=(a, b, *init), reverse=reverse)


@answers("test_scan_tuple", "test_scan_complex_pytree")
@REVERSE
def test_deep_trees(reverse):
    """Carry, inputs and outputs are tuples, dicts and lists in each other."""
    xs = {"i": leaf(5, 3), "j": ([leaf(5, 3, seed=1)], {"o": leaf(5, seed=2)})}
    init = ({"a": leaf(3, seed=3)}, [leaf(3, seed=4)])

    def step(carry, x):
        h = torch.tanh(carry[0]["a"] + x["i"] * x["j"][1]["o"])
        return ({"a": h}, [carry[1][0] * x["j"][0][0]]), {"y": [h, (carry[1][0],)]}

    wanted = (xs["i"], xs["j"][0][0], xs["j"][1]["o"], init[0]["a"], init[1][0])
    assert_scans(step, init, xs, wanted=wanted, reverse=reverse)


@answers("test_scan_downstream_scan_matmul", "test_scan_downstream_scan_scan")
@REVERSE
def test_results_go_on(reverse):
    """What a scan returns goes into a product and into another scan."""
    xs, init, weight = leaf(5, 3), leaf(3, seed=1), leaf(3, 3, seed=2)
    computed, expected = (
        run(add, init, run(add, init, xs, reverse=reverse, **way)[1] @ weight, **way)
        for run, way in ((scan, {"slots": 2}), (looped, {}))
    )
    wanted = (xs, init, weight)
    gradients = (torch.autograd.grad(total(result), wanted) for result in (computed, expected))
    torch.testing.assert_close(*gradients)


@answers("test_scan_non_pointwise")
def test_a_step_that_mixes_elements():
    """A step with a matrix product."""
    init = leaf(3, 3)
    assert_scans(lambda c, x: (torch.tanh(c @ x), c.sum(0)), init, xs := leaf(5, 3, 3, seed=1), wanted=(init, xs))


@answers("test_scan_init")
def test_no_inputs_and_any_carry():
    """No inputs at all; a carry of another shape than the inputs."""
    init = leaf(2, 3)
    assert_scans(lambda c, x: (torch.sin(c), c), init, wanted=(init,), length=5)
    assert_scans(lambda c, x: (c * x.sum(), x), init, xs := leaf(4, 7, seed=1), wanted=(init, xs))


@answers("test_scan_init_scanned_0")
def test_a_sequence_of_length_0():
    """A sequence without a step: refused there, the carry and outputs of length 0 here."""
    carry, ys = scan(add, init := torch.ones(2), torch.ones(0, 2), slots=2)
    assert carry is init
    assert ys.shape == (0, 2)


@answers("test_scan_init_non_tensor")
def test_a_number_as_carry():
    """A number where the step makes a tensor: an error, with the way out."""
    with pytest.raises(ValueError, match=r"a tensor in place of 1.0, carry: .*wrap in torch.tensor"):
        scan(add, 1.0, torch.ones(3), slots=2)


@answers(
    "test_scan_init_wrong_shape",
    "test_scan_init_wrong_pytree_init_longer_carry",
    "test_scan_init_wrong_pytree_init_shorter_carry",
    "test_scan_init_wrong_pytree_carry_shape",
    "test_scan_init_wrong_pytree_complex",
    "test_scan_simple_graph_wrong_dtype",
)
@pytest.mark.parametrize(
    "step",
    [
        lambda c, x: ((c[0][:1], c[1]), x),
        lambda c, x: (c[0], x),
        lambda c, x: ((*c, x), x),
        lambda c, x: ((c[0].sum(), c[1]), x),
        lambda c, x: ({"a": c[0], "b": c[1]}, x),
        lambda c, x: ((c[0].double(), c[1]), x),
    ],
)
def test_a_carry_of_another_form(step):
    """A carry that changes shape, structure or dtype: an error before anything is computed twice."""
    with pytest.raises(ValueError, match="returned a carry of"):
        scan(step, (torch.ones(2), torch.ones(2)), torch.ones(3, 2), slots=2)


@answers("test_scan_one_return")
def test_no_pair():
    """A step that returns no pair: an error."""
    with pytest.raises(TypeError, match="must return a pair"):
        scan(lambda c, x: c + 3, torch.ones(2), torch.ones(3, 2), slots=2)


@answers("test_scan_closure_RNN", "test_scan_closure_RNN_partial_autograd")
@pytest.mark.parametrize("frozen", [None, "weight_hh", "weight_ih", "bias_hh"])
def test_weights_of_a_closure(frozen):
    """An RNN whose weights stand in the step's closure, some of them frozen."""
    cell = nn.RNNCell(3, 4).double()
    if frozen:
        getattr(cell, frozen).requires_grad_(False)
    init, xs = leaf(2, 4), leaf(6, 2, 3, seed=1)

    def step(h, x):
        h = cell(x, h)
        return h, h

    wanted = (init, xs, *[weight for weight in cell.parameters() if weight.requires_grad])
    assert_scans(step, init, xs, wanted=wanted, params=cell)


@answers("test_scan_compile")
@pytest.mark.filterwarnings("ignore")
def test_under_compile():
    """`torch.compile` around a function that scans."""
    init, xs = leaf(3), leaf(4, 3, seed=1)

    def run(init, xs):
        carry, ys = scan(add, 2 * init, xs, slots=2)
        return carry + 1, ys

    computed = torch.compile(run, backend="eager")(init, xs)
    expected = looped(add, 2 * init, xs)
    torch.testing.assert_close(computed, (expected[0] + 1, expected[1]))
    torch.testing.assert_close(
        torch.autograd.grad(total(computed), init), torch.autograd.grad(total(run(init, xs)), init)
    )


@answers(
    "test_map_functionalized_arg_mutation",
    "test_map_functionalized_elem_mutation",
    "test_map_functionalized_elem_alias",
)
def test_changes_in_place_and_aliases():
    """A step that writes to its carry or inputs is refused; one that hands on what it was given is not."""
    with pytest.raises(RuntimeError, match=r"in place|in-place"):
        scan(lambda c, x: (c.add_(x), x), leaf(2) * 1, torch.ones(3, 2), slots=2, params=[leaf(2)])
    with pytest.raises(RuntimeError, match="was changed in place"):
        scan(lambda c, x: (c + x.add_(1), x), leaf(2), torch.ones(3, 2), slots=2)
    init = leaf(2)
    assert_scans(lambda c, x: ((c[1], c[1] * x), (x, c[0])), (init, init), xs := leaf(3, 2, seed=1), wanted=(init, xs))


apart(
    __name__,
    "test_scan_compile_cnt",
    "test_scan_simple_graph",
    asks="How often it is traced anew, and what stands in the traced graph",
    why="a scan is run, not traced; `torch.compile` runs it between two graphs, and `compile=True` compiles its cores",
)
