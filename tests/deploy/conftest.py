from __future__ import annotations

from tests.support.chutes import chutes, stand_in

__all__ = ["chutes", "stand_in"]
