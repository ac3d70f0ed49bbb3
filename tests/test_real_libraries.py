"""The very libraries, written as their tutorials write them, on a fresh network, with batches of 8, 8 and 5."""

import warnings

import pytest
import torch
from torch import nn

from membptt import Stateful, scan

from .cells import relative_error

with warnings.catch_warnings():
    # norse scripts its functions, and registers for torch's compiler classes that optree knows already.
    warnings.simplefilter("ignore")
    import norse.torch as norse
    import snntorch as snn
    import torch._dynamo
    from mambapy.mamba import Mamba, MambaConfig
    from ncps.torch import LTC, CfC
    from ncps.wirings import AutoNCP
    from snntorch import utils
    from spikingjelly.activation_based import functional, layer, neuron, surrogate


def snn_sequential():
    return nn.Sequential(
        nn.Linear(4, 8),
        snn.Leaky(beta=0.9, init_hidden=True),
        nn.Linear(8, 3),
        snn.Synaptic(alpha=0.8, beta=0.9, init_hidden=True, output=True),
    )


def snn_sequential_loop(net, xs):
    utils.reset(net)
    spikes, potentials = [], []
    for x in xs:
        spike, _, potential = net(x)
        spikes.append(spike)
        potentials.append(potential)
    return torch.stack(spikes) + torch.stack(potentials)


def snn_sequential_scan(net, xs, **options):
    utils.reset(net)
    stateful = Stateful(net)
    _, (spikes, _, potentials) = scan(stateful, stateful.init(), xs, **options)
    return spikes + potentials


class Explicit(nn.Module):
    """snnTorch's other idiom: the membrane potentials are handed on by the user."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(4, 8), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(8, 3), snn.Leaky(beta=0.9, learn_beta=True)

    def start(self):
        return self.lif1.reset_mem(), self.lif2.reset_mem()

    def forward(self, mems, x):
        mem1, mem2 = mems
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return (mem1, mem2), spk2 + mem2


def explicit_loop(net, xs):
    mems, ys = net.start(), []
    for x in xs:
        mems, y = net(mems, x)
        ys.append(y)
    return torch.stack(ys)


def explicit_scan(net, xs, **options):
    stateful = Stateful(net)
    return scan(stateful, stateful.init(net.start()), xs, **options)[1]


def jelly():
    return nn.Sequential(
        layer.Linear(4, 8, bias=False),
        neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
        layer.Linear(8, 3, bias=False),
        neuron.ParametricLIFNode(surrogate_function=surrogate.ATan(), v_threshold=0.2),
    )


def jelly_loop(net, xs):
    ys = torch.stack([net(x) for x in xs])
    functional.reset_net(net)
    return ys


def jelly_scan(net, xs, **options):
    stateful = Stateful(net)
    return scan(stateful, stateful.init(), xs, **options)[1]


def norse_model():
    return norse.SequentialState(nn.Linear(4, 8), norse.LIFCell(), nn.Linear(8, 3), norse.LICell())


def norse_loop(model, xs):
    state, ys = None, []
    for x in xs:
        y, state = model(x, state)
        ys.append(y)
    return torch.stack(ys)


def norse_scan(model, xs, **options):
    def step(state, x):
        y, state = model(x, state)
        return state, y

    return scan(step, None, xs, params=model.parameters(), **options)[1]


def closed_form():
    return CfC(4, AutoNCP(12, 3), batch_first=False)


def liquid():
    return LTC(4, AutoNCP(12, 3), batch_first=False)


def ncps_loop(rnn, xs):
    return rnn(xs)[0]


def ncps_scan(rnn, xs, **options):
    def segment(h, xs):
        ys, h = rnn(xs, h)
        return h, ys

    return scan(segment, None, xs, segments=True, params=rnn.parameters(), **options)[1]


def mamba():
    return Mamba(MambaConfig(d_model=4, n_layers=2, d_state=3))


def mamba_caches(model, batch):
    kept = model.config.d_inner, model.config.d_conv - 1
    return [(None, torch.zeros(batch, *kept, dtype=torch.float64)) for _ in model.layers]


def mamba_loop(model, xs):
    caches, ys = mamba_caches(model, xs.shape[1]), []
    for x in xs:
        y, caches = model.step(x, caches)
        ys.append(y)
    return torch.stack(ys)


def mamba_scan(model, xs, **options):
    def step(caches, x):
        y, caches = model.step(x, caches)
        return caches, y

    return scan(step, mamba_caches(model, xs.shape[1]), xs, params=model.parameters(), **options)[1]


LIBRARIES = {
    "snntorch": (snn_sequential, snn_sequential_loop, snn_sequential_scan),
    "snntorch-explicit": (Explicit, explicit_loop, explicit_scan),
    "spikingjelly": (jelly, jelly_loop, jelly_scan),
    "norse": (norse_model, norse_loop, norse_scan),
    "ncps-cfc": (closed_form, ncps_loop, ncps_scan),
    "ncps-ltc": (liquid, ncps_loop, ncps_scan),
    "mambapy": (mamba, mamba_loop, mamba_scan),
}


SOME = [("hsm", {}), ("ism", {}), ("msm_plus", {"internal": 3})]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def gradients(net, run, xs, **options):
    ys = run(net, xs, **options)
    wanted = [xs, *(p for p in net.parameters() if p.requires_grad)]
    return ys, torch.autograd.grad((torch.arange(ys.numel()).cos().view_as(ys) * ys).sum(), wanted, allow_unused=True)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_gradients_are_those_of_the_librarys_own_loop(library, steps):
    make, loop, scanned = LIBRARIES[library]
    # snnTorch's spikes are of single precision whatever comes in.
    dtype, error = (torch.float32, 2e-6) if library.startswith("snntorch") else (torch.float64, 1e-10)
    net, plain = make().to(dtype), make().to(dtype)  # no copy: snnTorch resets the layers that it has seen made
    plain.load_state_dict(net.state_dict())
    for batch in (8, 8, 5):
        xs = (2 * torch.rand(steps, batch, 4, dtype=dtype)).requires_grad_()
        expected, wanted = gradients(plain, loop, xs)
        for policy, sizes in SOME:
            ys, actual = gradients(net, scanned, xs, slots=3, policy=policy, **sizes)
            assert torch.equal(ys, expected)
            used = [index for index, leaf in enumerate(wanted) if leaf is not None]
            assert [index for index, leaf in enumerate(actual) if leaf is not None] == used
            assert relative_error([actual[index] for index in used], [wanted[index] for index in used]) <= error
