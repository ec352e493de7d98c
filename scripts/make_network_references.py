"""Make tests/nn/references.json: what PyTorch's LeNet and ResNet-20 give for weights of a formula.

Run from the root of the repository with PyTorch installed:
python -m scripts.make_network_references
"""

import json
from pathlib import Path

import torch
from tests.nn import formula
from torch import nn
from torch.nn import functional as F

FILE = Path(__file__).resolve().parents[1] / "tests" / "nn" / "references.json"


class LeNet(nn.Module):
    def __init__(self, classic=False):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.function = torch.tanh if classic else F.relu
        self.pool = F.avg_pool2d if classic else F.max_pool2d

    def forward(self, x):
        x = self.pool(self.function(self.conv1(x)), 2)
        x = self.pool(self.function(self.conv2(x)), 2)
        x = self.function(self.fc1(torch.flatten(x, 1)))
        return self.fc3(self.function(self.fc2(x)))


class Block(nn.Module):
    def __init__(self, narrow, wide, option, skip=True):
        super().__init__()
        stride = wide // narrow
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.more, self.stride, self.skip = wide - narrow, stride, skip
        self.downsample = None
        if option == "B" and self.more:
            self.downsample = nn.Sequential(
                nn.Conv2d(narrow, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if not self.skip:
            return F.relu(y)
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.more:
            half = self.more // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, depth=20, option="A", skip=True):
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(n, 16, 16, option, skip)
        self.layer2 = self.stage(n, 16, 32, option, skip)
        self.layer3 = self.stage(n, 32, 64, option, skip)
        self.fc = nn.Linear(64, 10)

    def stage(self, n, narrow, wide, option, skip):
        first = Block(narrow, wide, option, skip)
        return nn.Sequential(first, *[Block(wide, wide, option, skip) for _ in range(n - 1)])

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def filled(module):
    """The module with weights of the formula, in evaluation mode, in double precision."""
    state = {
        name: torch.tensor(formula.weight(name, tuple(value.shape)))
        for name, value in module.state_dict().items()
        if value.dtype.is_floating_point
    }
    module.load_state_dict(state, strict=False)
    return module.double().eval()


def described(module, shape, trained=False):
    """Names and shapes of the state, and the outputs for images of the formula.

    trained: one call in training mode before, whose outputs and running statistics are kept too.
    """
    x = torch.tensor(formula.images(shape)).double()
    with torch.no_grad():
        found = {"outputs": filled(module)(x).tolist()}
        if trained:
            found["training outputs"] = module.train()(x).tolist()
            found["running"] = {
                name: value.flatten()[:8].tolist()
                for name, value in module.state_dict().items()
                if "running" in name
            }
    state = {name: list(value.shape) for name, value in module.state_dict().items()}
    return {"images": shape, "state": state, **found}


if __name__ == "__main__":
    references = {
        "torch": torch.__version__,
        "lenet5": described(LeNet(), (4, 1, 28, 28)),
        "lenet5 classic": described(LeNet(classic=True), (4, 1, 28, 28)),
        "resnet 20": described(ResNet(), (4, 3, 32, 32), trained=True),
        "resnet 8 B": described(ResNet(8, "B"), (4, 3, 32, 32)),
        "resnet 8 plain": described(ResNet(8, skip=False), (4, 3, 32, 32)),
    }
    FILE.write_text(json.dumps(references, indent=None, separators=(",", ":")) + "\n")
