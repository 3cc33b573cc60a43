"""Which system restores with which family of models."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.video import VideoConfig
from unfade.restore.progressive import ProgressiveSettings, progressive_settings
from unfade.restore.system import LatentSettings
from unfade.restore.vbridge import VBridgeSettings, vbridge_settings
from unfade.restore.vividvr import VividSettings

# Every setting of any system by name.
KNOWN = frozenset(
    field.name for kind in (VBridgeSettings, ProgressiveSettings, VividSettings) for field in fields(kind)
)


def settings_for(
    config: VideoConfig, preset: str = "paper", changes: Mapping[str, Any] | None = None
) -> LatentSettings:
    """The settings of the system that restores with a model: Progressive on CogVideoX, V-Bridge on Wan.

    Raises:
        UsageError: the preset or a name is unknown to that system, or a value out of range.
    """
    if isinstance(config, CogVideoXConfig):
        return progressive_settings(config, preset, changes)
    return vbridge_settings(preset, changes)
