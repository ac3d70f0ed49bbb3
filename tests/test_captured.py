"""Graph capture is used where it proves equal and faster, and never for what must last; stand-ins replace the GPU."""

import gc
import warnings
import weakref

import optree
import pytest
import torch
from torch import nn

from membptt import scan
from membptt.kernels.compiled import _REMEMBERED, _compile, capture_options, compile_chunk
from membptt.kernels.graphs import Captured

from .cells import CELLS, Lstm, gradients, plain, problem, relative_error
from .strategies import POLICIES, policy_id


class Clock:
    """Time that passes only when a stand-in advances it."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("membptt.kernels.graphs.perf_counter", clock)
    return clock


class Loop:
    """The loop over a step, as a compiled core is one."""

    def __init__(self, step, clock, seconds):
        self.step, self.clock, self.seconds, self.calls, self.with_graph = step, clock, seconds, 0, 0

    def __call__(self, carry, parts):
        self.calls += 1
        self.with_graph += torch.is_grad_enabled()
        self.clock.now += self.seconds
        ys = []
        for x in parts:
            carry, y = self.step(carry, x)
            ys.append(y)
        return carry, ys


class Replayed(Loop):
    """The same, with results in its own memory, which the next call of the same shapes overwrites."""

    def __init__(self, step, clock, seconds, spoil=None):
        super().__init__(step, clock, seconds)
        self.memory, self.spoil = {}, spoil

    def __call__(self, carry, parts):
        result = super().__call__(carry, parts)
        if self.spoil is not None:
            result = self.spoil(self.calls, result)
        given = {id(leaf) for leaf in optree.tree_leaves((carry, parts))}
        memory = self.memory.setdefault(len(parts), {})
        leaves, spec = optree.tree_flatten(result)
        written = []
        for index, leaf in enumerate(leaves):
            if id(leaf) not in given:
                leaf = memory.setdefault(index, torch.empty_like(leaf)).copy_(leaf)
            written.append(leaf)
        return spec.unflatten(written)


def spoil_at(call):
    """Another bit in the carry, from one call on."""

    def spoil(calls, result):
        return result if calls < call else optree.tree_map(lambda leaf: leaf + 1, result)

    return spoil


def fail_at(call):
    def fail(calls, result):
        if calls >= call:
            raise AssertionError("the address changed")
        return result

    return fail


CARRY, PARTS = {"h": torch.ones(3), "n": torch.zeros(())}, [torch.ones(3)] * 2


def cell(carry, x):
    return {"h": torch.sin(carry["h"] * 0.9 + x), "n": carry["n"] + 1}, carry["h"]


def decide(clock, slow, fast, step=cell, spoil=None, calls=4):
    """Run several cores; return results, and how often each way ran after the first core."""
    loop, replayed = Loop(step, clock, slow), Replayed(step, clock, fast, spoil)
    way, carry, results = Captured(loop, replayed), CARRY, []
    with torch.no_grad():
        for call in range(calls):
            carry, ys = way(carry, PARTS)
            results.append(optree.tree_map(torch.clone, (carry, ys)))
            if call == 0:
                before = loop.calls, replayed.calls
    return results, loop.calls - before[0], replayed.calls - before[1]


def expected_of(step=cell, calls=4):
    carry, results = CARRY, []
    for _ in range(calls):
        carry, ys = Loop(step, Clock(), 0)(carry, PARTS)
        results.append((carry, ys))
    return results


def same(results, expected):
    pairs = zip(optree.tree_leaves(results), optree.tree_leaves(expected), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_an_equal_and_faster_capture_is_used(clock):
    results, plain_calls, replays = decide(clock, 2, 1)
    assert (plain_calls, replays) == (0, 3)
    assert same(results, expected_of())


@pytest.mark.parametrize("seconds", [1, 2])
def test_an_equal_capture_that_is_not_faster_is_not_used(clock, seconds):
    results, plain_calls, replays = decide(clock, 1, seconds)
    assert (plain_calls, replays) == (3, 0)
    assert same(results, expected_of())


def test_a_capture_that_gives_other_bits_is_not_used_and_says_so(clock):
    with pytest.warns(UserWarning, match="gave other bits"):
        results, plain_calls, replays = decide(clock, 2, 1, spoil=spoil_at(1))
    assert (plain_calls, replays) == (3, 0)
    assert same(results, expected_of())


@pytest.mark.parametrize("call", [1, 2, 3, 9])
def test_a_capture_that_fails_at_first_or_later_is_not_used_and_says_so(clock, call):
    """The first core takes seven replays: two for the bits, five for the time."""
    with pytest.warns(UserWarning, match=r"failed \(AssertionError\).*go on without"):
        results, plain_calls, replays = decide(clock, 2, 1, spoil=fail_at(call))
    assert plain_calls + replays >= 3
    assert plain_calls == (3 if call < 8 else 2)
    assert same(results, expected_of())


class Stuck(Loop):
    """A graph that nothing was recorded into: every replay leaves what the first run gave."""

    def __call__(self, carry, parts):
        self.first = getattr(self, "first", None) or super().__call__(carry, parts)
        self.calls += 1
        return self.first


def test_a_replay_that_is_stuck_at_its_first_result_is_not_used_and_says_so(clock):
    loop, stuck = Loop(cell, clock, 2), Stuck(cell, clock, 1)
    way, carry = Captured(loop, stuck), CARRY
    first, *others = expected_of()
    with torch.no_grad():
        with pytest.warns(UserWarning, match="gave other bits"):
            carry, ys = way(carry, PARTS)
        assert same((carry, ys), first)
        for expected in others:
            carry, ys = way(carry, PARTS)
            assert same((carry, ys), expected)


def test_while_nothing_changes_from_core_to_core_no_way_is_chosen(clock):
    """A stuck replay could not be noticed here: the trial is repeated with the next core."""

    def step(carry, x):
        return carry * x, carry

    loop, replayed, still, moving = Loop(step, clock, 2), Replayed(step, clock, 1), torch.zeros(3), torch.ones(3)
    way, parts = Captured(loop, replayed), [torch.full((3,), 0.5)]
    with torch.no_grad():
        for _ in range(3):
            way(still, parts)
        assert replayed.calls == 0
        way(moving, parts)
        before = loop.calls, replayed.calls
        way(moving, parts)
    assert (loop.calls - before[0], replayed.calls - before[1]) == (0, 1)


@pytest.mark.filterwarnings("ignore")
def test_workspaces_are_cleared_around_every_run_that_makes_a_graph(monkeypatch):
    from membptt.kernels.workspaces import OwnWorkspaces  # (the compiler is imported when something is compiled)

    seen, options = [], {"device_index": 1, "is_backward": False, "is_inference": True}
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: seen.append("cleared"), raising=False)

    def cudagraphify(model, static_input_idxs, **kwargs):
        assert (static_input_idxs, kwargs) == ((0,), options)
        return lambda inputs: [model(inputs) for _ in ("warm up", "capture")][-1]

    monkeypatch.setattr("torch._inductor.compile_fx.cudagraphify", cudagraphify)

    def model(inputs):
        seen.append("ran")
        if inputs == ["bad"]:
            raise RuntimeError("a bad input")
        return inputs

    run = OwnWorkspaces().cudagraphify(model, [], (0,), **options)
    assert run([3]) == [3]
    assert seen == ["cleared", "ran", "cleared"] * 2
    with pytest.raises(RuntimeError, match="a bad input"):
        run(["bad"])
    assert seen[-1] == "cleared"


def noisy(carry, x):
    carry, y = cell(carry, x)
    return {**carry, "h": nn.functional.dropout(carry["h"])}, y


def test_the_trial_draws_no_random_numbers_of_its_own(clock):
    for slow in (2, 1):
        torch.manual_seed(1)
        results, *_ = decide(clock, slow, 1.5, noisy)
        state = torch.get_rng_state()
        torch.manual_seed(1)
        assert same(results, expected_of(noisy))
        assert torch.equal(state, torch.get_rng_state())


def test_a_capture_that_draws_other_random_numbers_is_not_used(clock):
    """Equal results, but it leaves the generator elsewhere: the next core would differ."""

    def draw(calls, result):
        torch.rand(1)
        return result

    with pytest.warns(UserWarning, match="gave other bits"):
        _, plain_calls, replays = decide(clock, 2, 1, spoil=draw)
    assert (plain_calls, replays) == (3, 0)


def test_each_kind_of_core_is_tried_by_itself(clock):
    loop, replayed = Loop(cell, clock, 2), Replayed(cell, clock, 1, spoil_at(9))
    way = Captured(loop, replayed)
    with torch.no_grad():
        way(CARRY, PARTS)
        way(CARRY, PARTS)
        with pytest.warns(UserWarning, match="other bits"):
            way(CARRY, PARTS[:1])


def test_leaves_that_the_step_hands_on_stay_shared(clock):
    def step(carry, x):
        return {"h": torch.sin(carry["h"]), "n": carry["n"]}, x

    way = Captured(Loop(step, clock, 2), Replayed(step, clock, 1))
    with torch.no_grad():
        for _ in range(3):
            carry, _ = way(CARRY, PARTS)
    assert carry["n"] is CARRY["n"]


def run(monkeypatch, clock, make, *, steps=13, **options):
    """One gradient with captured cores; and the ways they ran."""
    step, init, xs = problem(make, steps, torch.float64)
    ways = Loop(step, clock, 2), Replayed(step, clock, 1)
    monkeypatch.setattr("membptt.kernels.compiled._problem", lambda kind: None)
    monkeypatch.setattr("membptt.kernels.compiled._compile", lambda step, capture: Captured(*ways))
    monkeypatch.setattr("membptt.calls.execute.join_cores", lambda *_: None)  # as on a CUDA device
    result = scan(step, init, xs, chunk=2, compile=True, **options)
    values = [leaf.detach().clone() for leaf in optree.tree_leaves(result)]
    expected = plain(step, init, xs)
    assert same(values, [leaf.detach() for leaf in optree.tree_leaves(expected)])
    grads, wanted = gradients(result, step, init, xs), gradients(expected, step, init, xs)
    assert relative_error(grads, wanted) <= 1e-10
    return ways


@pytest.mark.parametrize("make", CELLS)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_stored_states_outlive_the_replays(monkeypatch, clock, make, policy, sizes):
    loop, replayed = run(monkeypatch, clock, make, slots=3, policy=policy, **sizes)
    assert replayed.with_graph == 0
    assert loop.with_graph >= 7
    if policy == "hsm":
        assert replayed.calls > loop.calls - loop.with_graph


def test_a_state_left_in_the_captured_memory_is_caught(monkeypatch, clock):
    monkeypatch.setattr(Captured, "_replay", lambda self, carry, parts: self._replayed(carry, parts))
    with pytest.raises((AssertionError, RuntimeError)):
        run(monkeypatch, clock, Lstm, slots=3)


@pytest.mark.filterwarnings("ignore")
def test_the_compiler_knows_the_options_of_a_capture():
    assert set(capture_options()) <= set(torch._inductor.list_options())
    assert isinstance(_compile(cell, capture=True), Captured)
    assert not isinstance(_compile(cell, capture=False), Captured)


@pytest.mark.filterwarnings("ignore")
def test_only_the_steps_last_used_stay_compiled(monkeypatch):
    monkeypatch.setattr("membptt.kernels.compiled._problem", lambda kind: None)
    alive, kept, devices = weakref.WeakSet(), cell, {torch.device("cpu")}
    first = compile_chunk(kept, devices)
    for _ in range(3 * _REMEMBERED):
        step = Lstm()
        alive.add(step)
        compile_chunk(step.forward, devices)
        assert compile_chunk(step.forward, devices) is compile_chunk(step.forward, devices)
        assert compile_chunk(kept, devices) is first
    gc.collect()
    assert len(alive) == _REMEMBERED - 1


def test_cores_are_captured_only_where_that_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr("membptt.kernels.compiled._problem", lambda kind: None)
    monkeypatch.setattr("membptt.kernels.compiled._compile", lambda step, capture: asked.append(capture))
    device = {torch.device("cuda", 0)}
    for how in (True, "graphs", False):
        compile_chunk(lambda carry, x: (carry, x), device, 1, how)
    assert asked == [False, True]


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cuda:0"], ["cuda:0", "cuda:1"]])
def test_graphs_beside_one_cuda_device_are_refused_and_the_advice_works(devices, monkeypatch):
    monkeypatch.setattr("membptt.kernels.compiled._problem", lambda kind: None)
    monkeypatch.setattr("membptt.kernels.compiled._compile", lambda step, capture: "compiled")
    devices = set(map(torch.device, devices))
    with pytest.raises(ValueError, match=r"one CUDA device, and there is c.*: give compile=True"):
        compile_chunk(cell, devices, 1, "graphs")
    assert compile_chunk(lambda carry, x: (carry, x), devices, 1, True) == "compiled"


@pytest.mark.parametrize("how", ["graph", "inductor", 1, None])
def test_what_compile_may_be_is_said(how):
    step, init, xs = problem(Lstm, 3, torch.float64)
    with pytest.raises(ValueError, match="compile is True, False or 'graphs', got"):
        scan(step, init, xs, slots=2, compile=how)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning", "ignore:TensorFloat32 tensor cores")
@pytest.mark.parametrize("make", CELLS)
def test_captured_cores_give_the_gradients_of_plain_autograd(make):
    step, init, xs = problem(make, 25, torch.float32)
    step = step.cuda()
    init = optree.tree_map(lambda leaf: leaf.detach().cuda().requires_grad_(leaf.requires_grad), init)
    xs = xs.detach().cuda().requires_grad_()
    expected = gradients(plain(step, init, xs), step, init, xs)
    for _ in range(3):
        grads = gradients(scan(step, init, xs, slots=3, chunk=4, compile="graphs"), step, init, xs)
        assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(grads, expected, strict=True))


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
def test_a_captured_core_follows_its_parameters():
    """New values are read where they are; a parameter that moves is noticed, and the plain core goes on."""
    step, init, xs = problem(Lstm, 12, torch.float32)
    step, xs = step.cuda(), xs.detach().cuda()
    init = tuple(leaf.detach().cuda() for leaf in init)
    for move in (False, False, True):
        with torch.no_grad():
            for parameter in step.parameters():
                if move:
                    parameter.data = parameter.data.clone() * 0.9
                else:
                    parameter.mul_(0.9)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ys = scan(step, init, xs, slots=2, chunk=4, compile="graphs")[1]
            assert torch.allclose(ys, plain(step, init, xs)[1], rtol=1e-3, atol=1e-5)
