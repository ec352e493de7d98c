"""The rules as textbooks write them: one parameter, Python floats, one step at a time.

Each takes a dict that it keeps its state in, the gradient, the step from 1 and the rate, and
returns what is subtracted from the parameter.
"""

import math


def ratio(x, y):
    return 0.0 if x == 0 and y == 0 else x / y


def placed(v, eps, place):
    return math.sqrt(v + eps) if place == "inside" else math.sqrt(v) + eps


def average(state, key, value, decay):
    state[key] = decay * state.get(key, 0.0) + (1 - decay) * value
    return state[key]


def sgd(s, g, t, lr):
    return lr * g


def momentum(s, g, t, lr, b=0.9, dampening=0.0, a=1.0, form="sum", lr_inside=False):
    inside, outside = (lr, 1.0) if lr_inside else (1.0, lr)
    last = s.get("v", 0.0)
    if form == "two-gradient":
        s["v"] = inside * g
        return outside * (a * inside * g + b * last)
    weight = {"sum": 1 - dampening, "ema": 1 - b}[form]
    s["v"] = b * last + weight * inside * g
    return outside * s["v"]


def nesterov(s, g, t, lr, b=0.9, form="usual", lr_inside=False):
    inside, outside = (lr, 1.0) if lr_inside else (1.0, lr)
    s["v"] = b * s.get("v", 0.0) + inside * g
    if form == "lookahead":
        return outside * s["v"]
    return outside * (inside * g + b * s["v"])


def adagrad(s, g, t, lr, eps=1e-10, start=0.0, eps_place="outside"):
    s["G"] = s.get("G", start) + g**2
    return lr * ratio(g, placed(s["G"], eps, eps_place))


def rmsprop(s, g, t, lr, r=0.9, eps=1e-8, momentum=0.0, eps_place="outside", centered=False):
    v = average(s, "v", g**2, r)
    if centered:
        v = max(v - average(s, "a", g, r) ** 2, 0.0)
    s["u"] = momentum * s.get("u", 0.0) + ratio(g, placed(v, eps, eps_place))
    return lr * s["u"]


def adadelta(s, g, t, lr, r=0.9, eps=1e-6):
    v = average(s, "v", g**2, r)
    d = ratio(math.sqrt(s.get("u", 0.0) + eps), math.sqrt(v + eps)) * g
    average(s, "u", d**2, r)
    return lr * d


def adam_like(m_hat, v, c2, lr, eps, place):
    if place == "hat":
        return lr * ratio(m_hat, (math.sqrt(v) + eps) / math.sqrt(c2))
    return lr * ratio(m_hat, placed(v / c2, eps, place))


def adam(s, g, t, lr, b1=0.9, b2=0.999, eps=1e-8, eps_place="outside", bias_correction=True):
    m, v = average(s, "m", g, b1), average(s, "v", g**2, b2)
    c1, c2 = (1 - b1**t, 1 - b2**t) if bias_correction else (1.0, 1.0)
    return adam_like(m / c1, v, c2, lr, eps, eps_place)


def amsgrad(
    s,
    g,
    t,
    lr,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_place="outside",
    maximum="raw",
    bias_correction=True,
):
    m, v = average(s, "m", g, b1), average(s, "v", g**2, b2)
    c1, c2 = (1 - b1**t, 1 - b2**t) if bias_correction else (1.0, 1.0)
    if maximum == "corrected":
        v, c2 = v / c2, 1.0
    s["peak"] = max(s.get("peak", 0.0), v)
    return adam_like(m / c1, s["peak"], c2, lr, eps, eps_place)


def adamax(s, g, t, lr, b1=0.9, b2=0.999, eps=0.0, eps_place="outside"):
    m = average(s, "m", g, b1)
    inside, outside = (eps, 0.0) if eps_place == "inside" else (0.0, eps)
    s["u"] = max(b2 * s.get("u", 0.0), abs(g) + inside)
    return ratio(lr / (1 - b1**t) * m, s["u"] + outside)


def nadam(s, g, t, lr, b1=0.9, b2=0.999, eps=1e-8, schedule=0.004, eps_place="outside"):
    def mu(k):
        return b1 if schedule is None else b1 * (1 - 0.5 * 0.96 ** (schedule * k))

    m, v = average(s, "m", g, b1), average(s, "v", g**2, b2)
    product = math.prod(mu(k) for k in range(1, t + 1))
    m_hat = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    return adam_like(m_hat, v, 1 - b2**t, lr, eps, eps_place)


def lion(s, g, t, lr, b1=0.9, b2=0.99):
    c = b1 * s.get("m", 0.0) + (1 - b1) * g
    average(s, "m", g, b2)
    return lr * (c > 0) - lr * (c < 0)


def trajectory(rule, gradients, params, rate, *, wd=0.0, coupled=False, **settings):
    """The parameters after each step; `gradients` is a table of steps and parameters."""
    p = [float(x) for x in params]
    states = [{} for _ in p]
    found = []
    for t, row in enumerate(gradients, 1):
        lr = rate(t)
        for i, g in enumerate(row):
            g = float(g) + (wd * p[i] if coupled else 0.0)
            p[i] -= 0.0 if coupled else lr * wd * p[i]
            p[i] -= rule(states[i], g, t, lr, **settings)
        found.append(list(p))
    return found
