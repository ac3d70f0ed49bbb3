"""The steps of a derivation refuse what is not so: no slack of an unchecked sign, no induction without its base."""

from __future__ import annotations

from itertools import product

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from membptt_theory.derive import bounds, chen, chen_memory, cost_fixed, cost_two, hsm, ism, msm, sharp
from membptt_theory.derive.conditions import Case, Fact, Neighbours, Premise, exact, nonnegative_by_coefficients
from membptt_theory.derive.envelope import slots_reach_repetitions
from membptt_theory.derive.steps import Derivation, Identity, Induction, Inequality, beta, natural, nonnegative

m, r, t = (natural(name) for name in "mrt")
a, b, h = (nonnegative(name) for name in "abh")
x = sp.Symbol("x", nonnegative=True)
F = sp.Function("F")
FROM_THREE = Inequality("from-three", m, sp.Integer(3), a, {a: m - 3}, lowest={m: 3})

# Each of these verified before the sign of slack was checked.
ABSURD = {
    "a step more costs no more": Inequality("absurd", t, t + 1, a, {a: sp.Integer(-1)}),
    "every length is at least five": Inequality("absurd", t, sp.Integer(5), a, {a: t - 5}),
    "more repetitions than slots": Inequality("absurd", r, m, a, {a: r - m}),
    "a binomial below its argument": Inequality("absurd", r, beta(m, r), a, {a: r - beta(m, r)}),
    "zero is at least one": Inequality("absurd", sp.S.Zero, sp.S.One, m - 1, {m: sp.S.Zero}),
    "a function that falls": Inequality("absurd", F(m), F(m + 1) + 1, a, {a: F(m) - F(m + 1) - 1}),
    "a product of unknown sign": Inequality("absurd", m * r, 2 * m, a * b, {a: m, b: r - 2}),
}


@pytest.mark.parametrize("step", ABSURD.values(), ids=ABSURD)
def test_an_absurd_inequality_is_refused(step: Inequality) -> None:
    assert (
        sp.expand(step.lhs - step.rhs - step.certificate.subs(dict(step.slack))) == 0
    )  # the certificate itself is right
    assert not step.verify()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(Inequality("s", t, t + 1, a, {a: Case(sp.Integer(-1))}), id="a case that never is"),
        pytest.param(Inequality("s", m + r, sp.Integer(3), a, {a: m + r - 3}, cases=(1 - m - r,)), id="no such point"),
        pytest.param(Inequality("s", t, t + 1, a, {a: Premise(sp.Integer(-1), "definition")}), id="a false premise"),
        pytest.param(
            Inequality("s", 2**m, m**2, a, {a: Premise(2**m - m**2, "definition")}), id="a premise false at m = 3"
        ),
        pytest.param(
            Inequality("s", F(m), sp.S.Zero, a, {a: Premise(F(m), "definition", {F: lambda _, n: 3 - n})}),
            id="a premise about a function that it does not fit",
        ),
        pytest.param(
            Inequality("s", F(m), sp.S.Zero, a, {a: Premise(F(m), "definition")}), id="a premise without a meaning"
        ),
        pytest.param(Inequality("s", x**2, x, a, {a: Neighbours(x)}), id="neighbours that are no integers"),
        pytest.param(
            Inequality("s", m, sp.Integer(3), a, {a: Fact(FROM_THREE)}), id="a fact below the lowest value of its step"
        ),
        pytest.param(
            Inequality("s", t, t + 1, a, {a: Fact(ABSURD["a step more costs no more"])}), id="a fact that is none"
        ),
        pytest.param(
            Inequality("s", m, r, a, {a: Fact(Inequality("of-a-case", m, r, b, {b: Case(m - r)}))}),
            id="a fact of another case",
        ),
    ],
)
def test_a_slack_that_is_not_nonnegative_is_refused(step: Inequality) -> None:
    assert not step.verify()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(Inequality("s", m * r, m, a, {a: m * r - m}), id="coefficients"),
        pytest.param(FROM_THREE, id="coefficients from a lowest value"),
        pytest.param(Inequality("s", sp.S.One, 1 / m, a, {a: 1 - 1 / m}), id="a rational function"),
        pytest.param(Inequality("s", m, r, a, {a: Case(m - r)}), id="a case"),
        pytest.param(Inequality("s", (m - r) ** 2, m - r, a, {a: Neighbours(m - r)}), id="neighbours"),
        pytest.param(
            Inequality("s", m + 1, sp.Integer(3), a, {a: Fact(FROM_THREE, {m: m + 1})}, "", {m: 2}), id="fact"
        ),
        pytest.param(
            Inequality("s", F(m), sp.S.One, a, {a: Premise(F(m) - 1, "definition", {F: lambda _, n: n})}), id="premise"
        ),
        pytest.param(slots_reach_repetitions(), id="induction"),
    ],
)
def test_what_is_so_verifies_and_states_its_conditions(step: Inequality | Induction) -> None:
    assert step.verify()
    assert all(sp.latex(sp.Ge(value, 0, evaluate=False)) in step.latex() for value in step.conditions())
    assert all(sp.latex(sp.Ge(symbol, least, evaluate=False)) in step.latex() for symbol, least in step.lowest.items())


