"""A namespace on the control plane, with simulated GPU nodes beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters import ControlPlane
from tests.simulator import Simulator


@pytest.fixture
def sim(plane: ControlPlane) -> Iterator[Simulator]:
    """Two nodes of eight H100s, and storage."""
    with Simulator(plane.address, plane.token, pace=0.002) as made:
        made.node("gpu-1")
        made.node("gpu-2")
        made.storage("standard")
        yield made


@pytest.fixture
def namespace(plane: ControlPlane, sim: Simulator) -> Iterator[str]:
    """Of Pod Security *restricted*, empty at first and gone afterwards."""
    name = plane.namespace("restricted")
    yield name
    plane.remove(name)
