"""Declaring and binding a rule, and what a bound one promises."""

import pickle

import numpy as np
import pytest

import fallline as fl
from fallline import optim, schedule
from fallline.core.errors import TracingError
from fallline.core.spec import array_spec
from fallline.testing.rules import check_rule


@optim.rule(
    slots={"m": 0.0}, space={"lr": optim.Log(1e-5, 1e-2), "b1": optim.OneMinusLog(0.02, 0.5)}
)
def lion(g, p, m, *, t, lr=1e-4, b1=0.9, b2=0.99):
    """Sign of an interpolated momentum.

        p -= lr sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g

    Chen et al. 2023.
    """
    return p - lr * np.sign(b1 * m + (1 - b1) * g), b2 * m + (1 - b2) * g


def array_operations(graph):
    return [node.op.name for node in graph.nodes if not node.spec.weak]


# ---- what a rule says of itself


def test_a_rule_describes_itself():
    assert lion.name == "lion"
    assert lion.defaults == {"lr": 1e-4, "b1": 0.9, "b2": 0.99}
    assert list(lion.space) == ["lr", "b1"]
    assert lion.slots == {"m": 0.0} and lion.scalars == {} and lion.per == "element"
    assert lion.summary == "Sign of an interpolated momentum."
    assert lion.formula == "p -= lr sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g"
    assert lion.function(1.0, 2.0, 0.0, t=1, lr=0.1)[0] == 1.9
    assert repr(lion) == "<rule lion(lr=0.0001, b1=0.9, b2=0.99)>"


def test_a_bound_rule_describes_itself():
    bound = optim.adam(lr=0.1, b1=0.5, eps_place="hat")
    assert repr(bound) == "adam(lr=0.1, b1=0.5, eps_place='hat')"
    assert bound.name == "adam"
    assert bound.hyper(3) == {"lr": 0.1, "b1": 0.5, "b2": 0.999, "eps": 1e-8}
    described = bound.describe()
    assert described["settings"]["eps_place"] == "hat" and described["settings"]["b1"] == 0.5
    assert bound.bind(lr=0.2).hyper(1)["lr"] == 0.2 and bound.hyper(1)["lr"] == 0.1
    assert bound.bind(lr=0.2).hyper(1)["b1"] == 0.5


@pytest.mark.parametrize("name", optim.rules())
def test_every_rule_is_documented(name):
    rule = optim.by_name(name)
    assert rule.formula and rule.doc and rule.name == name
    assert "lr" in rule.defaults
    assert next(iter(rule.space)) == "lr"
    assert set(rule.space) <= set(rule.defaults)


@pytest.mark.parametrize("rule", [*optim.rules().values(), lion], ids=lambda r: r.name)
def test_every_rule_keeps_the_promises(rule):
    check_rule(rule)


@pytest.mark.parametrize("settings", [{"centered": True, "momentum": 0.9}, {"eps": 0.0}])
def test_options_keep_the_promises(settings):
    check_rule(optim.rmsprop, **settings)
    check_rule(optim.nesterov, form="lookahead")


# ---- the graph


def test_a_step_records_as_few_operations_as_the_formula_has():
    spec = array_spec((7,), "float32")
    assert array_operations(optim.sgd(lr=0.1).trace_update(spec)) == ["multiply", "subtract"]
    assert len(array_operations(optim.momentum().trace_update(spec))) == 4
    assert len(array_operations(optim.adam().trace_update(spec))) == 12
    graph = optim.adam().trace_update(spec)
    assert str(graph).splitlines()[0] == (
        "adam(g: f32[7], p: f32[7], m: f32[7], v: f32[7], "
        "t: int, b1: float, b2: float, eps: float, lr: float)"
    )


def test_eps_zero_costs_only_those_who_ask_for_it():
    spec = array_spec((7,), "float32")
    assert "where" not in array_operations(optim.adam().trace_update(spec))
    assert "where" in array_operations(optim.adam(eps=0).trace_update(spec))


def test_a_whole_step_is_one_graph():
    x, y = np.ones((4, 3), np.float32), np.ones(4, np.float32)
    optimizer = optim.nadam(lr=schedule.cosine(0.1, steps=100))
    p = {"w": np.full(3, 0.5, np.float32), "b": np.zeros((), np.float32)}
    state = optimizer.init(p)

    def loss(p):
        return np.mean((x @ p["w"] + p["b"] - y) ** 2)

    def step(p, state, t, hyper):
        return optimizer.step(fl.value_and_grad(loss), p, state, t=t, hyper=hyper)

    graph = fl.trace(step, p, state, 1, optimizer.hyper(1))
    for t in range(1, 6):
        mine = optimizer.step(fl.value_and_grad(loss), p, state, t=t)
        theirs = graph(p, state, t, optimizer.hyper(t))
        np.testing.assert_array_equal(mine[0]["w"], theirs[0]["w"])
        np.testing.assert_array_equal(mine[1]["v"]["w"], theirs[1]["v"]["w"])
        assert mine[1]["mu_prod"] == pytest.approx(float(theirs[1]["mu_prod"]), rel=1e-15)
        p, state, _ = mine


