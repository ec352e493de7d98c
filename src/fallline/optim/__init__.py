"""Optimizers: rules from their formulas, transforms around them, and one interface for all.

    optimizer = optim.adam(lr=1e-3)
    optimizer = optim.chain(optim.clip_norm(1.0), optim.decay(0.01), optim.momentum(lr=0.1))

`optim.rules()` lists them; `optim.rule` makes one of a formula.
"""

from fallline.optim.adadelta import adadelta
from fallline.optim.adagrad import adagrad
from fallline.optim.adam import adam
from fallline.optim.adamax import adamax
from fallline.optim.adamw import adamw
from fallline.optim.amsgrad import amsgrad
from fallline.optim.catalogue import as_optimizer, by_name, rules
from fallline.optim.chain import chain
from fallline.optim.clip import clip_norm, clip_tensor_norm, clip_value
from fallline.optim.decay import decay
from fallline.optim.momentum import momentum
from fallline.optim.nadam import nadam
from fallline.optim.nesterov import nesterov
from fallline.optim.numbers import is_zero
from fallline.optim.optimizer import Optimizer
from fallline.optim.part import Part
from fallline.optim.rmsprop import rmsprop
from fallline.optim.rule import Rule, rule
from fallline.optim.sgd import sgd
from fallline.optim.space import Choice, Linear, Log, OneMinusLog
from fallline.optim.transform import Transform, transform
from fallline.optim.update import Update
from fallline.optim.updater import Updater, updater

__all__ = [
    # rules and named chains, in the order in which they are listed
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adadelta",
    "adam",
    "adamax",
    "nadam",
    "adamw",
    "amsgrad",
    # around a rule
    "chain",
    "clip_norm",
    "clip_tensor_norm",
    "clip_value",
    "decay",
    "updater",
    # to find one
    "as_optimizer",
    "by_name",
    "rules",
    # to declare one
    "Choice",
    "Linear",
    "Log",
    "OneMinusLog",
    "Optimizer",
    "Part",
    "Rule",
    "Transform",
    "Update",
    "Updater",
    "is_zero",
    "rule",
    "transform",
]
