"""A step that is not at its recomputation what it was is noticed, whatever made it another; rounding is not."""

import shutil
from contextlib import nullcontext
from functools import lru_cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from membptt import Indexed, SlowTier, chain, meter, scan
from membptt.planning.tally import Tally
from membptt.run import continuity as continuity_module
from membptt.run.continuity import MARKS, Continuity
from membptt.run.verdict import distance
from membptt.state import fingerprints as fingerprints_module
from membptt.state.fingerprints import ROW, fingerprint, hashed, is_small, tolerance
from membptt.state.states import Hidden
from membptt_theory.tables import build

from .cells import gradients, plain, problem, relative_error
from .strategies import POLICIES, policies, policy_id

D = torch.float64
STEPS = 7
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class Drifting:
    """A step whose weight is another one when a certain position is evaluated for the second time."""

    def __init__(self, position, size=0.5, size_of_state=3):
        self.position, self.size, self.seen = position, size, 0
        self.weight = torch.full((size_of_state,), 0.9, dtype=D, requires_grad=True)

    def __call__(self, carry, x):
        h, count = carry
        moved = 0.0
        if int(count) == self.position:
            self.seen += 1
            moved = self.size * (self.seen > 1)
        h = torch.tanh(h * self.weight + x + moved)
        return (h, count + 1), h

    def run(self, steps=STEPS, **options):
        init = torch.zeros_like(self.weight), torch.tensor(0)
        (h, _), ys = scan(self, init, torch.linspace(0, 1, steps, dtype=D), params=[self.weight], **options)
        (h.sum() + ys.sum()).backward()
        return self.weight.grad


def noticed(position, steps=STEPS, **options):
    """Whether a drift at `position` is either refused or never met: that position was evaluated once."""
    step, said = Drifting(position), ""
    try:
        step.run(steps, **options)
    except RuntimeError as error:
        said = str(error)
    return "gave another" in said or step.seen == 1


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize(("policy", "sizes"), [*POLICIES, ("hsm", {"spill": SlowTier(2)})], ids=policy_id)
def test_a_step_that_drifts_at_any_position_is_noticed_exhaustive(policy, sizes, chunk):
    for position in range(STEPS):
        for slots in (1, 2, 4, 9):
            assert noticed(position, slots=slots, policy=policy, chunk=chunk, **sizes)


@given(policies(), st.integers(1, 30), st.integers(0, 29), st.integers(1, 12), st.integers(1, 4))
def test_a_step_that_drifts_at_any_position_is_noticed_hypothesis(which, steps, position, slots, chunk):
    policy, sizes = which
    assert noticed(position % steps, steps, slots=slots, policy=policy, chunk=chunk, **sizes)