def test_an_induction_needs_its_base_its_step_and_an_integer() -> None:
    def induction(lhs: sp.Expr, rhs: sp.Expr, base: sp.Expr, step: sp.Expr, over: sp.Symbol = m) -> Induction:
        return Induction("i", lhs, rhs, over, base, step, h)

    assert induction(2**m, m + 1, sp.S.Zero, 2 * h + m - 1).verify()
    assert not induction(2**m, m + 2, sp.Integer(-1), 2 * h + m).verify()  # false at 1, although the step holds
    assert not induction(2**m, m + 1, sp.S.One, 2 * h + m - 1).verify()  # another base
    assert not induction(m, sp.Integer(1), sp.S.Zero, h).verify()  # the step is h + 1
    assert not induction(3 - m, sp.S.Zero, sp.Integer(2), h - 1).verify()  # a step that falls
    assert not induction(x, sp.S.Zero, sp.S.Zero, h + 1, x).verify()  # over a real
    cut = Induction("i", m, sp.S.One, m, sp.S.Zero, h + 1, h, cases=(5 - m,))
    assert not cut.verify()  # its hypothesis would be of another case


def test_a_premise_that_starts_from_no_earlier_step_fails_its_derivation() -> None:
    meaning = {F: lambda _, n: n}
    premise = Inequality("later", F(m), sp.S.One, a, {a: Premise(F(m) - 1, "earlier", meaning)})
    earlier = Identity("earlier", m, m)

    def failures(*steps: Identity | Inequality, uses: tuple[str, ...] = ()) -> tuple[str, ...]:
        return Derivation("d", sp.Ge(m, 1, evaluate=False), sp.true, "", steps, uses).failures()

    assert failures(earlier, premise) == ()
    assert failures(premise, uses=("earlier",)) == ()
    assert failures(premise, earlier) == ("later",)
    assert failures(premise) == ("later",)


def smallest(coefficients: tuple[int, int, int]) -> int:
    """The least value of ``p m + q r + c`` near the corner of its domain."""
    p, q, c = coefficients
    return min(p * s + q * k + c for s in range(1, 12) for k in range(1, 12))


def test_a_linear_slack_is_accepted_exactly_where_it_is_nonnegative_exhaustive() -> None:
    for p, q, c in product(range(-3, 4), repeat=3):
        slack = p * m + q * r + c
        step = Inequality("s", m + slack, m, a, {a: sp.sympify(slack)})
        assert step.verify() == (smallest((p, q, c)) >= 0 and min(p, q) >= 0), slack


@given(st.lists(st.integers(-3, 6), min_size=6, max_size=6), st.data())
def test_an_accepted_inequality_holds_wherever_it_is_looked_at_hypothesis(
    terms: list[int], data: st.DataObject
) -> None:
    monomials = (sp.S.One, m, r, m * r, m**2, r**2 * m)
    slack = sp.Add(*(term * monomial for term, monomial in zip(terms, monomials, strict=True)))
    if nonnegative_by_coefficients(slack, {}):
        point = {symbol: data.draw(st.integers(1, 10**9)) for symbol in (m, r)}
        assert slack.subs(point) >= 0
    else:
        assert not Inequality("s", t + slack, t, a, {a: slack}).verify()


DERIVATIONS = [
    hsm.closed_form(),
    ism.closed_form(),
    sharp.two_sided("hsm"),
    bounds.b1(),
    bounds.b6(),
    msm.between(),
    msm.lower_envelope(),
    *chen.derivations(),
    *chen_memory.derivations(),
    *cost_two.derivations(),
    *cost_fixed.derivations(),
]
SLACK = [
    (step, symbol)
    for derivation in DERIVATIONS
    for step in derivation.steps
    if isinstance(step, Inequality)
    for symbol in step.slack
]


@pytest.mark.parametrize(("step", "symbol"), SLACK, ids=lambda part: getattr(part, "name", str(part)))
def test_no_slack_of_a_derivation_may_be_negative(step: Inequality, symbol: sp.Symbol) -> None:
    """A hundred less on both sides: the certificate still fits, and the inequality is false somewhere."""
    right = step.slack[symbol]
    lower = (right if isinstance(right, sp.Expr) else right.value) - 100
    slack: dict[sp.Symbol, object] = {**step.slack, symbol: lower}
    if isinstance(right, Premise):
        slack[symbol] = Premise(lower, right.source, right.meaning)
    lhs = step.rhs + step.certificate.subs({s: q if isinstance(q, sp.Expr) else q.value for s, q in slack.items()})
    assert not Inequality(
        step.name, lhs, step.rhs, step.certificate, slack, step.text, step.lowest, step.cases
    ).verify()


def test_exact_values_are_exact() -> None:
    point = {m: sp.Rational(0), r: sp.Rational(0)}
    assert exact(beta(m, r) + sp.factorial(m), {m: 30, r: 30}, {}) == sp.binomial(60, 30) + sp.factorial(30)
    assert exact(sp.binomial(m, r), {m: -2, r: 3}, {}) == sp.binomial(-2, 3)
    with pytest.raises(TypeError, match="no exact value of"):
        exact(sp.sin(m), point, {})
