"""The slow tier: what is read back is what was stored, bytes are accounted for, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from itertools import starmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from membptt.slow.spill import Spill, ahead
from membptt.state.leaves import Layout
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropSlow,
    Prices,
    Record,
    Restore,
    RestoreSlow,
    StoreHidden,
    StoreSlow,
)
from membptt_theory.tiers import Tier, build_tiers

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
on_every_device = pytest.mark.parametrize("device", DEVICES)
PAGE = os.sysconf("SC_PAGE_SIZE")
DTYPES = [
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.int64, torch.uint8, torch.bool,
]  # fmt: skip


def identical(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors agree in everything: bits, form, dtype, device."""
    same_form = (first.shape, first.dtype, first.device) == (second.shape, second.dtype, second.device)
    return same_form and torch.equal(torch.view_as_real(first) if first.is_complex() else first,
                                     torch.view_as_real(second) if second.is_complex() else second)  # fmt: skip


def numbers(shape, dtype, device="cpu"):
    return torch.randn(shape, device=device).mul(50).to(dtype)


@on_every_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_state_comes_back_bit_for_bit(dtype, device):
    leaves = tuple(numbers(shape, dtype, device) for shape in ((3, 5), (), (0, 4), (2, 3, 1000), (1,)))
    with Spill() as spill:
        spill.put(7, leaves)
        for _ in range(2):
            copies = spill.get(7)
            assert all(map(identical, copies, leaves))
            assert all(leaf.is_contiguous() for leaf in copies)


@on_every_device
def test_not_a_number_infinities_and_signed_zeros_come_back(device):
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 5e-324], dtype=torch.float64, device=device)
    with Spill() as spill:
        spill.put(0, (odd,))
        assert torch.equal(spill.get(0)[0].view(torch.int64), odd.view(torch.int64))


@on_every_device
def test_strides_come_back_where_they_are_dense(device):
    dense = torch.randn(4, 6, 5, device=device).permute(2, 0, 1)
    sliced, expanded = torch.randn(8, 8, device=device)[::2, 1:3], torch.randn(4, 1, device=device).expand(4, 5)
    conjugate = torch.randn(3, 4, dtype=torch.complex64, device=device).conj()
    with Spill() as spill:
        spill.put(0, (dense, sliced, expanded, conjugate))
        copies = spill.get(0)
    assert copies[0].stride() == dense.stride()
    assert torch.equal(copies[0], dense)
    assert torch.equal(copies[1], sliced)
    assert torch.equal(copies[2], expanded)
    assert torch.equal(copies[3], conjugate)


@on_every_device
def test_what_comes_back_is_a_copy_without_graph(device):
    weight = torch.randn(5, device=device, requires_grad=True)
    state = weight * 2
    before = state.detach().clone()
    with Spill() as spill:
        spill.put(0, (state, weight))
        if device == "cuda":
            torch.cuda.synchronize()  # until then the copy may still be reading
        with torch.no_grad():
            state.fill_(9)
        first, second = spill.get(0)[0], spill.get(0)[0]
        assert not first.requires_grad
        first.zero_()
        assert torch.equal(second, before)
        assert torch.equal(spill.get(0)[0], before)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_puts_gets_and_drops_in_any_order_act_like_a_dictionary_hypothesis(data):
    model: dict[int, tuple[Tensor, ...]] = {}
    with Spill() as spill:
        for _ in range(data.draw(st.integers(1, 40))):
            position = data.draw(st.integers(0, 6))
            match data.draw(st.sampled_from(["put", "get", "prefetch", "drop"])):
                case "put" if position not in model:
                    shapes = data.draw(st.lists(st.lists(st.integers(0, 40), max_size=3), max_size=3))
                    model[position] = tuple(numbers(shape, data.draw(st.sampled_from(DTYPES))) for shape in shapes)
                    spill.put(position, model[position])
                case "get" if position in model:
                    assert all(map(identical, spill.get(position), model[position]))
                case "prefetch" if position in model:
                    spill.prefetch(position)
                case "drop" if position in model:
                    del model[position]
                    spill.drop(position)
            held = sum(leaf.numel() * leaf.element_size() for leaves in model.values() for leaf in leaves)
            assert (spill.bytes, len(spill)) == (held, len(model))
        for position, leaves in model.items():
            assert position in spill
            assert all(map(identical, spill.get(position), leaves))
    assert (spill.bytes, spill.reserved, len(spill)) == (0, 0, 0)


