"""Ready networks: one file per family. Images are (n, channels, height, width)."""

from fallline.nn.models.adam_cnn import adam_cnn
from fallline.nn.models.deepobs import deepobs_2c2d, deepobs_3c3d
from fallline.nn.models.densenet import densenet
from fallline.nn.models.lenet import lenet5
from fallline.nn.models.mlp import mlp
from fallline.nn.models.resnet import resnet

__all__ = ["adam_cnn", "deepobs_2c2d", "deepobs_3c3d", "densenet", "lenet5", "mlp", "resnet"]