def test_hyperparameters_can_be_differentiated():
    """How the loss after three steps depends on the rate of the last two."""
    optimizer = optim.momentum(lr=0.1)

    def after(lr):
        p, state = np.array([1.0, -2.0]), optimizer.init(np.zeros(2))
        for t in (1, 2, 3):
            p, state = optimizer.update(2 * p, p, state, t=t, hyper={"lr": lr, "b": 0.9, "a": 1.0})
        return np.sum(p * p)

    h = 1e-6
    slope = (after(0.1 + h) - after(0.1 - h)) / (2 * h)
    assert fl.grad(after)(0.1) == pytest.approx(slope, rel=1e-6)


# ---- numbers


def test_float32_parameters_stay_float32():
    p = {"W": np.ones((2, 3), np.float32), "b": np.ones(3, np.float64)}
    for name, rule in optim.rules().items():
        optimizer = rule()
        state = optimizer.init(p)
        new, state = optimizer.update({"W": np.ones((2, 3)), "b": np.ones(3)}, p, state, t=1)
        assert new["W"].dtype == np.float32 and new["b"].dtype == np.float64, name
        for slot in (x for x in state.values() if isinstance(x, dict)):
            assert slot["W"].dtype == np.float32 and slot["b"].dtype == np.float64, name


def test_scalars_are_computed_in_float64():
    """In float32, 1 - 0.999 is wrong by 1e-5, and with it Adam's first steps."""
    p = np.zeros(1, np.float32)
    optimizer = optim.adam(lr=1.0, eps=1e-30)
    new, _ = optimizer.update(np.full(1, 1e-3, np.float32), p, optimizer.init(p), t=1)
    np.testing.assert_allclose(new, -1.0, rtol=3e-7)


def test_schedules_are_functions_of_the_step():
    seen = []

    def rate(t):
        seen.append(t)
        return 0.1 / t

    optimizer = optim.sgd(lr=rate)
    p, state = np.zeros(1), {}
    for t in (1, 2, 4):
        p, state = optimizer.update(np.ones(1), p, state, t=t)
    assert seen == [1, 2, 4] and p[0] == pytest.approx(-0.175)
    assert optimizer.hyper(10) == {"lr": 0.01}
    assert optimizer.describe()["settings"]["lr"].startswith("<function")


def test_any_hyperparameter_may_be_scheduled():
    optimizer = optim.chain(
        optim.decay(schedule.linear(0.1, steps=10)),
        optim.momentum(lr=0.1, b=schedule.linear(0.5, steps=4, final=0.9)),
    )
    assert optimizer.hyper(3) == {"lr": 0.1, "b": 0.7, "dampening": 0.0, "a": 1.0, "wd": 0.08}


def test_numpy_numbers_become_python_numbers():
    optimizer = optim.sgd(lr=np.float32(0.5))
    assert type(optimizer.hyper(1)["lr"]) is float
    new, _ = optimizer.update(np.ones(1, np.float32), np.ones(1, np.float32), {}, t=1)
    assert new.dtype == np.float32


def test_steps_may_be_counted_by_numpy():
    optimizer = optim.adam()
    p = np.ones(2, np.float32)
    state = optimizer.init(p)
    hyper = {name: np.float64(x) for name, x in optimizer.hyper(1).items()}
    new, _ = optimizer.update(p, p, state, t=np.int64(1), hyper=hyper)
    assert new.dtype == np.float32
    np.testing.assert_array_equal(new, optimizer.update(p, p, state, t=1)[0])


def test_starts_of_slots():
    @optim.rule(slots={"z": lambda p: p, "s": "begin", "c": 2.0}, scalars={"k": 1})
    def many(g, p, z, s, c, k, *, lr=0.1, begin=0.25):
        return p - lr * g, z, s, c, k + 1

    p = np.array([1.0, 2.0])
    state = many().init(p)
    np.testing.assert_array_equal(state["z"], p)
    assert (
        state["z"] is not p and state["s"][0] == 0.25 and state["c"][1] == 2 and state["k"] == 1.0
    )
    _, after = many(begin=0.5).update(p, p, state, t=1)
    assert after["k"] == 2.0 and after["z"] is not state["z"]


