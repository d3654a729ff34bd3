"""What a model's licence lets a user do: declared licence + intended use -> Verdict with obligations and a source.

Not legal advice. What is not known is `unknown`, never permitted.
"""

from __future__ import annotations

from selfhost.licence.judge import judge, strictness
from selfhost.licence.types import (
    USES,
    Declared,
    Gate,
    Openness,
    Permission,
    Use,
    Verdict,
    Verification,
)
from selfhost.licence.words import OPENNESS, accept_id, brief, openness_sentence, require, sentence

__all__ = [
    "OPENNESS",
    "USES",
    "Declared",
    "Gate",
    "Openness",
    "Permission",
    "Use",
    "Verdict",
    "Verification",
    "accept_id",
    "brief",
    "judge",
    "openness_sentence",
    "require",
    "sentence",
    "strictness",
]