@pytest.mark.parametrize("steps", [30, 300])
def test_a_drift_that_all_recomputations_share_is_noticed_though_its_effect_fades_before_the_end(steps):
    for position in (*range(6), steps // 2):
        assert noticed(position, steps, slots=1 if steps == 30 else 3)
        assert noticed(position, steps, slots=2, reduce="mean")


def test_what_is_kept_of_the_first_pass_does_not_grow_with_its_length():
    continuity = Continuity(None, 1)
    for core in range(10 * MARKS * 4):
        continuity.passed(core, (torch.tensor([float(core)]),))
    assert MARKS // 2 <= len(continuity._marks) <= MARKS
    assert max(continuity._marks) > 9 * MARKS * 4


def test_a_first_pass_that_comes_out_again_is_rounding_and_another_one_is_not():
    def passes(second):
        continuity = Continuity(3, 1)
        for core in range(3):
            continuity.passed(core, (torch.ones(2),))
        continuity.ended((torch.ones(2),), 3)
        continuity.begin()
        continuity.passed(0, (torch.full((2,), second),))
        return continuity.strayed

    assert passes(1.0) is None
    assert passes(1.0 + 2**-20) == (0, 0)


def test_without_the_comparison_the_drift_is_a_wrong_gradient():
    expected = Drifting(position=-1).run(slots=2)
    assert not torch.allclose(Drifting(3).run(slots=2, check=False), expected)
    with pytest.raises(
        RuntimeError, match=r"recomputing core \d+ \(step \d+\) gave another carry.*: carry\[0\] differs by"
    ):
        Drifting(3).run(slots=2)


@pytest.mark.parametrize("options", [{"slots": 2, "reduce": "mean"}, {"slots": 3, "check": True}])
def test_a_drift_is_noticed_with_reduced_outputs_and_bit_by_bit(options):
    step = Drifting(3)
    with pytest.raises(RuntimeError, match="gave another"):
        step.run(**options)


def test_large_leaves_and_leaves_of_half_precision_are_compared_too():
    with pytest.raises(RuntimeError, match=r"carry\[0\] differs"):
        Drifting(3, size_of_state=3 * ROW).run(slots=2)
    for size in (0.5, 0.0):
        step = Drifting(3, size=size)
        step.weight = torch.full((3,), 0.9, dtype=torch.bfloat16, requires_grad=True)
        init = torch.zeros(3, dtype=torch.bfloat16), torch.tensor(0)
        xs = torch.linspace(0, 1, STEPS, dtype=torch.bfloat16)
        (h, _), _ = scan(step, init, xs, params=[step.weight], slots=2)
        with pytest.raises(RuntimeError, match="gave another carry") if size else nullcontext():
            h.sum().backward()


def test_a_drift_is_noticed_at_the_second_backward_of_a_retained_graph_alone():
    step = Drifting(6)  # the last position: the first pass records it, and only a further backward evaluates it again
    init = torch.zeros(3, dtype=D), torch.tensor(0)
    (h, _), _ = scan(step, init, torch.linspace(0, 1, STEPS, dtype=D), params=[step.weight], slots=3)
    h.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="gave another"):
        h.sum().backward()


def test_a_drift_inside_a_nested_scan_is_noticed():
    inner = Drifting(2)

    def outer(carry, x):
        start = carry, torch.tensor(0)
        (h, _), _ = scan(inner, start, torch.linspace(0, 1, 4, dtype=D) + x, params=[inner.weight], slots=2)
        return h, h

    final, _ = scan(outer, torch.zeros(3, dtype=D), torch.ones(5, dtype=D), params=[inner.weight], slots=2)
    with pytest.raises(RuntimeError, match="gave another"):
        final.sum().backward()


def test_an_output_that_the_carry_does_not_show_is_compared_at_the_last_cores():
    generator, weight = torch.Generator().manual_seed(0), torch.tensor(0.9, requires_grad=True)

    def step(h, x):
        h = torch.tanh(h * weight + x)
        return h, h * torch.rand((), generator=generator)

    _, ys = scan(step, torch.zeros(()), torch.ones(9), params=[weight], slots=2)
    with pytest.raises(RuntimeError, match=r"another output than the first pass: y differs by"):
        ys.sum().backward()


def test_integers_are_compared_exactly_and_a_not_a_number_equals_itself():
    drift = [0]

    def step(carry, x):
        h, count, mask = carry
        return (torch.sin(h * x), count + drift[0], torch.where(mask.isnan(), mask, mask + x)), h

    start = torch.ones((), requires_grad=True), torch.tensor(2**40), torch.tensor([float("nan"), 1.0])
    for drift[0] in (0, 1):
        (h, *_), _ = scan(step, start, torch.ones(8), slots=2)
        h.backward()
    (h, *_), _ = scan(step, start, torch.ones(8), slots=2)
    drift[0] = 2
    with pytest.raises(RuntimeError, match=r"carry\[1\] differs"):
        h.backward()


# What tells leaves apart