def test_a_slot_is_never_the_gradient_itself():
    """Whoever computes gradients may use the buffer again."""
    optimizer = optim.momentum(form="two-gradient")
    g = np.ones(2)
    _, state = optimizer.update(g, np.zeros(2), optimizer.init(np.zeros(2)), t=1)
    g[:] = 7
    np.testing.assert_array_equal(state["v"], 1)


# ---- what a rule sees


def test_per_tensor_sees_arrays_and_per_global_one_vector():
    def normalised(g, p, *, lr=1.0):
        return p - lr * g / np.sqrt(np.sum(g * g))

    g = {"a": np.array([3.0, 4.0]), "b": np.array([[12.0]])}
    zeros = {"a": np.zeros(2), "b": np.zeros((1, 1))}
    tensor = optim.rule(per="tensor")(normalised)()
    new, _ = tensor.update(g, zeros, {}, t=1)
    np.testing.assert_allclose(new["a"], [-0.6, -0.8])
    np.testing.assert_allclose(new["b"], [[-1.0]])
    whole = optim.rule(per="global")(normalised)()
    new, _ = whole.update(g, zeros, {}, t=1)
    np.testing.assert_allclose(new["a"], [-3 / 13, -4 / 13])
    np.testing.assert_allclose(new["b"], [[-12 / 13]])
    assert not tensor.flat and whole.flat


def test_a_formula_that_mixes_elements_says_so():
    @optim.rule
    def centred(g, p, *, lr=0.1):
        return p - lr * (g - np.mean(g))

    with pytest.raises(TypeError, match=r"centred: sum needs .* Did you mean per='tensor'"):
        centred().update(np.ones(2), np.ones(2), {}, t=1)


