"""A node simulator for tests: GPU nodes, pods that run or fail as a test asks, logs, forwarded ports, volumes."""

from tests.simulator.box import FOREVER, Behaviour, Box, Exit, Rule
from tests.simulator.simulator import Simulator

__all__ = ["FOREVER", "Behaviour", "Box", "Exit", "Rule", "Simulator"]
