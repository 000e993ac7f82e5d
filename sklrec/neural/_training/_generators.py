"""Random number generators of a fit."""

from __future__ import annotations

import numpy as np
import torch


class Generators:
    """Random number generators of one fit, which uses no global generator.

    Parameters
    ----------
    device : torch.device
        Device on which the network is trained.

    Attributes
    ----------
    cpu : torch.Generator
        Generator of weights and of the order of rows, which are the same on every device.
    device : torch.Generator
        Generator of noise, on the device; it is `cpu` if the network is trained on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.cpu = torch.Generator()
        self.device = self.cpu if device.type == "cpu" else torch.Generator(device)

    def seed(self, *entropy: int) -> None:
        """Seed both generators, with numbers such as the seed of a fit and that of the epoch."""
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        for generator in (self.cpu, self.device):
            generator.manual_seed(seed)

    def numpy(self) -> np.random.Generator:
        """Return a generator of numpy, whose seed is drawn from `cpu`."""
        return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=self.cpu)))
