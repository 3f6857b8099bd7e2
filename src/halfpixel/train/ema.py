"""A running average of a network's weights, which generalises better than the weights themselves."""

from __future__ import annotations

import copy

import torch

from halfpixel.nn.network import Network


class WeightAverage:
    """Exponential moving average; short at first, so that the start is forgotten.

    Args:
        network: the start.
        decay: share of the old average that stays at each update, in 0..1.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Take in the weights after a step (from 1)."""
        decay = min(self.decay, step / (step + 9))
        current = network.state_dict()
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(current[name], 1 - decay)
