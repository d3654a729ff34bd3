"""A clock whose steps take so many times as long: the ends of the range that a clock is known within."""

from __future__ import annotations

from selfhost.throughput.types import StepClock


class ScaledClock:
    """Another clock's steps, each `factor` times as long."""

    __slots__ = ("_clock", "_factor")

    def __init__(self, clock: StepClock, factor: float) -> None:
        self._clock, self._factor = clock, factor

    def step_seconds(
        self,
        decoding: float,
        context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_context_tokens: float = 0.0,
    ) -> float:
        """As `StepClock`."""
        own = self._clock.step_seconds(decoding, context_tokens, prefill_tokens, prefill_context_tokens)
        return own * self._factor
