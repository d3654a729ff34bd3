"""The machine around the GPUs, read from /proc, cgroups and the kubelet: facts, processes, pods, engines."""

from selfhost.node.containers import ContainerNames
from selfhost.node.engines import find_engines
from selfhost.node.facts import NodeFacts, node_facts
from selfhost.node.naming import under_names
from selfhost.node.podresources import DeviceOwner, PodResources
from selfhost.node.processes import attribute, attribute_gpus

__all__ = [
    "ContainerNames",
    "DeviceOwner",
    "NodeFacts",
    "PodResources",
    "attribute",
    "attribute_gpus",
    "find_engines",
    "node_facts",
    "under_names",
]
