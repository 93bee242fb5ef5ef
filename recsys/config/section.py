"""What all sections of the configuration share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen; an unknown setting is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
