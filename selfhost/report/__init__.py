"""A decision as one page for a meeting: HTML, Markdown or PDF, in English or Chinese, with charts and every source."""

from __future__ import annotations
