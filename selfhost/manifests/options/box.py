"""One machine: at what address the server listens, which of its GPUs it takes, where its programs are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from selfhost.errors import UsageError
from selfhost.manifests.options.fields import option

LOOPBACK = "127.0.0.1"
# An index, a GPU's or a MIG instance's UUID, a MIG instance by index.
_GPU = re.compile(r"[0-9]{1,3}(:[0-9]{1,3})?|(GPU|MIG)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PATH = re.compile(r"/[A-Za-z0-9._+-]{1,120}(/[A-Za-z0-9._+-]{1,120}){0,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxOptions:
    """What one machine decides, for the targets compose and systemd."""

    bind: str = field(
        default=LOOPBACK,
        metadata=option(
            "--bind",
            "Address of the machine that the server is reached at.",
            "str",
            metavar="ADDRESS",
            only=("compose", "systemd"),
        ),
    )
    gpu_devices: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--gpu-device",
            "Which GPU of the machine, by index or UUID, where the first ones are not meant; repeat for several.",
            "many",
            metavar="N",
            only=("compose", "systemd"),
        ),
    )
    cdi: bool = field(
        default=False,
        metadata=option(
            "--cdi",
            "GPUs by their CDI names, as Podman wants them.",
            "flag",
            only=("compose", "systemd"),
        ),
    )
    engine_bin: str | None = field(
        default=None,
        metadata=option(
            "--engine-bin",
            "Program that starts the engine, for target systemd; else one below /opt/selfhost.",
            "str",
            metavar="PATH",
            only=("systemd",),
        ),
    )

    def __post_init__(self) -> None:
        try:
            ip_address(self.bind)
        except ValueError:
            raise UsageError(
                f"--bind {self.bind[:80]!r} is no address.", hint="Write 127.0.0.1, 0.0.0.0 or ::1."
            ) from None
        for text in self.gpu_devices:
            if _GPU.fullmatch(text) is None:
                raise UsageError(
                    f"--gpu-device {text[:80]!r} is no index or UUID of a GPU.",
                    hint="`nvidia-smi -L` lists them.",
                )
        if len(set(self.gpu_devices)) < len(self.gpu_devices):
            raise UsageError("--gpu-device names a GPU twice.", hint="Leave one out.")
        path = self.engine_bin
        if path is not None and (_PATH.fullmatch(path) is None or ".." in path.split("/")):
            raise UsageError(
                f"--engine-bin {path[:80]!r} is no absolute path of letters, digits and ._+-.",
                hint="Write /opt/selfhost/venv/bin/vllm.",
            )

    @property
    def everywhere(self) -> bool:
        """Whether the server is reached at every address of the machine."""
        return ip_address(self.bind).is_unspecified

    @property
    def local(self) -> bool:
        """Whether only the machine itself reaches the server."""
        return ip_address(self.bind).is_loopback
