"""StepClock -> the same times from a table that fills as it is read, for a simulation that asks millions of times.

Steps that only decode: a straight line over the mean context between two knots, for every number of sequences. Steps
that carry prompts: a straight line over the prompt tokens between two knots; the number of sequences, their mean
context and the mean number of tokens before a prompt's are taken for the middle of a cell around them.
"""

from __future__ import annotations

from collections.abc import Callable

from selfhost.throughput.asked import Limits
from selfhost.throughput.types import StepClock

_CONTEXT_BITS = 6  # at least 32 knots up to the longest context
KEY = _CONTEXT_BITS + 2  # bits of a key under the number of sequences; a few more as drafts may go beyond
_CELL = (1 << KEY) - 1
# Significant bits of a cell around a number: it is 1/8 to 1/4 of the number wide. Ours: with three bits more means and
# percentiles of 100,000 chats differ by less than half a percent; the tests hold them against every step. One more for
# sequences, as steps jump where they outgrow a CUDA graph.
_BITS, _SEQUENCE_BITS = 3, 4
_FIELD = 8  # bits of the number of a cell in a key: of numbers up to 2^30 there are 200 to 240
_LIST_BITS = 14  # of the longest list that keys are looked up in

Line = tuple[float, float]  # value at 0, slope


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
        limits: of the copy: no step has more sequences and no more prompt tokens.
        longest_tokens: longest context that will be asked for.

    Attributes:
        decoding: of a step without prompts, by `sequences << KEY | context >> shift`, over the mean context.
        shift: how many bits of a context one line reaches.
        carrying: of a step with prompts, by the sum of the keys below, over its prompt tokens.
        sequence_keys, token_keys: by the number of sequences, and of prompt tokens.
        context_keys, before_keys: by the mean context, and by the mean number of tokens before a prompt's where that
            is not half of one whole prompt; both `>> fine`, which keeps the lists short.
        fine: bits.
    """

    __slots__ = (
        "_at", "_clock", "_stages", "before_keys", "carrying", "context_keys", "decoding", "fine", "sequence_keys",
        "shift", "token_keys",
    )  # fmt: skip

    def __init__(self, clock: StepClock, limits: Limits, *, longest_tokens: int) -> None:
        self._clock, self._stages = clock, limits.stages
        self.shift = max(_CONTEXT_BITS, longest_tokens.bit_length() - _CONTEXT_BITS)
        self.fine = max(0, longest_tokens.bit_length() - _LIST_BITS)
        self.decoding, self.carrying = Lines(self._decode_line), Lines(self._mixed_line)
        self._at: dict[tuple[int, ...], float] = {}
        # Drafts are accepted by the step, so that the last may reach a few tokens beyond the longest context.
        contexts = (longest_tokens + int(limits.tokens_per_step) >> self.fine) + 2
        self.sequence_keys = [cell << 2 * _FIELD for cell in _cells(limits.sequences + 1, _SEQUENCE_BITS)]
        self.context_keys = [cell << _FIELD for cell in _cells(contexts)]
        self.token_keys = _cells(limits.chunk_tokens + 1)
        self.before_keys = [cell + 1 << 3 * _FIELD for cell in _cells(contexts)]

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
        key = self.sequence_keys[running] + self.context_keys[int(context_tokens) >> self.fine]
        key += self.token_keys[tokens]
        if 2.0 * pairs != tokens * tokens:
            key += self.before_keys[int(pairs / tokens) >> self.fine]
        start, slope = self.carrying[key]
        return start + slope * tokens

    def _decode_line(self, key: int) -> Line:
        running, start = key >> KEY, (key & _CELL) << self.shift
        at_once = max(1.0, running / self._stages)

        def at(tokens: int) -> float:
            return self._clock.step_seconds(at_once, tokens)

        return self._line(start, start + (1 << self.shift), (running,), at)

    def _mixed_line(self, key: int) -> Line:
        tokens, mean, running, seen = key.to_bytes(4, "little")
        at_once = _middle(running, _SEQUENCE_BITS) / self._stages
        if running:
            at_once = max(1.0, at_once)
        context = _middle(mean) * (1 << self.fine)

        def at(prompt: int) -> float:
            # Several prompts see less of each other than one that is as long as all of them: then it is below zero.
            before = _middle(seen - 1) * (1 << self.fine) - prompt / 2 if seen else 0.0
            return self._clock.step_seconds(at_once, context, prompt, before)

        return self._line(_start(tokens), _start(tokens + 1), (running, mean, seen), at)

    def _line(self, start: int, end: int, of: tuple[int, ...], at: Callable[[int], float]) -> Line:
        """The straight line between a knot and the next, which lines beside it share."""
        knots = self._at
        low = knots.get((*of, start))
        if low is None:
            low = knots[*of, start] = at(start)
        high = knots.get((*of, end))
        if high is None:
            high = knots[*of, end] = at(end)
        slope = (high - low) / (end - start)
        return low - slope * start, slope


def _cells(count: int, bits: int = _BITS) -> list[int]:
    """The cell of each number from 0: the first numbers have one each, those after it share their leading bits."""
    half = 1 << bits - 1
    cells = list(range(min(count, 2 * half)))
    width = 1
    while len(cells) < count:
        width *= 2
        for cell in range(cells[-1] + 1, cells[-1] + 1 + half):
            cells += [cell] * width
    return cells[:count]


def _start(cell: int, bits: int = _BITS) -> int:
    """First number of a cell."""
    octave, place = divmod(cell, 1 << bits - 1)
    return cell if octave < 2 else (place + (1 << bits - 1)) << octave - 1


def _middle(cell: int, bits: int = _BITS) -> float:
    """Of the whole numbers in a cell."""
    return (_start(cell, bits) + _start(cell + 1, bits) - 1) / 2
