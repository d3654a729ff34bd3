"""What one copy of a deployment runs on: how its GPUs are sold, in what machines they stand, and how many those are."""

from __future__ import annotations

from dataclasses import dataclass

BOARD_GPUS = 8  # of an HGX or MI300X board (NVIDIA HGX H100, AMD MI300X platform data sheets, 2024)
TRAY_GPUS = 4  # of a compute tray of a GB200 NVL72 (NVIDIA data sheet, 2025)
MOST_CARDS = 8  # PCIe cards in one server (Supermicro SYS-522GA, Lenovo SR675 V3, 2025)
ITSELF = "itself"  # of a GPU that is sold as a whole machine
FEW_CARDS = 4  # in one workstation or small server (Dell R750xa; host prices of the catalogue are of such)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one copy of a deployment runs on.

    Args:
        gpu_id, gpu_name, tdp_watts: of the GPU.
        gpus: of one copy.
        board: GPUs that are sold together; 1 where they are single cards.
        host: kind of machine that up to four cards stand in, `workstation` or `refurbished`, or `itself`; None for
            servers whose price is a share of their GPUs'.
    """

    gpu_id: str
    gpu_name: str
    tdp_watts: int
    gpus: int
    board: int
    host: str | None

    def node_gpus(self, copies: int) -> int:
        """GPUs of a node."""
        if self.host == ITSELF:
            return 1
        return (
            self.board if self.board > 1 else min(FEW_CARDS if self.host else MOST_CARDS, self.gpus * copies)
        )

    def nodes(self, copies: int) -> int:
        """Nodes that so many copies take."""
        return -(-self.gpus * copies // self.node_gpus(copies))

    def rented_nodes(self, copies: int) -> int:
        """Nodes that so many copies take at a provider, whose machines hold as many GPUs as any."""
        most = self.board if self.board > 1 else MOST_CARDS
        return -(-self.gpus * copies // most)

    def bought(self, copies: int) -> int:
        """GPUs in them: a board is bought whole, a card is not."""
        return self.nodes(copies) * self.board if self.board > 1 else self.gpus * copies


def host_of(kind: str, form_factor: str, gpus: int) -> str | None:
    """Kind of machine whose own price is known: a few cards in a workstation, or in a small server where passive."""
    if form_factor.endswith("box"):
        return ITSELF  # DGX Spark: its price is that of the whole
    if board_of(form_factor) > 1 or gpus > FEW_CARDS:
        return None
    return "refurbished" if kind == "datacenter" else "workstation"


def board_of(form_factor: str) -> int:
    """GPUs that are sold together: 8 on a board of SXM or OAM modules, 4 on a tray of superchips, else single ones."""
    if form_factor.startswith(("SXM", "OAM")):
        return BOARD_GPUS
    return TRAY_GPUS if form_factor.startswith("NVL72") else 1
