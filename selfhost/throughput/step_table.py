"""StepClock -> the same times from a table that fills as it is read, for a simulation that asks millions of times.

Between two knots a straight line stands for the clock: over the context of decoding sequences at every number of them,
and over the prompt tokens of a step. A step that carries prompts is the step without them and what they add.
"""

from __future__ import annotations

from collections.abc import Callable

from selfhost.throughput.types import StepClock

_PROMPT_SHIFT = 6  # knots every 64 prompt tokens: the Ours: a clock bends little within them
_CONTEXT_KNOTS_SHIFT = 6  # at least 64 knots up to the longest context
_BEFORE_SHIFT = 10  # knots every 1,024 tokens before a chunk
KEY = 32  # bits of a key under the number of sequences
_CELL = (1 << KEY) - 1
_EXACT_BITS = 5  # numbers of sequences beside prompts are told apart to 1 in 16

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
        chunk_tokens: most prompt tokens of a step.
        longest_tokens: longest context that will be asked for.
        typical_tokens: context beside which prompts are timed.
        stages: pipeline stages, each with a batch of its own under way.

    Attributes:
        decoding: of a step without prompts, by `sequences << KEY | context >> shift`, over the mean context.
        shift: how many bits of a context one line reaches.
    """

    __slots__ = ("_at", "_before", "_clock", "_prompts", "_span", "_stages", "_typical", "decoding", "shift")

    def __init__(
        self,
        clock: StepClock,
        *,
        chunk_tokens: int,
        longest_tokens: int,
        typical_tokens: float,
        stages: int = 1,
    ) -> None:
        self._clock, self._stages, self._typical = clock, stages, typical_tokens
        self.shift = max(_CONTEXT_KNOTS_SHIFT, longest_tokens.bit_length() - _CONTEXT_KNOTS_SHIFT)
        self._span = max(1, chunk_tokens // 2)
        self.decoding = Lines(self._decode_line)
        self._prompts = Lines(self._prompt_line)
        self._before = Lines(lambda cell: _line(cell, _BEFORE_SHIFT, self._before_knot))
        self._at: dict[tuple[int, int], float] = {}

    def decode(self, running: int, context_tokens: float) -> float:
        """Seconds of a step that gives a token to each of so many sequences with that mean context."""
        start, slope = self.decoding[running << KEY | int(context_tokens) >> self.shift]
        return start + slope * context_tokens

    def prompts(self, running: int, tokens: int, pairs: float) -> float:
        """Seconds that prompts add to a step.

        Args:
            running: sequences that decode in it.
            tokens: of prompts.
            pairs: sum over prompts of their tokens times the mean number of tokens before each of these.
        """
        spare = running.bit_length() - _EXACT_BITS
        if spare > 0:
            running = running >> spare << spare
        start, slope = self._prompts[running << KEY | tokens >> _PROMPT_SHIFT]
        seconds = start + slope * tokens
        own = tokens * tokens * 0.5  # pairs of one prompt with nothing before it, which the line is of
        if pairs != own:
            seconds += tokens * self._of_earlier((pairs - own) / tokens)
        return max(0.0, seconds)

    def _decode_line(self, key: int) -> Line:
        running = key >> KEY
        return _line(key & _CELL, self.shift, lambda tokens: self._decode_knot(running, tokens))

    def _decode_knot(self, running: int, tokens: int) -> float:
        found = self._at.get((running, tokens))
        if found is None:
            found = self._at[running, tokens] = self._clock.step_seconds(self._at_once(running), tokens)
        return found

    def _at_once(self, running: int) -> float:
        return max(1.0, running / self._stages) if running else 0.0

    def _prompt_line(self, key: int) -> Line:
        running = key >> KEY
        at_once = self._at_once(running)
        context = self._typical if running else 0.0
        without = self._clock.step_seconds(at_once, context) if running else 0.0

        def added(tokens: int) -> float:
            if not tokens and running:
                return 0.0
            return self._clock.step_seconds(at_once, context, max(1, tokens), 0.0) - without

        return _line(key & _CELL, _PROMPT_SHIFT, added)

    def _of_earlier(self, tokens_before: float) -> float:
        """Seconds that a prompt token takes longer for the tokens before its chunk.

        Several prompts in a step see less of each other than one as long as all of them: then it is below zero, along
        the line at zero.
        """
        start, slope = self._before[max(0, int(tokens_before) >> _BEFORE_SHIFT)]
        return start + slope * tokens_before

    def _before_knot(self, tokens: int) -> float:
        span, clock = self._span, self._clock
        longer = clock.step_seconds(1.0, self._typical, span, tokens)
        return (longer - clock.step_seconds(1.0, self._typical, span, 0.0)) / span


def _line(cell: int, shift: int, at: Callable[[int], float]) -> Line:
    """The straight line between a knot and the next."""
    start, width = cell << shift, 1 << shift
    low = at(start)
    slope = (at(start + width) - low) / width
    return low - slope * start, slope
