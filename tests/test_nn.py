"""`membptt.nn` equals `torch.nn`: parameters, outputs, final states, gradients, refusals."""

import copy
import inspect
import pickle
import re
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import membptt.nn
from membptt import scan
from membptt.step.generators import Generators
from membptt_theory.tables import build

from .cells import relative_error
from .strategies import POLICIES, outcome, policies, policy_id

KINDS = ["LSTM", "GRU", "RNN"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def pair(kind, *args, seed=0, dtype=torch.float64, budget=None, **options):
    """Torch's layer and ours, with the same parameters."""
    torch.manual_seed(seed)
    theirs = getattr(nn, kind)(*args, **options).to(dtype)
    ours = getattr(membptt.nn, kind)(*args, **(budget or {"slots": 2, "chunk": 3}), **options).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def leaves(state):
    return state if isinstance(state, tuple) else (state,)


def sequence(layer, steps, *, batched=True, batch=2):
    shape = [steps, batch, layer.input_size] if batched else [steps, layer.input_size]
    if batched and layer.batch_first:
        shape[:2] = shape[1::-1]
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def start(layer, *, batched=True, batch=2):
    layers = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [layer.proj_size or layer.hidden_size, layer.hidden_size][: 2 if layer.mode == "LSTM" else 1]
    shape = [layers, batch] if batched else [layers]
    states = tuple(torch.randn(*shape, size, dtype=torch.float64, requires_grad=True) for size in sizes)
    return states if layer.mode == "LSTM" else states[0]


def weighed(tensors):
    """A loss that weighs every element differently."""
    return sum(
        (
            torch.linspace(-1, 1, leaf.numel(), dtype=leaf.dtype, device=leaf.device).cos().reshape(leaf.shape) * leaf
        ).sum()
        for leaf in tensors
    )


def run(layer, xs, hx):
    """Outputs, final state, and every gradient of a loss that reads them all."""
    output, final = layer(xs, hx)
    results = [output, *leaves(final)]
    wanted = [xs, *(leaves(hx) if hx is not None else ()), *layer.parameters()]
    return [leaf.detach() for leaf in results], list(torch.autograd.grad(weighed(results), wanted))


def assert_equal(theirs, ours, xs, hx):
    expected, computed = run(theirs, xs, hx), run(ours, xs, hx)
    for a, b in zip(computed, expected, strict=True):
        assert [leaf.shape for leaf in a] == [leaf.shape for leaf in b]
        assert relative_error(a, b) <= 1e-10


def every_option():
    for kind in KINDS:
        extra = {"LSTM": [{}, {"proj_size": 2}], "GRU": [{}], "RNN": [{}, {"nonlinearity": "relu"}]}[kind]
        for more, layers, both, bias, first in product(extra, (1, 2), (False, True), (False, True), (False, True)):
            yield kind, {**more, "num_layers": layers, "bidirectional": both, "bias": bias, "batch_first": first}


@pytest.mark.parametrize("kind", KINDS)
def test_layer_equals_torch_exhaustive(kind):
    """Every option, with and without batch and starting state, each at a length that a core does not divide."""
    for name, options in every_option():
        if name != kind:
            continue
        theirs, ours = pair(kind, 3, 4, **options)
        for batched, given_start in product((False, True), repeat=2):
            hx = start(theirs, batched=batched) if given_start else None
            assert_equal(theirs, ours, sequence(theirs, 7, batched=batched), hx)


@pytest.mark.parametrize("kind", KINDS)
def test_layer_equals_torch_at_every_length_and_chunk_exhaustive(kind):
    for steps, chunk, slots in product(range(1, 9), range(1, 6), (1, 3)):
        theirs, ours = pair(kind, 3, 4, budget={"slots": slots, "chunk": chunk})
        assert_equal(theirs, ours, sequence(theirs, steps), start(theirs))


@given(
    st.sampled_from(list(every_option())),
    policies(),
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_layer_equals_torch_hypothesis(which, policy, steps, chunk, slots, batch, seed):
    (kind, options), (name, sizes) = which, policy
    budget = {"slots": slots, "chunk": chunk, "policy": name, **sizes}
    theirs, ours = pair(kind, 3, 4, seed=seed, budget=budget, **options)
    assert_equal(theirs, ours, sequence(theirs, steps, batch=batch), start(theirs, batch=batch))


def test_a_kernel_that_forgets_part_of_its_state_is_caught(monkeypatch):
    kernel = membptt.nn._Segment._kernel

    def forgetful(self, xs, carry, weights, sizes):
        return kernel(self, xs, (carry[0], carry[1] * 0), weights, sizes)

    monkeypatch.setattr(membptt.nn._Segment, "_kernel", forgetful)
    theirs, ours = pair("LSTM", 3, 4)
    with pytest.raises(AssertionError):
        assert_equal(theirs, ours, sequence(theirs, 7), None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_kernel_calls_equal_the_table(kind, policy, sizes, monkeypatch):
    """40 steps in chunks of 4 are 10 cores, whatever the number of layers."""
    _, ours = pair(kind, 3, 4, num_layers=2, budget={"slots": 3, "chunk": 4, "policy": policy, **sizes})
    calls = 0
    kernel = membptt.nn._KERNELS[ours.mode]

    def counted(*call):
        nonlocal calls
        calls += 1
        return kernel(*call)

    monkeypatch.setitem(membptt.nn._KERNELS, ours.mode, counted)
    run(ours, sequence(ours, 40), None)
    assert calls == build(policy, 10, 3, **sizes).cost(10, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_the_torch_layers(kind):
    theirs, ours = pair(kind, 3, 4, num_layers=2, bidirectional=True)
    assert isinstance(ours, getattr(nn, kind))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert repr(theirs)[:-1] in repr(ours)


def test_the_constructor_draws_the_same_parameters_from_the_same_seed():
    for kind in KINDS:
        torch.manual_seed(1)
        theirs = getattr(nn, kind)(3, 4, 2, device="cpu")
        torch.manual_seed(1)
        ours = getattr(membptt.nn, kind)(3, 4, 2, device="cpu", slots=2)
        assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copied_layer_still_knows_its_budget(again):
    _, ours = pair("GRU", 3, 4, budget={"slots": 2, "chunk": 5, "policy": "ism"})
    twin, xs = again(ours), sequence(ours, 9)
    assert (twin.slots, twin.chunk, twin.policy) == (2, 5, "ism")
    assert torch.equal(twin(xs)[0], ours(xs)[0])
    assert "slots=2, chunk=5, policy=ism" in repr(twin)


def test_a_layer_takes_a_policy_table():
    theirs, ours = pair("GRU", 3, 4, budget={"slots": 2, "chunk": 2, "policy": build("hsm", 9, 3)})
    assert_equal(theirs, ours, sequence(theirs, 11), None)
    assert "policy=hsm" in repr(ours)


BAD = [
    lambda layer: layer(torch.zeros(5)),
    lambda layer: layer(torch.zeros(1, 1, 5, 2, 3, dtype=torch.float64)),
    lambda layer: layer(torch.zeros(5, 2, 7, dtype=torch.float64)),
    lambda layer: layer(torch.zeros(5, 2, 3, dtype=torch.float32)),
    lambda layer: layer(sequence(layer, 5), start(layer, batch=3)),
    lambda layer: layer(sequence(layer, 5), start(layer, batched=False)),
    lambda layer: layer(sequence(layer, 5, batched=False), start(layer)),
    lambda layer: type(layer)(3, 4, 1, -2, **({"slots": 2} if hasattr(layer, "slots") else {})),
    lambda layer: layer(torch.zeros(0, 2, 3, dtype=torch.float64)),
    lambda layer: layer(nn.utils.rnn.pack_sequence([torch.zeros(2, 7, dtype=torch.float64)])),
    lambda layer: type(layer)(3, 0, **({"slots": 2} if hasattr(layer, "slots") else {})),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", BAD)
def test_a_bad_call_is_refused_as_torch_refuses_it(kind, call):
    theirs, ours = pair(kind, 3, 4)
    refused = outcome(lambda: call(theirs))
    assert issubclass(refused, Exception)
    assert outcome(lambda: call(ours)) is refused


# ---- packed sequences ----


def packed(layer, lengths, *, sorted=False):
    """Sequences of these lengths, in that order unless sorted, as torch packs them."""
    lengths = [*lengths]
    if sorted:
        lengths.sort(reverse=True)
    sequences = [torch.randn(length, layer.input_size, dtype=torch.float64, requires_grad=True) for length in lengths]
    return nn.utils.rnn.pack_sequence(sequences, enforce_sorted=sorted)


def run_packed(layer, rows, hx, total_length):
    """What `run` returns, of a packed input; the output is padded."""
    output, final = layer(rows, hx)
    assert type(output) is nn.utils.rnn.PackedSequence
    padded, lengths = nn.utils.rnn.pad_packed_sequence(output, total_length=total_length)
    assert torch.equal(lengths, nn.utils.rnn.pad_packed_sequence(rows)[1])
    results = [padded, *leaves(final)]
    wanted = [rows.data, *(leaves(hx) if hx is not None else ()), *layer.parameters()]
    return [leaf.detach() for leaf in results], list(torch.autograd.grad(weighed(results), wanted))


def assert_equal_packed(theirs, ours, lengths, *, given_start, sorted=False, seed=7):
    rows = packed(theirs, lengths, sorted=sorted)
    hx = start(theirs, batch=len(lengths)) if given_start else None
    expected, computed = (
        torch.manual_seed(seed) and run_packed(each, rows, hx, max(lengths) + 1) for each in (theirs, ours)
    )
    for a, b in zip(computed, expected, strict=True):
        assert [leaf.shape for leaf in a] == [leaf.shape for leaf in b]
        assert relative_error(a, b) <= 1e-10


def packed_options():
    for kind, options in every_option():
        if options["bias"] and not options["batch_first"]:  # a packed sequence has no batch dimension
            yield kind, options


@pytest.mark.parametrize("kind", KINDS)
def test_layer_equals_torch_on_packed_sequences_exhaustive(kind):
    """Every option, with and without starting state, sorted and not, at lengths that a core does not divide."""
    for name, options in packed_options():
        if name == kind:
            theirs, ours = pair(kind, 3, 4, **options)
            for given_start, sorted in product((False, True), repeat=2):
                assert_equal_packed(theirs, ours, [2, 7, 1, 7, 4], given_start=given_start, sorted=sorted)


@pytest.mark.parametrize("both", [False, True])
def test_layer_equals_torch_on_packed_sequences_of_all_lengths_exhaustive(both):
    for lengths, chunk in product(product(range(1, 4), repeat=3), (1, 2, 3)):
        theirs, ours = pair("GRU", 3, 4, budget={"slots": 2, "chunk": chunk}, bidirectional=both)
        assert_equal_packed(theirs, ours, lengths, given_start=True)


@given(
    st.sampled_from([*packed_options()]),
    policies(),
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.integers(1, 12),
    st.integers(1, 6),
    st.booleans(),
    st.booleans(),
)
def test_layer_equals_torch_on_packed_sequences_hypothesis(which, policy, lengths, chunk, slots, given_start, spill):
    (kind, options), (name, sizes) = which, policy
    budget = {"slots": slots, "chunk": chunk, "policy": name, **sizes, "spill": spill and name == "hsm"}
    theirs, ours = pair(kind, 3, 4, budget=budget, **options)
    assert_equal_packed(theirs, ours, lengths, given_start=given_start)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_between_layers_of_packed_sequences_is_torchs_where_there_is_one_core_or_both_directions(kind):
    for both in (False, True):
        options = {"num_layers": 3, "dropout": 0.4, "bidirectional": both}
        theirs, ours = pair(kind, 3, 4, budget={"slots": 1, "chunk": 3 if both else 9}, **options)
        assert_equal_packed(theirs, ours, [4, 9, 2], given_start=True)


def test_recomputed_dropout_of_packed_sequences_is_that_of_the_first_pass():
    computed = []
    for budget in ({"slots": 1, "policy": "hsm"}, {"slots": 50, "policy": "ism"}):
        _, ours = pair("LSTM", 3, 4, num_layers=2, dropout=0.4, budget={"chunk": 3, **budget})
        rows = packed(ours, [9, 20, 4])
        torch.manual_seed(7)
        computed.append(run_packed(ours, rows, None, 20))
    assert max(map(relative_error, *computed)) <= 1e-10


@pytest.mark.parametrize("both", [False, True])
def test_second_derivatives_of_packed_sequences(both):
    theirs, ours = pair("GRU", 3, 4, num_layers=2, bidirectional=both)
    twice = []
    for layer in (theirs, ours):
        rows = packed(layer, [2, 5, 1])
        rows = rows._replace(data=torch.linspace(-1, 1, 24, dtype=torch.float64).view(8, 3).requires_grad_())
        wanted = [rows.data, *layer.parameters()]
        first = torch.autograd.grad(layer(rows)[0].data.square().sum(), wanted, create_graph=True)
        twice.append(torch.autograd.grad(sum(leaf.square().sum() for leaf in first), wanted))
    assert relative_error(*twice) <= 1e-9


def test_a_state_of_too_many_sequences_is_refused_where_torch_takes_some_of_them():
    theirs, ours = pair("GRU", 3, 4)
    rows, hx = packed(ours, [1, 2]), start(ours, batch=3)
    theirs(rows, hx)
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        ours(rows, hx)


def test_the_state_of_a_sequence_that_has_ended_is_not_touched():
    """A kernel that is given all sequences in every core would go on with them, or fail."""
    _, ours = pair("GRU", 3, 4, budget={"slots": 2, "chunk": 1})
    rows = packed(ours, [1, 6])
    states = []
    kernel = membptt.nn._Segment._kernel

    def seen(self, xs, carry, weights, sizes):
        ys, final = kernel(self, xs, carry, weights, sizes)
        states.append(final[0][0, 1].detach())
        return ys, final

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(membptt.nn._Segment, "_kernel", seen)
        _, final = ours(rows)
    assert all(torch.equal(state, final[0, 0].detach()) for state in states)


def test_sequences_that_are_not_turned_by_themselves_are_caught(monkeypatch):
    monkeypatch.setattr(membptt.nn, "_turned", lambda sizes: torch.arange(int(sizes.sum())).flip(0))
    theirs, ours = pair("GRU", 3, 4, bidirectional=True)
    with pytest.raises(AssertionError):
        assert_equal_packed(theirs, ours, [3, 1], given_start=False)


# ---- the face: what a layer may store ----


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_in_bytes_is_planned_and_shared_by_the_directions(kind, both):
    theirs, ours = pair(kind, 3, 4, num_layers=2, bidirectional=both, budget={"budget": "64KiB"})
    assert_equal(theirs, ours, sequence(theirs, 20), start(theirs))
    assert "budget='64KiB'" in repr(ours)
    with pytest.raises(ValueError, match="smallest"):
        pair(kind, 3, 4, budget={"budget": 10})[1](sequence(theirs, 20))


@pytest.mark.parametrize("lengths", [None, [9, 4, 6]])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_smallest_budget_of_a_bidirectional_layer_that_its_error_names_is_enough(layers, lengths):
    shape = {"num_layers": layers, "bidirectional": True}
    theirs, small = pair("LSTM", 3, 4, **shape, budget={"budget": 1})
    xs = sequence(theirs, 9) if lengths is None else packed(theirs, lengths)
    with pytest.raises(ValueError, match=f"of 1 bytes is too small: {2 * layers} scans") as error:
        small(xs)
    least = int(re.findall(r"the smallest feasible budget is (\d+) bytes", str(error.value))[0])
    with pytest.raises(ValueError, match=f"budget is {least} bytes"):
        pair("LSTM", 3, 4, **shape, budget={"budget": least - 1})[1](xs)
    enough = pair("LSTM", 3, 4, **shape, budget={"budget": least})[1]
    if lengths is None:
        assert_equal(theirs, enough, xs, None)
    else:
        assert_equal_packed(theirs, enough, lengths, given_start=False)


def test_a_layer_takes_the_plan_that_it_made():
    theirs, ours = pair("LSTM", 3, 4, num_layers=2)
    for xs in (sequence(theirs, 20), packed(theirs, [20, 7])):
        plan = ours.planned(xs, budget="32KiB", chunk=4)
        twin = pair("LSTM", 3, 4, num_layers=2, budget={"plan": plan})[1]
        assert plan.chosen.measured.chunk == 4
        if isinstance(xs, torch.Tensor):
            assert_equal(theirs, twin, xs, None)
            with pytest.raises(ValueError, match="plan anew"):
                twin(xs[:5])
        else:
            assert relative_error(*([leaf.detach() for leaf in layer(xs)[1]] for layer in (twin, theirs))) <= 1e-10
    with pytest.raises(TypeError, match="a plan is of one scan: give budget="):
        pair("GRU", 3, 4, bidirectional=True, budget={"plan": plan})
    with pytest.raises(TypeError, match="a plan is of one scan: give budget="):
        pair("GRU", 3, 4, bidirectional=True)[1].planned(sequence(theirs, 20), budget="1MiB")


BAD_MEANS = [
    ({}, TypeError, "exactly one of slots=, budget= and plan="),
    ({"slots": 2, "budget": 9}, TypeError, "exactly one of slots=, budget= and plan="),
    ({"slots": 0}, ValueError, "slots must be at least 1"),
    ({"slots": 2.0}, TypeError, "slots must be an integer"),
    ({"slots": 2, "chunk": 0}, ValueError, "chunk must be at least 1"),
    ({"slots": 2, "policy": "best"}, ValueError, "known policies"),
    ({"slots": 2, "policy": 3}, TypeError, "a name, a table or a Schedule"),
    ({"slots": 2, "spill": 3}, TypeError, "spill must be True, False or a SlowTier"),
    ({"budget": "much"}, ValueError, "much"),
    ({"budget": 9, "internal": 3}, TypeError, "only with slots="),
    ({"budget": 9, "policy": build("hsm", 3, 3)}, TypeError, "among policies by name"),
    ({"plan": "plan.json"}, TypeError, "plan must be a Plan"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("means", "error", "says"), BAD_MEANS)
def test_a_missing_or_bad_budget_is_refused_when_the_layer_is_made(kind, means, error, says):
    with pytest.raises(error, match=says):
        getattr(membptt.nn, kind)(3, 4, **means)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_names_all_its_arguments(kind):
    """Torch's own take anything; an editor shows nothing of them."""
    layer = getattr(membptt.nn, kind)
    parameters = inspect.signature(layer).parameters
    assert {"slots", "budget", "plan", "chunk", "policy", "internal", "internal_known", "spill"} <= parameters.keys()
    assert not [name for name, each in parameters.items() if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("slots", "budget", "plan"))
    assert ("proj_size" in parameters) == (kind == "LSTM") == ("compile" not in parameters)
    assert all(f"{name}:" in layer.__doc__ for name in parameters)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_layer_is_the_layer():
    theirs, ours = pair("GRU", 3, 4)
    assert_equal(theirs, torch.compile(ours, backend="eager"), sequence(theirs, 9), None)


def by_segments(layer, chunk):
    """Torch's layer, called on one segment after the other: the order in which dropout masks are drawn."""

    def call(xs, hx):
        outputs = []
        for segment in xs.split(chunk):
            ys, hx = layer(segment, hx)
            outputs.append(ys)
        return torch.cat(outputs), hx

    call.parameters = layer.parameters
    return call


def seeded(layer, xs, hx):
    torch.manual_seed(7)
    return run(layer, xs, hx)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [3, 20])
def test_dropout_masks_are_those_of_torch_run_segment_by_segment(kind, chunk):
    """With one core they are those of torch run on the whole sequence."""
    theirs, ours = pair(kind, 3, 4, num_layers=3, dropout=0.4, budget={"slots": 2, "chunk": chunk})
    xs, hx = sequence(theirs, 20), start(theirs)
    expected, computed = seeded(by_segments(theirs, chunk), xs, hx), seeded(ours, xs, hx)
    assert max(map(relative_error, computed, expected)) <= 1e-10
    torch.manual_seed(8)
    assert relative_error(run(ours, xs, hx)[1], expected[1]) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_masks_of_a_bidirectional_layer_are_torchs(kind):
    """Its layers run one after another, so their masks are drawn as torch draws them."""
    theirs, ours = pair(kind, 3, 4, num_layers=3, dropout=0.4, bidirectional=True)
    xs = sequence(theirs, 10)
    assert max(map(relative_error, seeded(ours, xs, None), seeded(theirs, xs, None))) <= 1e-10


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_dropout_masks_are_those_of_the_first_pass(kind, device):
    """One slot recomputes everything, fifty internal states nothing."""
    computed = []
    for budget in ({"slots": 1, "policy": "hsm"}, {"slots": 50, "policy": "ism"}):
        _, ours = pair(kind, 3, 4, num_layers=3, dropout=0.4, budget={"chunk": 3, **budget})
        xs = sequence(ours, 20).detach().to(device).requires_grad_()
        computed.append(seeded(ours.to(device), xs, None))
    assert max(map(relative_error, *computed)) <= 1e-10


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_layer_equals_torch_on_every_device(kind, both, device):
    theirs, ours = pair(kind, 3, 4, num_layers=2, bidirectional=both)
    xs = sequence(theirs, 20).detach().to(device).requires_grad_()
    assert_equal(theirs.to(device), ours.to(device), xs, None)


def test_dropout_masks_that_are_not_restored_are_caught(monkeypatch):
    theirs, ours = pair("LSTM", 3, 4, num_layers=2, dropout=0.4, budget={"slots": 1, "chunk": 3})
    xs = sequence(theirs, 20)
    expected = seeded(by_segments(theirs, 3), xs, None)[1]
    monkeypatch.setattr(Generators, "write", lambda self, state: None)
    with pytest.raises(RuntimeError, match="gave another carry"):
        seeded(ours, xs, None)
    monkeypatch.setattr("membptt.nn.scan", partial(scan, check=False))  # nor would it be right without the comparison
    assert relative_error(seeded(ours, xs, None)[1], expected) > 1e-3


def test_no_dropout_is_drawn_in_eval_mode():
    theirs, ours = pair("GRU", 3, 4, num_layers=2, dropout=0.4)
    assert_equal(theirs.eval(), ours.eval(), sequence(theirs, 8), None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given_start", [False, True])
def test_autocast_gives_torchs_dtypes_and_nearly_its_gradients(kind, given_start):
    theirs, ours = pair(kind, 3, 4, dtype=torch.float32)
    xs = sequence(theirs, 10).detach().float().requires_grad_()
    hx = start(theirs) if given_start else None
    if hx is not None:
        hx = tuple(leaf.detach().float().requires_grad_() for leaf in leaves(hx))
        hx = hx if kind == "LSTM" else hx[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        try:
            expected = run(theirs, xs, hx)
        except RuntimeError as error:
            if "primitive descriptor" in str(error):
                pytest.skip("torch's own layer does not run in bfloat16 on this processor")
            raise
        computed = run(ours, xs, hx)
    assert [leaf.dtype for leaf in computed[0]] == [leaf.dtype for leaf in expected[0]]
    assert max(map(relative_error, computed, expected)) <= 0.05


def test_weights_that_are_computed_get_their_gradients():
    theirs, ours = pair("LSTM", 3, 4)
    for layer in (theirs, ours):
        nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    assert_equal(theirs, ours, sequence(theirs, 9), None)


def test_functional_call_uses_the_weights_it_is_given():
    theirs, ours = pair("GRU", 3, 4)
    other = {name: (weight * 0.5).detach().requires_grad_() for name, weight in theirs.named_parameters()}
    xs = sequence(theirs, 9)
    computed, expected = (
        torch.autograd.grad(torch.func.functional_call(layer, other, (xs,))[0].sum(), [*other.values()])
        for layer in (ours, theirs)
    )
    assert relative_error(computed, expected) <= 1e-10


def test_frozen_weights_stay_without_gradient():
    theirs, ours = pair("LSTM", 3, 4)
    for layer in (theirs, ours):
        layer.weight_hh_l0.requires_grad_(False)
        layer(sequence(layer, 9).detach())[0].sum().backward()
        assert layer.weight_hh_l0.grad is None
    assert ours.weight_ih_l0.grad is not None


def test_a_layer_without_grad_returns_plain_values():
    theirs, ours = pair("LSTM", 3, 4)
    xs = sequence(theirs, 9)
    with torch.no_grad():
        computed, expected = ours(xs)[0], theirs(xs)[0]
    assert not computed.requires_grad
    assert torch.allclose(computed, expected, rtol=1e-12)


def windows(layer, xs, *, cut):
    """Truncated backpropagation: windows of four steps, the state handed on with or without its graph."""
    total, hx = torch.zeros((), dtype=xs.dtype), None
    for window in xs.split(4):
        ys, hx = layer(window, hx)
        total = total + weighed([ys])
        hx = tuple(leaf.detach() for leaf in hx) if cut else hx
    return torch.autograd.grad(total, [xs, *layer.parameters()])


def test_a_state_handed_on_backpropagates_across_calls_and_a_detached_one_does_not():
    theirs, ours = pair("LSTM", 3, 4)
    xs = sequence(theirs, 12)
    through = torch.autograd.grad(sum(weighed([ys]) for ys in theirs(xs)[0].split(4)), [xs, *theirs.parameters()])
    assert relative_error(windows(ours, xs, cut=False), through) <= 1e-10
    truncated = windows(theirs, xs, cut=True)
    assert relative_error(windows(ours, xs, cut=True), truncated) <= 1e-10
    assert relative_error(truncated, through) > 1e-3


def test_backpropagating_an_earlier_window_twice_is_refused():
    """As in plain autograd: one backward per window needs the state detached between windows."""
    _, ours = pair("LSTM", 3, 4)
    ys, hx = ours(sequence(ours, 4))
    ys.sum().backward()
    ys, _ = ours(sequence(ours, 4), hx)
    with pytest.raises(RuntimeError, match=r"backpropagated before|second time"):
        ys.sum().backward()
