# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11. Very deep networks: unequal blocks in a budget of bytes
#
# `scan` runs one step many times. A deep network runs many blocks once, and no two may be alike: early ones have large
# images and few channels, late ones the opposite. `membptt.chain` takes a list of blocks and a number of bytes. Here
# are a network like ResNet-50, small enough for a page, and a thousand equal layers. What is exact is asserted:
# gradients, forwards, bytes. Times are predictions from the blocks' own, measured on the machine that ran this.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %%
import torch
from torch import nn

import membptt

torch.set_num_threads(1)
torch.manual_seed(0)


class Bottleneck(nn.Module):
    """Three convolutions with batch normalisation, and a shortcut."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.BatchNorm2d(4 * width),
        )
        self.shortcut = nn.Conv2d(channels, 4 * width, 1, stride=stride, bias=False)

    def forward(self, x):
        return torch.relu_(self.body(x) + self.shortcut(x))


blocks, channels = [nn.Conv2d(3, 8, 3, padding=1)], 8
for stage, count in enumerate((3, 4, 6, 3)):
    for index in range(count):
        blocks.append(Bottleneck(channels, 8 * 2**stage, 2 if index == 0 and stage > 0 else 1))
        channels = 32 * 2**stage
blocks += [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)), lambda y: y.square().mean()]
x = torch.randn(4, 3, 32, 32)
plan = membptt.plan_chain(blocks, x, budget="6MiB")
plan.explain()

# %% [markdown]
# A row is a budget below which the network takes longer; between two points of the front nothing changes. It is exact,
# in bytes, over all schedules that keep what they store until it is used. The last point that fits in 6 MiB is chosen.
#
# ## The same gradient, and batch statistics once

# %%
import copy


def gradients(run):
    """Gradients, and running statistics after one call."""
    alone = copy.deepcopy(blocks)
    loss = run(alone)
    weights = [weight for block in alone if isinstance(block, nn.Module) for weight in block.parameters()]
    norms = [buffer for block in alone if isinstance(block, nn.Module) for buffer in block.buffers()]
    return [*torch.autograd.grad(loss, weights), *norms]


def plain(alone):
    """Run the blocks one after the other."""
    y = x
    for block in alone:
        y = block(y)
    return y


with membptt.meter() as report:
    ours = gradients(lambda alone: membptt.chain(alone, x, plan=plan))
same = all(torch.equal(a, b) for a, b in zip(ours, gradients(plain), strict=True))
schedule = plan.schedule()
print(f"{len(blocks)} blocks, {report.forwards} forwards; gradients and statistics equal to the last bit: {same}")
assert same
assert report.forwards == schedule.meter().forwards

# %% [markdown]
# ## Where the bytes go
#
# The schedule keeps an internal state, all that a block's backward needs, where blocks are cheap to keep: at the end,
# where images are small. In between it keeps outputs, and runs the rest again.

# %%
from io import BytesIO

from IPython.display import Image, display

picture = BytesIO()
plan.draw().savefig(picture, format="png", dpi=90)
display(Image(picture.getvalue()))

# %% [markdown]
# ## A thousand equal layers
#
# Equal blocks are measured once, and their front is solved in a second. Half a per cent of plain autograd's memory is
# enough.

# %%
layers = [nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(1000)]
batch = torch.randn(8, 16)
deep = membptt.plan_chain(layers, batch)
most = deep.front[-1]
chosen = deep.within(most.bytes // 200)
with membptt.meter() as report:
    membptt.chain(layers, batch, plan=chosen).sum().backward()
print(
    f"{len(deep.front)} budgets; {chosen.peak_bytes} of {most.bytes} bytes, {report.forwards / 1000} forwards a layer"
)
assert chosen.peak_bytes <= most.bytes // 200
assert report.forwards == chosen.schedule().meter().forwards

figure, ax = plt.subplots(figsize=(4, 2.6))
shares = [100 * point.bytes / most.bytes for point in deep.front]
ax.plot(shares, [point.seconds / most.seconds for point in deep.front], drawstyle="steps-post")
ax.set(xscale="log", xlabel="bytes [% of plain's]", ylabel="predicted time / plain's", ylim=(0.9, 4))
plt.show()

# %% [markdown]
# ## Claims covered
#
# The first two need torch: OK means that they hold for everything that ran above, and their tests check them on the
# ranges that the ledger states.

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = ("chain-gradients-equal-autograd", "chain-forwards-equal-front", "front-metered")
ran_here = {
    "chain-gradients-equal-autograd": same,
    "chain-forwards-equal-front": report.forwards == chosen.schedule().meter().forwards,
}
assert check_claims(CLAIMS, ran_here)