@on_every_device
def test_bytes_are_those_of_the_states_held(device):
    with Spill() as spill:
        for position in range(5):
            spill.put(position, (torch.zeros(100, device=device), torch.zeros(3, dtype=torch.int8, device=device)))
        assert (spill.bytes, len(spill)) == (5 * 403, 5)
        spill.drop(2)
        assert (spill.bytes, len(spill)) == (4 * 403, 4)
        spill.close()
        assert (spill.bytes, len(spill)) == (0, 0)


def test_dropped_states_make_room_so_the_file_does_not_grow():
    with Spill() as spill:
        for position in range(4):
            spill.put(position, (torch.zeros(PAGE, dtype=torch.uint8),))
        reserved = spill.reserved
        assert 4 * PAGE <= reserved <= 8 * PAGE
        for position in range(4, 200):
            spill.drop(position - 4)
            spill.put(position, (torch.full((PAGE,), position, dtype=torch.uint8),))
        assert spill.reserved == reserved
        assert [int(spill.get(position)[0].max()) for position in range(196, 200)] == [196, 197, 198, 199]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_spilled_pages_do_not_count_as_memory_of_the_process():
    def resident() -> int:
        with open("/proc/self/status") as file:
            return 1024 * next(int(line.split()[1]) for line in file if line.startswith("RssFile"))

    state = torch.ones(2**22, dtype=torch.uint8)
    with Spill() as spill:
        spill.put(0, (state,))
        before = resident()
        for position in range(1, 16):
            spill.put(position, (state,))
            assert torch.equal(spill.get(position - 1)[0], state)
        assert spill.bytes == 16 * 2**22
        assert resident() - before < 2 * 2**22


@on_every_device
def test_positions_are_put_once_and_found_only_while_they_are_held(device):
    state = (torch.zeros(2, device=device),)
    with Spill() as spill:
        spill.put(3, state)
        with pytest.raises(ValueError, match="position 3 already"):
            spill.put(3, state)
        spill.drop(3)
        for call in (spill.get, spill.drop, spill.prefetch):
            with pytest.raises(KeyError, match="no hidden state at position 3"):
                call(3)
        spill.put(3, state)
        assert identical(spill.get(3)[0], state[0])


@pytest.mark.parametrize(
    "leaf",
    [torch.eye(3).to_sparse(), torch.zeros(2).as_subclass(type("Subclass", (Tensor,), {}))],
    ids=["sparse", "subclass"],
)
def test_what_is_not_a_plain_dense_tensor_is_refused(leaf):
    with Spill() as spill:
        with pytest.raises(TypeError, match="plain dense"):
            spill.put(0, (torch.zeros(3), leaf))
        assert len(spill) == spill.bytes == 0