def different(leaf, b):
    """Whether both kinds of fingerprint tell them apart."""
    numbers = not torch.equal(fingerprint(leaf), fingerprint(b))
    return numbers and (not is_small(leaf) or hashed(leaf) != hashed(b))


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.int64, torch.uint8]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [2, 5, 4096, 4097, 9000])
def test_a_fingerprint_notices_a_change_a_sign_and_a_permutation_exhaustive(dtype, size):
    leaf = (torch.arange(size) % 97 + 1).to(dtype)
    if leaf.is_floating_point():
        leaf /= 8
    for at in {0, 1, size // 2, size - 1}:
        changed, negated = leaf.clone(), leaf.clone()
        changed[at] += 1
        negated[at] = -negated[at]
        assert different(leaf, changed)
        assert different(leaf, negated)
    assert different(leaf, leaf.flip(0))
    assert different(leaf, leaf.roll(1))
    assert not different(leaf, leaf.clone())
    assert not different(leaf.view(1, -1), leaf.repeat(2)[:size].view(1, -1))


@given(st.integers(0, 10**6), st.integers(2, 5000), st.data())
def test_a_fingerprint_notices_a_change_a_sign_and_a_permutation_hypothesis(seed, size, data):
    leaf = torch.rand(size, generator=torch.Generator().manual_seed(seed)) + 0.5
    at, to = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    changed, swapped = leaf.clone(), leaf.clone()
    changed[at] *= -1
    swapped[[at, to]] = swapped[[to, at]]
    assert different(leaf, changed)
    assert different(leaf, swapped) == (not torch.equal(leaf, swapped))


def test_a_sum_in_place_of_the_weights_would_overlook_a_permutation(monkeypatch):
    leaf = torch.arange(1.0, 9)
    assert different(leaf, leaf.flip(0))
    monkeypatch.setattr(fingerprints_module, "_weights", lambda size, dtype, device: torch.ones(size, dtype=dtype))
    assert torch.equal(fingerprint(leaf), fingerprint(leaf.flip(0)))


def test_conjugates_and_strange_strides_have_the_fingerprint_of_their_values():
    leaf = torch.randn(4, 6, dtype=torch.complex64)
    assert torch.equal(fingerprint(leaf.conj()), fingerprint(leaf.conj().resolve_conj()))
    assert hashed(leaf.conj()) == hashed(leaf.conj().resolve_conj())
    real = torch.randn(4, 6)
    assert torch.allclose(fingerprint(real.T), fingerprint(real.T.contiguous()))
    assert hashed(real.T) == hashed(real.T.contiguous())
    assert hashed(torch.imag(leaf.conj())) == hashed(torch.imag(leaf.conj()).clone())


def test_a_fingerprint_stands_for_4096_elements_a_number_and_stores_no_state():
    assert fingerprint(torch.ones(10 * ROW + 1)).numel() == 11
    assert fingerprint(torch.ones(3)).numel() == 1
    assert fingerprint(torch.ones(0)).numel() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_rounding_is_within_the_tolerance_and_a_hundredth_is_not(dtype):
    torch.manual_seed(0)
    for size in (1, 50, 5000):
        leaf = torch.rand(size, dtype=D) + 0.5
        rounded = (leaf + leaf * torch.finfo(dtype).eps * 0.4 * torch.randn(size, dtype=D).sign()).to(dtype)
        a, b = fingerprint(leaf.to(dtype)), fingerprint(rounded)
        assert (a - b).abs().max() <= tolerance(dtype) * a.abs().max()
    if dtype in (torch.float32, D):
        a, b = fingerprint(leaf.to(dtype)), fingerprint((leaf * 1.01).to(dtype))
        assert (a - b).abs().max() > tolerance(dtype) * a.abs().max()


def test_distance_is_relative_and_infinite_where_kinds_or_integers_differ():
    a = torch.tensor([3.0, float("nan"), 4.0])
    assert distance(a, a.clone()) == 0
    assert distance(a, torch.tensor([3.0, float("nan"), 4.5])) == pytest.approx(0.5 / (9 + 4.5**2) ** 0.5)
    for b in (torch.tensor([3.0, 1.0, 4.0]), a.double(), a[:2]):
        assert distance(a, b) == float("inf")
    assert distance(torch.tensor(1), torch.tensor(2)) == float("inf")


# Rounding is no drift


def logistic(h, x):
    h = 3.99 * h * (1 - h) + 1e-6 * x
    return h, h


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_chaotic_recurrence_raises_no_alarm(dtype, policy, sizes):
    init = torch.linspace(0.1, 0.9, 50).to(dtype).requires_grad_()
    for slots, chunk in ((3, 1), (8, 1), (4, 5)):
        final, _ = scan(logistic, init, torch.ones(60, dtype=dtype), slots=slots, chunk=chunk, policy=policy, **sizes)
        final.sum().backward()


def rounding(scale=1e-6):
    """A chaotic step of which a fused kernel with graph would round differently: by one part in `1 / scale`."""

    def step(h, x):
        h = 3.99 * h * (1 - h) + 1e-6 * x
        if torch.is_grad_enabled():
            h = h * (1 + scale * torch.linspace(-1, 1, len(h)).to(h.dtype))
        return h, h

    return step


@pytest.mark.parametrize("check", [None, True])
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_chaotic_step_that_rounds_differently_with_graph_raises_no_alarm(policy, sizes, check):
    """In float32 that is ten roundings; within a core of eight steps they grow to some thousand."""
    for slots, chunk in ((3, 1), (8, 1), (3, 8)):
        init = torch.linspace(0.1, 0.9, 50).requires_grad_()
        for _ in range(2):  # the second time it is known to round
            xs = torch.ones(60)
            final, _ = scan(rounding(), init, xs, slots=slots, chunk=chunk, policy=policy, check=check, **sizes)
            final.sum().backward()


@pytest.mark.parametrize("check", [None, True])
def test_a_step_that_is_another_with_graph_is_no_rounding(check):
    init = torch.linspace(0.1, 0.9, 50).requires_grad_()
    for scale in (1e-2, 0.3):
        final, _ = scan(rounding(scale), init, torch.ones(20), slots=3, check=check)
        with pytest.raises(
            RuntimeError, match="not deterministic" if check else "something else with graph than without"
        ):
            final.sum().backward()


@COMPILER
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", [None, pytest.param(True, marks=pytest.mark.slow)])
def test_compiled_and_fused_cores_raise_no_alarm(check):
    torch.manual_seed(0)
    lorenz = nn.Linear(8, 8)
    with torch.no_grad():
        lorenz.weight.normal_(0, 3)  # a random network far above the edge of chaos

    def step(h, x):
        h = torch.tanh(lorenz(h) + x)
        return h, h.square().mean()

    init = torch.randn(4, 8, requires_grad=True)
    xs = 0.1 * torch.randn(64, 4, 8)
    for policy, sizes in (("hsm", {}), ("msm", {"internal": 2})):
        options = {"slots": 4, "chunk": 4, "compile": True, "check": check, "params": list(lorenz.parameters())}
        scan(step, init, xs, policy=policy, **sizes, **options)[1].sum().backward()
    gru = nn.GRU(8, 8)

    def segment(h, xs):
        ys, h = gru(xs, h)
        return h, ys

    start = torch.zeros(1, 4, 8)
    segments = {"slots": 3, "chunk": 8, "segments": True, "check": check}
    scan(segment, start, xs, params=gru.parameters(), **segments)[1].sum().backward()


def test_check_works_on_conjugates():
    w = torch.tensor(0.5 + 0.5j, requires_grad=True)
    for check in (None, True):
        final, _ = scan(
            lambda h, x: ((h * w + x).conj(), x),
            torch.ones(3, dtype=torch.complex64),
            torch.ones(7),
            slots=2,
            params=[w],
            check=check,
        )
        final.abs().sum().backward()


# What it costs


def test_nothing_is_read_from_a_device_core_by_core(monkeypatch):
    """Told that no leaf lies on the host, the comparison reads as often for 200 cores as for 20."""
    reads = []
    for name in ("item", "tolist", "__bool__", "cpu"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, *_, real=real: reads.append(1) or real(self))
    monkeypatch.setattr(continuity_module, "is_small", lambda leaf: False)
    monkeypatch.setattr(torch, "equal", lambda *_: reads.append(1) or False)

    def count(cores):
        step, init, xs = nn.GRUCell(3, 4), torch.zeros(2, 4), torch.randn(cores, 2, 3)
        compared = Continuity(cores, 1)
        states = [init]
        for x in xs:
            states.append(step(x, states[-1]).detach())
        compared.ended((states[-1],), cores)
        compared.begin()
        reads.clear()
        for before, after in reversed(list(pairwise(states))):
            compared.compare(Fake((before,), (after,)))
        return len(reads)

    assert count(200) <= 2 * (200 // 64) * 2  # on the host a window is first tested as a whole
    assert count(20) == 0


class Fake:
    """As much of an internal state as is compared."""

    def __init__(self, carry_in, carry_out):
        self.carry_in, self.carry_out, self.start = carry_in, carry_out, Hidden.of(carry_in, ())


def test_of_a_large_state_no_tensor_is_kept():
    compared = Continuity(300, 1)
    state = torch.ones(5 * ROW)
    compared.ended((state,), 300)
    compared.begin()
    for _ in range(100):
        compared.compare(Fake((state,), (state,)))
    assert sum(a.numel() for row in (*compared._then, *compared._now, compared._given) for a in row) <= 2 * 64 * 5


def test_what_is_compared_costs_no_forward_more_where_nothing_is_wrong():
    step, init, xs = problem(_Tanh, 40, D)
    counts = []
    for check in (None, False):
        with meter() as report:
            actual = gradients(scan(step, init, xs, slots=4, check=check), step, init, xs)
        counts.append((report.forwards, report.peak_bytes))
        assert relative_error(actual, gradients(plain(step, init, xs), step, init, xs)) <= 1e-10
    assert counts[0] == counts[1]


class _Tanh(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(7, 4)

    def init(self, batch):
        return torch.randn(batch, 4)

    def forward(self, h, x):
        h = torch.tanh(self.mix(torch.cat([h, x], -1)))
        return h, h


def peak(step, init, xs, **options):
    """Return the most bytes that live at a time, by storage, in forward and backward."""
    leaves = init if isinstance(init, tuple) else (init,)
    with Tally([xs, *leaves, *options["params"]]) as tally:
        scan(step, init, xs, **options)[1].sum().backward()
    return tally.peak()


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_small_leaves_that_are_kept_to_be_compared_do_not_add_to_the_peak(policy, sizes, chunk):
    def peaks(check, slots, width):
        torch.manual_seed(0)
        cell = nn.GRUCell(3, width)

        def step(h, x):
            h = cell(x, h)
            return h, h.sum()

        options = {"slots": slots, "chunk": chunk, "policy": policy, "params": list(cell.parameters()), **sizes}
        return peak(step, torch.zeros(2, width), torch.randn(24, 2, 3), check=check, **options)

    for slots, width in ((1, 4), (3, 4), (3, 300)):
        assert peaks(None, slots, width) == peaks(False, slots, width)


def test_a_small_leaf_is_not_kept_where_it_would_keep_a_large_one_alive():
    whole = torch.ones(3 + 5 * ROW)
    apart = torch.ones(3), torch.ones(5 * ROW)
    for carry in (whole.split([3, 5 * ROW]), apart):
        compared = Continuity(300, 1)
        compared.ended(carry, 300)
        compared.begin()
        compared.compare(Fake(carry, carry))
        assert compared._given[0].untyped_storage().nbytes() == 12


# What is compared as it is


@pytest.mark.parametrize(("size", "factor"), [(0.5, 1e-4), (1e-13, 1.0)])
def test_a_drift_below_rounding_or_one_that_fades_below_it_before_a_stored_state_is_noticed(size, factor):
    """Fingerprints of doubles may differ by 6e-11."""
    for position in range(6):
        step, said = Drifting(position, size), ""
        step.weight = torch.full((3,), factor, dtype=D, requires_grad=True)
        try:
            step.run(30, slots=3)
        except RuntimeError as error:
            said = str(error)
        assert "gave another carry" in said or step.seen == 1


@pytest.mark.parametrize("position", [3, 20])
def test_a_large_leaf_that_drifts_is_named_with_its_core_where_a_small_one_drifts_further_back(position):
    """What waits to be compared is settled where the small one is looked at closely."""
    compared, state = Continuity(40, 1), (torch.ones(3), torch.ones(2 * ROW))
    compared.ended(state, 40)
    compared.begin()
    for core in reversed(range(40)):
        after = state[0] + 1e-7 * (core == 2), state[1] + 1e-3 * (core == position)
        compared.compare(Fake(state, after))
    doubt = compared.doubt()
    assert compared.broken == (2, 0)
    assert (doubt.what, doubt.core, doubt.leaf) == ("carry", position, 1)


@pytest.mark.parametrize("change", [torch.Tensor.bfloat16, torch.Tensor.flatten])
def test_a_carry_of_another_dtype_or_shape_at_its_recomputation_is_noticed(change):
    w = torch.tensor(0.9, requires_grad=True)

    def step(h, x):
        h = h.float().view(2, 3) * w + x
        return change(h) if torch.is_grad_enabled() and x == 3 else h, x

    start = torch.ones(2, 3, requires_grad=True)
    final, _ = scan(step, start, torch.arange(9.0), slots=2, params=[w])
    with pytest.raises(RuntimeError, match="gave another carry"):
        final.sum().backward()


def test_a_not_a_number_costs_no_second_execution():
    def evaluations(check):
        calls = []

        def step(carry, x):
            calls.append(1)
            return (torch.sin(carry[0] * x), carry[1] + 1), x

        start = torch.ones((), requires_grad=True), torch.tensor([float("nan"), 1.0])
        (h, _), _ = scan(step, start, torch.ones(20), slots=3, check=check)
        h.backward()
        return len(calls)

    assert evaluations(None) == evaluations(False)


def test_a_step_that_writes_over_what_is_kept_is_refused():
    """It has a buffer for every position, where nobody finds them: what is kept would be compared with itself."""
    w, buffer = torch.tensor(0.9, requires_grad=True), lru_cache(lambda position: torch.zeros(3))

    def step(carry, x):
        new = torch.tanh(carry[0] * w + x)
        with torch.no_grad():
            h = buffer(int(carry[1])).copy_(new)
        return (h, carry[1] + 1), new.sum()

    _, ys = scan(step, (torch.ones(3), torch.tensor(0)), torch.ones(9), slots=2, params=[w])
    with pytest.raises(RuntimeError, match="carry at position 8 was changed in place"):
        ys.sum().backward()


@pytest.mark.parametrize("position", range(6))
@pytest.mark.parametrize("size", [0.5, 1e-13])
def test_a_block_of_a_chain_that_drifts_is_noticed_by_bits_and_its_leaf_measured(position, size):
    step = Drifting(position, size)
    blocks = [lambda carry: step(carry, 0.1)[0] for _ in range(7)]
    schedule = build("hsm", 7, 2).schedule(7, 2)
    (h, _) = chain(blocks, (torch.zeros(3, dtype=D), torch.tensor(0)), schedule=schedule, params=[step.weight])
    gap = "differs by" if size > 1e-6 else "differs"
    with pytest.raises(RuntimeError, match=rf"gave another carry.*{gap}") if step.seen == 1 else nullcontext():
        h.sum().backward()
    assert step.seen > 1


def test_inputs_that_are_read_otherwise_the_second_time_are_noticed():
    w, seen = torch.tensor(0.9, requires_grad=True), []

    def read(start, stop):
        seen.append(start)
        return torch.full((stop - start,), 1.0 + (seen.count(start) > 1))

    final, _ = scan(lambda h, x: (torch.tanh(h * w + x), h), torch.zeros(()), Indexed(9, read), params=[w], slots=2)
    with pytest.raises(RuntimeError, match="gave another"):
        final.backward()
