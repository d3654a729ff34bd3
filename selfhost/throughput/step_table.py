"""StepClock -> the same times from a table that fills as it is read, for a simulation that asks millions of times.

Steps that only decode: a straight line over the mean context between two knots, for every number of sequences. Steps
that carry prompts: a straight line over the prompt tokens between two knots; the number of sequences, their mean
context and the mean number of tokens before a prompt's are taken for the middle of a cell around them.
"""

from __future__ import annotations

from collections.abc import Callable

from selfhost.throughput.types import StepClock

KEY = 32  # bits of a key under the number of sequences
_CELL = (1 << KEY) - 1
_CONTEXT_BITS = 6  # at least 32 knots up to the longest context
# Significant bits of a cell around a number: 4 make it 1/16 to 1/8 of the number wide, 3 twice that. Ours: the tests
# hold what comes of them against every step.
_BITS, _MEAN_BITS = 4, 3
_FIELD = 24  # bits of each of them in a key

Line = tuple[float, float]  # value at 0, slope


def _floor(number: int, bits: int = _BITS) -> int:
    """First number of the cell around a number."""
    spare = number.bit_length() - bits
    return number >> spare << spare if spare > 0 else number


_FEW = 1 << 14
_FLOORS = [_floor(number) for number in range(_FEW)]  # looked up, as it is asked for so often


class Lines(dict[int, Line]):
    """Lines that are drawn when they are first asked for."""

    def __init__(self, draw: Callable[[int], Line]) -> None:
        super().__init__()
        self._draw = draw

    def __missing__(self, key: int) -> Line:
        line = self[key] = self._draw(key)
        return line


class StepTable:
    """Times of one copy's steps.

    Args:
        clock: where they come from.
        longest_tokens: longest context that will be asked for.
        stages: pipeline stages, each with a batch of its own under way.

    Attributes:
        decoding: of a step without prompts, by `sequences << KEY | context >> shift`, over the mean context.
        shift: how many bits of a context one line reaches.
    """

    __slots__ = ("_at", "_clock", "_mixed", "_stages", "decoding", "shift")

    def __init__(self, clock: StepClock, *, longest_tokens: int, stages: int = 1) -> None:
        self._clock, self._stages = clock, stages
        self.shift = max(_CONTEXT_BITS, longest_tokens.bit_length() - _CONTEXT_BITS)
        self.decoding = Lines(self._decode_line)
        self._mixed = Lines(self._mixed_line)
        self._at: dict[tuple[int, int], float] = {}

    def decode(self, running: int, context_tokens: float) -> float:
        """Seconds of a step that gives a token to each of so many sequences with that mean context."""
        start, slope = self.decoding[running << KEY | int(context_tokens) >> self.shift]
        return start + slope * context_tokens

    def mixed(self, running: int, context_tokens: float, tokens: int, pairs: float) -> float:
        """Seconds of a step that carries prompts as well.

        Args:
            running: sequences that decode in it.
            context_tokens: of each of them in the cache, on average.
            tokens: of prompts.
            pairs: sum over prompts of their tokens times the mean number of tokens before each of these.
        """
        mean = int(context_tokens)
        spare = mean.bit_length() - _MEAN_BITS
        if spare > 0:
            mean = mean >> spare << spare
        running = _FLOORS[running] if running < _FEW else _floor(running)
        cell = _FLOORS[tokens] if tokens < _FEW else _floor(tokens)
        key = (running << _FIELD | mean) << _FIELD | cell
        if pairs != tokens * tokens * 0.5:  # not one whole prompt
            key |= (1 + _floor(int(pairs / tokens))) << 3 * _FIELD
        start, slope = self._mixed[key]
        return start + slope * tokens

    def _decode_line(self, key: int) -> Line:
        running, start = key >> KEY, (key & _CELL) << self.shift
        return _line(start, start + (1 << self.shift), lambda tokens: self._decode_knot(running, tokens))

    def _decode_knot(self, running: int, tokens: int) -> float:
        found = self._at.get((running, tokens))
        if found is None:
            at_once = max(1.0, running / self._stages)
            found = self._at[running, tokens] = self._clock.step_seconds(at_once, tokens)
        return found

    def _mixed_line(self, key: int) -> Line:
        mask = (1 << _FIELD) - 1
        tokens, mean, running = key & mask, key >> _FIELD & mask, key >> 2 * _FIELD & mask
        seen = key >> 3 * _FIELD
        at_once = _middle(running, _BITS) / self._stages
        if running:
            at_once = max(1.0, at_once)
        context = _middle(mean, _MEAN_BITS)

        def at(prompt: int) -> float:
            # Several prompts see less of each other than one that is as long as all of them: then it is below zero.
            before = _middle(seen - 1, _BITS) - prompt / 2 if seen else 0.0
            return self._clock.step_seconds(at_once, context, prompt, before)

        return _line(tokens, tokens + (1 << max(0, tokens.bit_length() - _BITS)), at)


def _middle(floor: int, bits: int) -> float:
    """Of the whole numbers that share so many leading bits with a cell's first."""
    spare = floor.bit_length() - bits
    return floor + ((1 << spare) - 1) / 2 if spare > 0 else float(floor)


def _line(start: int, end: int, at: Callable[[int], float]) -> Line:
    """The straight line between a knot and the next."""
    low = at(start)
    slope = (at(end) - low) / (end - start)
    return low - slope * start, slope
