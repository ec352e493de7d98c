"""Networks: modules, layers, initialisers, ready models, files of weights."""

from fallline.nn import initialisers, models
from fallline.nn.activation import ACTIVATIONS, Activation
from fallline.nn.branches import Concat, Residual
from fallline.nn.context import Context, Taps
from fallline.nn.conv import Conv2d, ConvTranspose2d
from fallline.nn.dropout import Dropout
from fallline.nn.files import load, save
from fallline.nn.initialisers import Initialiser, initialiser
from fallline.nn.inspection import Inspection, inspect
from fallline.nn.linear import Linear
from fallline.nn.models import mlp
from fallline.nn.module import Module
from fallline.nn.normalisation import BatchNorm, LayerNorm, Standardise
from fallline.nn.outline import Summary, summary
from fallline.nn.pooling import AvgPool2d, Flatten, GlobalAvgPool, MaxPool2d
from fallline.nn.sequential import Sequential
from fallline.nn.weights import load_weights, save_weights, state_dict

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "AvgPool2d",
    "BatchNorm",
    "Concat",
    "Context",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "Initialiser",
    "Inspection",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "Residual",
    "Sequential",
    "Standardise",
    "Summary",
    "Taps",
    "initialiser",
    "initialisers",
    "inspect",
    "load",
    "load_weights",
    "mlp",
    "models",
    "save",
    "save_weights",
    "state_dict",
    "summary",
]
