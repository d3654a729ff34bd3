"""The machine around the GPUs, read from /proc, cgroups and the kubelet: facts, processes, pods, engines."""
