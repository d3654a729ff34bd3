"""`python -m selfhost` does what `selfhost` does."""

from __future__ import annotations

from selfhost.cli import main

main()
