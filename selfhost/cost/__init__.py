"""What ways to serve a volume cost: cash by month, break-evens, and what would flip the choice. No I/O in here."""

from __future__ import annotations
