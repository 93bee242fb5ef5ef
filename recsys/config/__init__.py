"""Configuration: one frozen model per stage, one TOML file for all of them."""

from recsys.config.configuration import (
    Configuration,
    GatesConfig,
    Profile,
    WindowsConfig,
    load_configuration,
    profile,
)
from recsys.config.ranking import (
    LabelGrades,
    PageConfig,
    RankerConfig,
    RankerObjective,
    RetrievalConfig,
)
from recsys.config.text import (
    PACKAGED_MINILM,
    BiEncoderConfig,
    CrossEncoderConfig,
    NegativesConfig,
    TextConfig,
)

__all__ = [
    "PACKAGED_MINILM",
    "BiEncoderConfig",
    "Configuration",
    "CrossEncoderConfig",
    "GatesConfig",
    "LabelGrades",
    "NegativesConfig",
    "PageConfig",
    "Profile",
    "RankerConfig",
    "RankerObjective",
    "RetrievalConfig",
    "TextConfig",
    "WindowsConfig",
    "load_configuration",
    "profile",
]
