import torch
from test_loop import fresh

from halfpixel.train.ema import WeightAverage


def test_the_average_follows_the_weights() -> None:
    network = fresh().model
    average = WeightAverage(network, decay=0.5)
    start = network.rpn.objectness.bias.detach().clone()
    with torch.no_grad():
        network.rpn.objectness.bias.add_(1.0)
    average.update(network, 1)  # short at first: a tenth of the past stays
    torch.testing.assert_close(average.network.rpn.objectness.bias.detach(), start + 0.9)
    for step in range(2, 32):
        average.update(network, step)
    torch.testing.assert_close(average.network.rpn.objectness.bias.detach(), start + 1.0)
