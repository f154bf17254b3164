"""The pre-activation residual network (He et al. 2016b, "Identity mappings")."""

from torch import Tensor, nn

from .classifier_layers import norm_act
from .resnet import ResNet, conv3x3, projection


class PreActBlock(nn.Module):
    """shortcut(x) + norm-act-conv-norm-act-conv(x); a strided block's shortcut is norm-act-1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str):
        super().__init__()
        first, second = conv3x3(inputs, outputs, stride), conv3x3(outputs, outputs)
        self.branch = nn.Sequential(*norm_act(inputs, activation), first, *norm_act(outputs, activation), second)
        project = [*norm_act(inputs, activation), projection(inputs, outputs, stride, bias=False)]
        self.shortcut = nn.Sequential(*(project if inputs != outputs or stride != 1 else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)


class PreActResNet(ResNet):
    """A `ResNet` of `PreActBlock`s, without norm and activation after the first convolution: 272,250 parameters."""

    block = PreActBlock

    def stem(self, inputs: int, outputs: int, activation: str) -> list[nn.Module]:
        return [conv3x3(inputs, outputs)]
