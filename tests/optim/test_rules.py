"""Every rule against its textbook loop and against the trajectories of other libraries."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.optim import hard, naive

from fallline import optim

# float64, 60 steps: rounding alone. References of other libraries reorder their arithmetic.
TIGHT = {"rtol": 1e-12, "atol": 1e-12}
REFERENCES = json.loads(Path(__file__).with_name("references.json").read_text())


def run(optimizer, gradients, p, state=None, evaluate=None):
    """The parameters after each step."""
    state = optimizer.init(p) if state is None else state
    found = []
    for t, g in enumerate(gradients, 1):
        p, state, _ = optimizer.step(evaluate or (lambda at, g=g: (0.0, g)), p, state, t=t)
        found.append(p)
    return found


CASES = [(name, settings) for name, many in hard.CASES.items() for settings in many]


def test_every_rule_has_cases():
    assert set(hard.CASES) == set(optim.rules())


@pytest.mark.parametrize("name", optim.rules())
def test_every_option_has_a_case(name):
    known = optim.by_name(name)
    for option, values in known.options.items():
        tried = {settings.get(option) for settings in hard.CASES[name]}
        missing = set(values) - tried
        assert len(missing) <= 1, f"{option}: {missing} are in no case"  # one is the default


@pytest.mark.parametrize("decay", ["none", "decoupled", "coupled"])
@pytest.mark.parametrize("name, settings", CASES)
def test_as_the_textbook(name, settings, decay):
    wd = 0.0 if decay == "none" else hard.WD
    rule = optim.adam if name == "adamw" else optim.rules()[name]
    bound = rule(lr=hard.rate, **settings)
    optimizer = optim.chain(optim.decay(wd, coupled=decay == "coupled"), bound)
    found = run(optimizer, hard.gradients(), hard.start())
    oracle = getattr(naive, "adam" if name == "adamw" else name)
    wanted = naive.trajectory(
        oracle,
        hard.gradients(),
        hard.start(),
        hard.rate,
        wd=wd,
        coupled=decay == "coupled",
        **settings,
    )
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, **TIGHT)


@pytest.mark.parametrize("settings", hard.ADAM)
def test_adamw_is_decay_then_adam(settings):
    found = run(optim.adamw(lr=hard.rate, wd=hard.WD, **settings), hard.gradients(), hard.start())
    wanted = naive.trajectory(
        naive.adam, hard.gradients(), hard.start(), hard.rate, wd=hard.WD, **settings
    )
    np.testing.assert_allclose(found, wanted, **TIGHT)


@pytest.mark.parametrize(
    "case", REFERENCES["cases"], ids=lambda c: f"{c['library']}-{c['rule']}-{c['settings']}"
)
def test_as_other_libraries(case):
    settings = dict(case["settings"])
    coupled = settings.pop("coupled", False)
    optimizer = optim.by_name(case["rule"])(lr=hard.rate, **settings)
    if coupled:
        optimizer = optim.chain(optim.decay(hard.WD, coupled=True), optimizer)
    found = run(optimizer, hard.gradients(), hard.start())
    for t, wanted in case["params"].items():
        np.testing.assert_allclose(found[int(t) - 1], wanted, **TIGHT, err_msg=f"step {t}")


def test_lookahead_takes_the_gradient_ahead():
    h = np.array([1.0, 10.0, 0.1])  # a quadratic bowl
    lr, b = 0.05, 0.9
    asked = []

    def evaluate(p):
        asked.append(p)
        return 0.5 * np.sum(h * p * p), h * p

    found = run(
        optim.nesterov(lr=lr, b=b, form="lookahead"), range(30), np.ones(3), evaluate=evaluate
    )
    p, v = np.ones(3), np.zeros(3)
    for mine, at in zip(found, asked, strict=True):
        ahead = p - lr * b * v
        np.testing.assert_allclose(at, ahead, rtol=1e-12)
        v = b * v + h * ahead
        p = p - lr * v
        np.testing.assert_allclose(mine, p, rtol=1e-12)


def test_the_usual_nesterov_visits_the_points_of_the_lookahead():
    h = np.array([1.0, 10.0, 0.1])
    asked = {"usual": [], "lookahead": []}
    for form, points in asked.items():

        def evaluate(p, points=points):
            points.append(p)
            return 0.0, h * p

        run(optim.nesterov(lr=0.05, form=form), range(30), np.ones(3), evaluate=evaluate)
    np.testing.assert_allclose(asked["usual"], asked["lookahead"], rtol=1e-12)


def test_forms_agree_while_the_rate_is_constant():
    g = hard.gradients()
    inside = run(optim.momentum(lr=0.1, lr_inside=True), g, hard.start())
    outside = run(optim.momentum(lr=0.1), g, hard.start())
    np.testing.assert_allclose(inside, outside, rtol=1e-11, atol=1e-11)
    ema = run(optim.momentum(lr=1.0, form="ema"), g, hard.start())
    np.testing.assert_allclose(ema, outside, rtol=1e-11, atol=1e-11)


def test_an_exponential_average_and_its_correction():
    optimizer = optim.momentum(form="ema", b=0.9)
    p, state, averages = np.zeros(1), optimizer.init(np.zeros(1)), []
    for t, x in enumerate((7.5, 4.0, 6.0, 8.0), 1):
        p, state = optimizer.update(np.array([x]), p, state, t=t)
        averages.append(state["v"][0])
    np.testing.assert_allclose(averages, [0.75, 1.075, 1.5675, 2.21075])
    corrected = [m / (1 - 0.9**t) for t, m in enumerate(averages, 1)]
    np.testing.assert_allclose(corrected, [7.5, 5.658, 5.784, 6.428], atol=1e-3)


def test_momentum_is_stable_below_its_bound_and_not_above():
    h, b = 10.0, 0.9
    for factor, stable in ((0.99, True), (1.01, False)):
        optimizer = optim.momentum(lr=factor * 2 * (1 + b) / h, b=b)
        p = run(optimizer, range(2000), np.ones(1), evaluate=lambda p: (0.0, h * p))[-1]
        assert (abs(p[0]) < 1) == stable


@pytest.mark.parametrize("name", optim.rules())
def test_eps_zero_on_a_zero_gradient_changes_nothing(name):
    rule = optim.by_name(name)
    optimizer = rule(eps=0.0) if "eps" in rule.defaults else rule()
    settled = optimizer.bind(wd=0.0) if "wd" in optimizer.defaults else optimizer
    for p in run(settled, np.zeros((5, 3)), np.ones(3)):
        np.testing.assert_array_equal(p, 1)


@pytest.mark.parametrize("name", optim.rules())
def test_what_is_not_finite_travels(name):
    optimizer = optim.by_name(name)()
    p = run(optimizer, [np.array([np.nan, 1.0])], np.ones(2))[-1]
    assert np.isnan(p[0]) and np.isfinite(p[1])