# ---- errors


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: lion(b1=1.1), ValueError, r"lion: b1 must be in \[0, 1\); got 1.1."),
        (lambda: lion(lr=-1), ValueError, r"lion: lr must be in \[0, inf\); got -1."),
        (lambda: lion(lr=float("nan")), ValueError, "lr must be in"),
        (lambda: lion(beta1=0.5), TypeError, "no hyperparameter 'beta1'. Did you mean b1?"),
        (lambda: lion(momentum=0.5), TypeError, "There are lr, b1, b2."),
        (lambda: lion(lr="0.1"), TypeError, "lion: lr must be a number or a schedule"),
        (lambda: lion(lr=True), TypeError, "lion: lr must be a number or a schedule"),
        (lambda: lion(lr=[0.1]), TypeError, "lion: lr must be a number or a schedule"),
        (lambda: optim.adam(eps_place="insde"), ValueError, "got 'insde'. Did you mean inside?"),
        (lambda: optim.adam(bias_correction=1), ValueError, "one of False, True; got 1"),
        (lambda: optim.momentum(form="ema", dampening=0.1), ValueError, "dampening belongs to"),
        (lambda: optim.nadam(schedule="cosine"), TypeError, "schedule must be a number"),
        (
            lambda: optim.adamw(lr=1, wdd=2),
            TypeError,
            "adamw: no hyperparameter 'wdd'. Did you mean wd",
        ),
        (lambda: optim.by_name("adamm"), ValueError, "called 'adamm'. Did you mean adam?"),
        (lambda: optim.as_optimizer(3), TypeError, "must be a name, a rule or a bound rule"),
        (lambda: optim.sgd(lr=lambda t: -1.0).hyper(3), ValueError, "got -1.0 at step 3"),
        (lambda: optim.sgd(lr=lambda t: None).hyper(3), TypeError, "got None at step 3"),
        (lambda: optim.adam().init(np.arange(3)), TypeError, "float type; got int64"),
        (lambda: optim.adam().init({"W": [np.arange(3)]}), TypeError, "int64 at W.0"),
        (
            lambda: optim.sgd().update({"W": np.ones(2)}, {"V": np.ones(2)}, {}, t=1),
            TypeError,
            "sgd: the gradient must have the structure of the parameters",
        ),
        (
            lambda: optim.sgd().update(np.ones(3), np.ones(2), {}, t=1),
            ValueError,
            r"sgd: a gradient must have the shape of its parameter; got \(3,\) for \(2,\)",
        ),
    ],
)
def test_mistakes_are_answered(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_rate_without_default_must_be_given():
    @optim.rule
    def plain(g, p, *, lr):
        return p - lr * g

    with pytest.raises(TypeError, match="plain: lr has no default and must be given"):
        plain()
    assert repr(plain) == "<rule plain(lr)>"
    assert plain(lr=1).hyper(1) == {"lr": 1.0}


def declared(**how):
    def decorate(function):
        return lambda: optim.rule(**how)(function)

    return decorate


@declared(slots={"m": 0.0})
def too_few(g, p, *, lr=0.1):
    return p - lr * g


@declared(per="layer")
def strange_per(g, p, *, lr=0.1):
    return p - lr * g


@declared(space={"rate": optim.Log(0.1, 1)})
def strange_space(g, p, *, lr=0.1, b=0.9):
    return p - lr * g


@declared(limits={"lr": "0 to 1"})
def strange_limits(g, p, *, lr=0.1):
    return p - lr * g


@declared(slots={"lr": 0.0})
def strange_slot(g, p, lr_, *, lr=0.1):
    return p - lr * g, lr_


@pytest.mark.parametrize(
    "declare, message",
    [
        (too_few, "positional arguments must be g, p, m; got g, p"),
        (strange_per, "per must be one of 'element', 'tensor', 'global'; got 'layer'"),
        (strange_space, "space names 'rate'. There are lr, b"),
        (strange_limits, "need an interval such as"),
        (strange_slot, "'lr' is the name of a state and of another argument"),
    ],
)
def test_wrong_declarations_are_refused(declare, message):
    with pytest.raises((TypeError, ValueError), match=message):
        declare()


@declared(slots={"m": 0.0})
def forgets_the_slot(g, p, m, *, lr=0.1):
    return p - lr * g


@declared()
def promotes(g, p, *, lr=0.1):
    return p - np.float64(0.1) * g


@declared(scalars={"k": 0.0})
def array_for_a_number(g, p, k, *, lr=0.1):
    return p - lr * g, g


@declared(slots={"m": 0.0})
def number_for_an_array(g, p, m, *, t, lr=0.1):
    return p - lr * g, 1 - lr**t


@pytest.mark.parametrize(
    "declare, message",
    [
        (forgets_the_slot, r"must return p, m \(2 values\); got 1"),
        (promotes, r"the new p must be f32\[1\]; got f64\[1\]"),
        (array_for_a_number, "the new k must be a number"),
        (number_for_an_array, r"the new m must be f32\[1\]; got float"),
    ],
)
def test_wrong_results_are_refused_at_the_first_step(declare, message):
    optimizer = declare()()
    p = np.ones(2, np.float32)
    with pytest.raises(TypeError, match=message):
        optimizer.update(p, p, optimizer.init(p), t=1)


def test_branches_and_writes_are_refused_with_the_cure():
    @optim.rule
    def branches(g, p, *, t, lr=0.1):
        return p - lr * g if t > 10 else p

    @optim.rule
    def writes(g, p, *, lr=0.1):
        return np.subtract(p, lr * g, out=p)

    with pytest.raises(TracingError, match="np.where"):
        branches().update(np.ones(2), np.ones(2), {}, t=1)
    with pytest.raises(TracingError, match=r"Write a = a \+ b"):
        writes().update(np.ones(2), np.ones(2), {}, t=1)


def test_a_schedule_cannot_be_traced():
    optimizer = optim.sgd(lr=schedule.cosine(0.1, steps=10))
    with pytest.raises(TypeError, match="the schedule of lr is evaluated by Python"):
        fl.trace(lambda g, p, t: optimizer.update(g, p, {}, t=t), np.ones(2), np.ones(2), 1)


# ---- travel


@pytest.mark.parametrize("name", optim.rules())
def test_optimizers_can_be_pickled(name):
    bound = optim.by_name(name)(lr=schedule.exponential(0.1, factor=0.9))
    p = np.linspace(-1, 1, 5)
    bound.update(p, p, bound.init(p), t=1)
    again = pickle.loads(pickle.dumps(bound))
    assert repr(again) == repr(bound)
    assert again.rule.formula is bound.rule.formula
    np.testing.assert_array_equal(
        again.update(p, p, again.init(p), t=3)[0], bound.update(p, p, bound.init(p), t=3)[0]
    )


def test_a_rule_of_a_notebook_travels_to_workers():
    cloudpickle = pytest.importorskip("cloudpickle")  # what joblib sends functions with

    def cell():
        @optim.rule(slots={"m": 0.0})
        def mine(g, p, m, *, lr=0.5):
            return p - lr * g, m

        return mine

    p = np.ones(2)
    again = pickle.loads(cloudpickle.dumps(cell()(lr=0.25)))
    np.testing.assert_array_equal(again.update(p, p, again.init(p), t=1)[0], 0.75)


def test_a_state_from_a_file_goes_on():
    """Numbers come back from a file of arrays as arrays without dimensions."""
    optimizer = optim.nadam()
    p = np.ones(3, np.float32)
    new, state = optimizer.update(p, p, optimizer.init(p), t=1)
    loaded = {name: np.asarray(value) for name, value in state.items()}
    a, b = (optimizer.update(p, new, s, t=2) for s in (state, loaded))
    np.testing.assert_array_equal(a[0], b[0])
    assert b[0].dtype == np.float32 and a[1]["mu_prod"] == b[1]["mu_prod"]
