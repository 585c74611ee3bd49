from __future__ import annotations

from tests.support.chutes import chutes, fake_chutes

__all__ = ["chutes", "fake_chutes"]