def test_a_full_disk_is_an_error_and_leaves_the_store_as_it_was(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    state = (torch.randn(PAGE),)
    with Spill() as spill:
        spill.put(0, state)
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            with pytest.raises(OSError, match="No space left"):
                spill.put(1, (torch.randn(4 * PAGE),))
        assert (len(spill), spill.bytes) == (1, 4 * PAGE)
        assert torch.equal(spill.get(0)[0], state[0])
        spill.put(1, state)
        assert torch.equal(spill.get(1)[0], state[0])


def test_a_copy_that_fails_frees_its_room():
    class Interrupt(BaseException):
        pass

    def interrupted(*_: object) -> Tensor:
        raise Interrupt

    with Spill() as spill, pytest.MonkeyPatch.context() as patch:
        spill.put(0, (torch.ones(PAGE),))
        spill.drop(0)
        reserved = spill.reserved
        patch.setattr(Tensor, "copy_", interrupted)
        for _ in range(50):
            with pytest.raises(Interrupt):
                spill.put(1, (torch.ones(PAGE),))
        patch.undo()
        assert (len(spill), spill.bytes, spill.reserved) == (0, 0, reserved)
        spill.put(1, (torch.ones(PAGE),))
        assert spill.reserved == reserved


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_however_many_stores_are_open_they_hold_no_descriptor():
    """A graph that waits for its backward holds one: 27 of them once used up what a process may have open."""
    before = len(os.listdir("/proc/self/fd"))
    spills = [Spill() for _ in range(5)]
    for spill in spills:
        for position in range(8):
            spill.put(position, (torch.full((2**position * PAGE,), position, dtype=torch.uint8),))
    assert len(os.listdir("/proc/self/fd")) == before
    assert all(int(spill.get(position)[0][-1]) == position for spill in spills for position in range(8))


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_no_file_and_no_descriptor_is_left_after_an_exception(tmp_path):
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def mappings() -> int:
        with open("/proc/self/maps") as file:
            return sum(str(tmp_path) in line for line in file)

    before = descriptors()
    for closed in (True, False):
        spill = Spill(tmp_path)
        with pytest.raises(ValueError, match="already"):  # noqa: PT012
            for position in (0, 1, 2, 3, 4, 5, 6, 7, 0):
                spill.put(position, (torch.zeros(2**position * PAGE, dtype=torch.uint8),))
                assert not list(tmp_path.iterdir())
                assert mappings()
        if closed:
            spill.close()
        del spill
        gc.collect()
        assert (descriptors(), mappings(), list(tmp_path.iterdir())) == (before, 0, [])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("end", ["kill", "raise"])
def test_nothing_is_left_however_the_process_ends(tmp_path, end):
    code = f"""
        import sys, time, torch
        from membptt.slow.spill import Spill
        spill = Spill({str(tmp_path)!r})
        spill.put(0, (torch.zeros(10**6),))
        print("stored", flush=True)
        if {end!r} == "kill":
            time.sleep(60)
        raise ZeroDivisionError
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stored\n"
        if end == "kill":
            process.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert ("ZeroDivisionError" in errors) is (end == "raise")
    assert "Warning" not in errors
    assert not list(tmp_path.iterdir())


@on_every_device
@pytest.mark.parametrize("shared", [True, False], ids=["one-spill", "one-each"])
def test_many_threads_get_their_own_states_back(shared, device):
    spills = [Spill()] * 8 if shared else [Spill() for _ in range(8)]
    failures: list[object] = []

    def work(index: int) -> None:
        generator = torch.Generator().manual_seed(index)
        spill, held = spills[index], {}
        try:
            for turn in range(60):
                position = 1000 * index + turn
                held[position] = torch.randn(1 + 37 * turn, generator=generator).to(device)
                spill.put(position, (held[position],))
                spill.prefetch(position)
                for other, expected in held.items():
                    if not torch.equal(spill.get(other)[0], expected):
                        failures.append((index, other))
                if turn % 3 == 0:
                    victim = next(iter(held))
                    del held[victim]
                    spill.drop(victim)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum({id(spill): len(spill) for spill in spills}.values()) == 8 * 40
    for spill in spills:
        spill.close()


def test_closing_during_a_copy_of_another_thread_does_not_crash():
    spill = Spill()
    state = (torch.ones(2**20),)
    stop = time.monotonic() + 0.5

    def close() -> None:
        while time.monotonic() < stop:
            spill.close()

    thread = threading.Thread(target=close)
    thread.start()
    while time.monotonic() < stop:
        spill.put(0, state)
        try:
            assert torch.equal(spill.get(0)[0], state[0])
            spill.drop(0)
        except KeyError:
            pass
    thread.join()


@on_every_device
def test_a_prefetched_state_is_the_state_and_one_is_on_its_way_at_most(device):
    states = [(torch.randn(50, 50, device=device),) for _ in range(3)]
    with Spill() as spill:
        for position, state in enumerate(states):
            spill.put(position, state)
        for position in (0, 1, 1, 2):
            spill.prefetch(position)
        assert spill._fetched == 0
        for position in (2, 0, 0, 1):
            assert identical(spill.get(position)[0], states[position][0])
        assert spill._fetched is None
        spill.prefetch(1)
        spill.drop(1)
        spill.prefetch(2)
        assert spill._fetched == 2


def gradients(cell: nn.Module, xs: Tensor, start: Tensor, tier: Tier, slots: tuple[int, int | None]) -> list[Tensor]:
    """Execute a two-tier stream in torch: the executor of `membptt.run`, reduced to what this tier needs."""
    table = build_tiers(len(xs), *slots, Prices(3, 2, 1))
    params = list(cell.parameters())
    totals = [torch.zeros_like(p) for p in params]
    fast: dict[int, Tensor] = {}
    working, recorded, grad = start.detach(), (start, start), torch.ones_like(start)
    with Spill() as spill:
        if tier is Tier.SLOW:
            spill.put(0, (working,))
        else:
            fast[0] = working
        for action in starmap(tuple.__new__, ahead(table.schedule(len(xs), *slots, tier).instructions(), spill, 3)):
            match action:
                case Advance(start_step, stop):
                    with torch.no_grad():
                        for p in range(start_step, stop):
                            working = cell(xs[p], working)
                case Record(step):
                    leaf = working.detach().requires_grad_()
                    recorded = (leaf, cell(xs[step], leaf))
                case Backpropagate():
                    grad, *parts = torch.autograd.grad(recorded[1], [recorded[0], *params], grad)
                    totals = [total + part for total, part in zip(totals, parts, strict=True)]
                    recorded = (start, start)
                case StoreHidden(position):
                    fast[position] = working
                case Restore(position):
                    working = fast[position]
                case DropHidden(position):
                    del fast[position]
                case StoreSlow(position):
                    spill.put(position, (working,))
                case RestoreSlow(position):
                    (working,) = spill.get(position)
                case DropSlow(position):
                    spill.drop(position)
            assert len(fast) <= slots[0]
            assert slots[1] is None or len(spill) <= slots[1]
        assert not fast
        assert len(spill) == 0
    return [*totals, grad]


@on_every_device
@pytest.mark.parametrize("slots", [(1, 3), (2, 2), (1, None), (3, None)], ids=str)
@pytest.mark.parametrize("tier", Tier)
def test_gradients_through_the_slow_tier_are_those_of_autograd_to_the_bit(slots, tier, device):
    torch.manual_seed(0)
    cell = nn.GRUCell(4, 6).double().to(device)
    xs, start = (torch.randn(*shape, dtype=torch.float64, device=device) for shape in ((17, 2, 4), (2, 6)))
    reference = gradients(cell, xs, start, Tier.FAST, (17, 0))
    spilled = gradients(cell, xs, start, tier, slots)
    assert all(map(torch.equal, spilled, reference))
    start.requires_grad_()
    carry = start
    for x in xs:
        carry = cell(x, carry)
    plain = torch.autograd.grad(carry.sum(), [*cell.parameters(), start])
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(spilled, plain, strict=True))


def test_a_spill_that_mixes_states_up_is_caught_by_the_gradients(monkeypatch):
    torch.manual_seed(0)
    cell, xs, start = nn.GRUCell(4, 6), torch.randn(17, 2, 4), torch.randn(2, 6)
    reference = gradients(cell, xs, start, Tier.FAST, (1, 3))
    get = Spill.get
    monkeypatch.setattr(Spill, "get", lambda spill, position: get(spill, min(spill._states)))
    assert not all(map(torch.equal, gradients(cell, xs, start, Tier.FAST, (1, 3)), reference))


@pytest.mark.parametrize("window", [0, 1, 3, 100])
def test_looking_ahead_changes_no_action(window):
    table = build_tiers(30, 1, 4, Prices(3, 2, 1))
    with Spill() as spill:
        seen = []
        for action in starmap(tuple.__new__, ahead(table.schedule(30, 1, 4).instructions(), spill, window)):
            if isinstance(action, StoreSlow):
                spill.put(action.position, (torch.tensor(action.position),))
            elif isinstance(action, RestoreSlow):
                assert window == 0 or spill._fetched is not None
                assert int(spill.get(action.position)[0]) == action.position
            elif isinstance(action, DropSlow):
                spill.drop(action.position)
            seen.append(action)
    assert seen == list(table.schedule(30, 1, 4))


@pytest.mark.cuda
class TestOnCuda:
    def test_states_are_pinned_and_leave_the_device(self):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        with Spill() as spill:
            for position in range(8):
                state = torch.full((2**22,), float(position), device="cuda")
                spill.put(position, (state,))
                del state
            torch.cuda.synchronize()
            assert all(part.host.is_pinned() for state in spill._states.values() for part in state.pinned)
            assert spill.reserved == 0
            assert torch.cuda.memory_allocated() - before <= 2**24
            for position in range(8):
                assert float(spill.get(position)[0].mean()) == position

    def test_memory_overwritten_right_after_a_put_does_not_reach_the_copy(self):
        with Spill(in_flight=8) as spill:
            for position in range(32):
                state = torch.full((2**20,), float(position), device="cuda")
                for _ in range(10):
                    state = state + 1
                spill.put(position, (state,))
                del state
                torch.empty(2**20, device="cuda").fill_(-1.0)
            for position in range(32):
                assert bool((spill.get(position)[0] == position + 10).all())

    def test_a_restart_on_another_stream_waits_for_the_copy(self):
        other = torch.cuda.Stream()
        with Spill() as spill:
            for position in range(16):
                spill.put(position, (torch.full((2**22,), float(position), device="cuda"),))
            with torch.cuda.stream(other):
                for position in range(16):
                    spill.prefetch(position)
                    assert float(spill.get(position)[0].sum()) == position * 2**22


def lies_like(leaf):
    """Whether a copy by its layout lies in memory as `leaf` does, and holds the same values."""
    copy = Layout.of(leaf).empty().copy_(leaf)
    assert torch.equal(copy, leaf)
    return copy.stride() == leaf.stride() and copy.data_ptr() % 16 == leaf.data_ptr() % 16


def test_a_copy_by_its_layout_has_the_strides_and_the_alignment_exhaustive():
    for dtype in (torch.float64, torch.float32, torch.float16, torch.int8):
        base = torch.arange(400).to(dtype).view(20, 20)
        for start in range(9):
            for step in (1, 2, 3):
                assert lies_like(base[::step, start : start + 7])
                assert lies_like(base.t()[start:, ::step])
                assert lies_like(base[3, start])
        assert lies_like(base[:0])
        assert not lies_like(base[:1].expand(3, 20))  # such elements cannot be written separately: it becomes dense


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=3), st.integers(0, 9))
def test_a_copy_by_its_layout_has_the_strides_and_the_alignment_hypothesis(dims, lead):
    whole = torch.arange(1000, dtype=torch.float32)
    shape, stride, least = [], [], 1
    for size, gap in dims:  # no two elements share an address
        shape.append(size)
        stride.append(least * gap)
        least *= gap * max(size, 1)
    leaf = whole.expand(1, 1000)[0][lead:].as_strided(shape, stride, lead) if least + lead < 1000 else whole
    assert lies_like(leaf)
    assert Layout.of(leaf).nbytes >= leaf.nbytes
