"""The utilizations of catalog/efficiency.toml, fitted to measured rows: few numbers, shared by many deployments.

What belongs to an engine or a kind of link is one number for all GPUs; what belongs to memory and tensor cores is one
for each generation. A fit goes down the sum of absolute log errors, each generation counted alike and no error beyond a
factor of 1.8 in full, plus a pull towards PRIOR, so that a generation with few rows stays near the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from selfhost.errors import SelfhostError
from selfhost.throughput import efficiency

if TYPE_CHECKING:
    from bench_throughput import Case

# Where a fit starts: shares and times as engines' own profiles and papers on them usually show.
SHARED = {
    "unpacked": 0.6, "attention": 0.45, "layer_us": 60.0, "expert_layer_us": 90.0,
    "reduce_us": 14.0, "reduce_pcie_us": 90.0, "link": 0.4,
}  # fmt: skip
OWN = {"weights": 0.8, "experts": 0.65, "cache": 0.7, "compute": 0.55, "expert_compute": 0.38}
TIMES = {"step_us": 250.0, "sequence_us": 25.0, "request_ms": 35.0}
BOUNDS = {
    "unpacked": (0.3, 1.0), "attention": (0.1, 0.75), "layer_us": (15, 150), "expert_layer_us": (40, 220),
    "reduce_us": (4, 40), "reduce_pcie_us": (30, 150), "link": (0.25, 0.9),
    "weights": (0.4, 0.92), "experts": (0.3, 0.92), "cache": (0.3, 0.95), "compute": (0.2, 0.85),
    "expert_compute": (0.08, 0.75), "step_us": (50, 3000), "sequence_us": (1, 50), "request_ms": (5, 60),
}  # fmt: skip
_PULL = 0.15  # of the squared log distance from PRIOR, in units of one row's error
# Of dense products much is known beforehand, as libraries come near the same share everywhere; where all rows of a
# generation are of routed models, what is slow belongs to their grouped products.
_SURE = {"compute": 3.0}
_FAR = 0.6  # a log error beyond which it counts a fifth: one odd row shall not bend the others
_MOST = 12  # rows of a generation that count in full
_ROUNDS = 12


@dataclass(kw_only=True)
class Fit:
    """Numbers under way."""

    shared: dict[str, float] = field(default_factory=lambda: dict(SHARED))
    times: dict[str, float] = field(default_factory=lambda: dict(TIMES))
    own: dict[str, dict[str, float]] = field(default_factory=dict)


def _install(fit: Fit, tables: dict[str, Any]) -> None:
    for name, table in tables["generation"].items():
        if "weights" in table:
            table.update(fit.shared)
            table.update(fit.own.get(name, {}))
    for engine in tables["engine"].values():
        for release in engine["releases"]:
            # Releases that overlap scheduling are taken for half of what those before were fitted to.
            half = 0.5 if release["since"] >= [0, 14] and engine is tables["engine"]["vllm"] else 1.0
            release["step_us"] = fit.times["step_us"] * half
            release["sequence_us"] = fit.times["sequence_us"] * half
            release["request_ms"] = fit.times["request_ms"]
    efficiency.forget()


@contextmanager
def fitted(cases: list[Case], *, rounds: int = _ROUNDS) -> Iterator[Fit]:
    """Utilizations fitted to some rows, in force inside the block and taken back after it."""
    tables = efficiency.tables()
    import copy

    before = copy.deepcopy(tables)
    try:
        found = fit(cases, rounds)
        _install(found, tables)
        yield found
    finally:
        tables.clear()
        tables.update(before)
        efficiency.forget()


def fit(cases: list[Case], rounds: int = _ROUNDS) -> Fit:
    """Go down coordinate by coordinate until the rounds are up."""
    from bench_throughput import log_errors

    tables = efficiency.tables()
    names = {efficiency.generation_of(case.gpu) for case in cases}
    names = {str(tables["generation"][name].get("like", name)) for name in names}
    found = Fit(own={name: dict(OWN) for name in sorted(names)})
    by_name: dict[str, list[Case]] = {name: [] for name in names}
    for case in cases:
        name = efficiency.generation_of(case.gpu)
        by_name[str(tables["generation"][name].get("like", name))].append(case)

    def loss_of(name: str) -> float:
        total, count = 0.0, 0
        for case in by_name[name]:
            for size in log_errors(case):
                total += size if size < _FAR else _FAR + 0.2 * (size - _FAR)
                count += 1
        return total / max(1, count) * min(len(by_name[name]), _MOST)

    def pull() -> float:
        far = [(found.shared, SHARED), (found.times, TIMES), *((own, OWN) for own in found.own.values())]
        return _PULL * sum(
            _SURE.get(key, 1.0) * math.log(values[key] / prior[key]) ** 2
            for values, prior in far
            for key in values
        )

    losses: dict[str, float] = {}
    keys: list[tuple[str | None, dict[str, float], str]] = []
    for name, own in found.own.items():
        keys += [(name, own, key) for key in own]
    keys += [(None, found.shared, key) for key in found.shared]
    keys += [(None, found.times, key) for key in found.times]
    steps = {(name, key): 0.25 for name, _, key in keys}
    _install(found, tables)
    losses = {name: loss_of(name) for name in by_name}
    best = sum(losses.values()) + pull()
    for _ in range(rounds):
        for own_name, values, key in keys:
            old = values[key]
            for sign in (1, -1):
                low, high = BOUNDS[key]
                values[key] = min(high, max(low, old * math.exp(sign * steps[own_name, key])))
                _install(found, tables)
                try:
                    tried = {**losses, **{one: loss_of(one) for one in ([own_name] if own_name else by_name)}}
                except SelfhostError:
                    continue
                total = sum(tried.values()) + pull()
                if total < best - 1e-6:
                    best, losses = total, tried
                    steps[own_name, key] *= 1.3
                    break
            else:
                values[key] = old
                steps[own_name, key] = max(0.02, steps[own_name, key] * 0.55)
    _install(found, tables)
    return found


def show_fit(cases: list[Case]) -> None:
    """Print the fitted numbers as the catalogue writes them."""
    with fitted(cases) as found:
        for name, own in found.own.items():
            print(f"[generation.{name}]")
            for key, value in {**own, **found.shared}.items():
                print(f"{key} = {value:.3g}")
        print("[engine]")
        for key, value in found.times.items():
            print(f"{key} = {value:.3g}")
