"""A recurrence for shared storage whose internal states may drop their input: what (10) misses.

Sizes are those of (10) with ``hidden = 1`` and ``internal_known = internal - 1``. An internal state stored *detached*
takes ``internal_known`` slots, its output included; its input is brought back by a run before it goes backward.

Two costs, the starting state counted in ``m`` in both:

- ``plain[m][t]``: least forwards of ``t`` steps.
- ``loaded[m][t]``: the same where the internal state of the last step is stored already, detached, within the ``m``.

Each, as ``this``, is a minimum over cuts at ``1 <= y < t``, left part first:

    hidden state       y + plain(y, m)      + this(t - y, m - 1)
    internal state     y + plain(y - 1, m)  + this(t - y, m - (beta if y = 1 else alpha))
    detached           y + loaded(y, m)     + this(t - y, m - beta)                             y > 1
    nothing stored     t + plain(t - 1, m) for plain,   t - 1 + plain(t - 1, m) for loaded

with ``plain(0, m) = loaded(1, m) = 0``; ``loaded`` needs ``m > beta``.

Imports nothing of ours.
"""

from __future__ import annotations

INFINITE = 2**60  # larger than any cost, and so is a sum with it


def detached_costs(steps: int, slots: int, internal: int, /) -> list[list[int]]:
    """Return ``plain[m][t]``, the least forwards with detached inputs, for ``m <= slots`` and ``t <= steps``.

    Args:
        steps: longest sequence, at least 0.
        slots: largest number of slots, the starting state included.
        internal: alpha, at least 2.

    Returns:
        ``slots + 1`` rows of ``steps + 1`` integers; row 0 is ``INFINITE`` from ``t = 1`` on.

    Claim: shared-detached-optimal.
    """
    known = internal - 1
    plain = [[0] + [INFINITE] * steps for _ in range(slots + 1)]
    loaded = [[INFINITE] * (steps + 1) for _ in range(slots + 1)]
    for m in range(1, slots + 1):
        for t in range(1, steps + 1):
            plain[m][t] = t + plain[m][t - 1]
            if m > known:
                loaded[m][t] = 0 if t == 1 else t - 1 + plain[m][t - 1]
            for this in (plain, loaded) if m > known else (plain,):
                for y in range(1, t):
                    options = [plain[m][y] + this[m - 1][t - y]]
                    attached = known if y == 1 else internal
                    if attached < m:
                        options.append(plain[m][y - 1] + this[m - attached][t - y])
                    if y > 1 and known < m:
                        options.append(loaded[m][y] + this[m - known][t - y])
                    this[m][t] = min(this[m][t], y + min(options))
    return plain
