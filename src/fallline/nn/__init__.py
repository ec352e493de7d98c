"""Networks: modules, layers, initialisers, ready models, files of weights."""

from fallline.nn import initialisers
from fallline.nn.activation import ACTIVATIONS, Activation
from fallline.nn.context import Context, Taps
from fallline.nn.dropout import Dropout
from fallline.nn.files import load, save
from fallline.nn.initialisers import Initialiser, initialiser
from fallline.nn.inspection import Inspection, inspect
from fallline.nn.linear import Linear
from fallline.nn.models import mlp
from fallline.nn.module import Module
from fallline.nn.sequential import Sequential

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Context",
    "Dropout",
    "Initialiser",
    "Inspection",
    "Linear",
    "Module",
    "Sequential",
    "Taps",
    "initialiser",
    "initialisers",
    "inspect",
    "load",
    "mlp",
    "save",
]
