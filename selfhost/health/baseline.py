"""What a node looked like when it was well, as a file that later checks compare with.

The file is the form itself: `schema` names its version, a field that is not known is refused by name.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from selfhost.errors import OutputError, SelfhostError
from selfhost.strict import decode, encode, parse

SCHEMA = "selfhost/baseline/v1"


class BaselineError(SelfhostError):
    """A baseline that cannot be read, is of another version, or has unknown or missing fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuBaseline:
    """One GPU when it was well. None is what the board does not tell, or what was not seen.

    Args:
        pcie_generation, pcie_width: the most that device and slot can do together, as NVML says.
        nvlinks_active: how many links were up.
        busy_low_watts, busy_high_watts: fifth and ninety-fifth percentile of the power while tokens flowed.
        busy_samples: readings the band rests on; 0 without a band.
        idle_memory_bytes: memory in use with no process on the GPU.
    """

    uuid: str
    index: int
    name: str
    pci_address: str
    pcie_generation: int | None = None
    pcie_width: int | None = None
    nvlinks_active: int | None = None
    ecc_enabled: bool | None = None
    mig_enabled: bool | None = None
    busy_low_watts: float | None = None
    busy_high_watts: float | None = None
    busy_samples: int = 0
    idle_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A node when it was well.

    Args:
        learnt_at: Unix time.
        driver: version of the driver, None where it was not told.
    """

    schema: str
    host: str
    learnt_at: float
    driver: str | None
    gpus: tuple[GpuBaseline, ...]

    def gpu(self, uuid: str) -> GpuBaseline | None:
        """What is known of one GPU."""
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)


def default_path() -> Path:
    """Where a baseline is kept: $XDG_STATE_HOME/selfhost/baseline.json."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "selfhost" / "baseline.json"


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: no such file, not readable, another version, or unknown or missing fields.
    """

    def refuse(sentence: str) -> SelfhostError:
        return BaselineError(
            f"{path} {sentence}." if sentence.startswith(("is", "nests")) else f"{path}: {sentence}.",
            hint="`selfhost health --learn` writes a new one on a node that is well.",
        )

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise refuse(f"cannot be read: {reason}") from None
    data = parse(text, refuse)
    if data.get("schema") != SCHEMA:
        raise refuse(f"is not a {SCHEMA}")
    baseline = decode(Baseline, data, "baseline", refuse)
    assert isinstance(baseline, Baseline)
    return baseline


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps(encode(baseline), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    part: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            part = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)  # others may read it: it holds no secret
        os.replace(part, path)
    except OSError as error:
        if part is not None:
            Path(part).unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", hint="Name another file with --baseline FILE."
        ) from None
