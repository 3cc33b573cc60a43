"""Every backbone there is, as a table one can read from top to bottom."""

from unfade.backbones.cogvideox_config import (
    COGVIDEOX_1_0,
    COGVIDEOX_1_5,
    COGVIDEOX_1_5_T2V,
    I2V_1_5_5B,
    I2V_5B,
    T2V_1_5_5B,
    CogVideoXConfig,
)
from unfade.backbones.info import BackboneInfo
from unfade.backbones.tiny import SIZE_MULTIPLE, TinyConfig
from unfade.backbones.wan_config import TI2V_5B as _TI2V_5B
from unfade.backbones.wan_config import WAN_TI2V_5B, WanConfig
from unfade.backbones.wan_family import T2V_1_3B, T2V_14B, WAN_T2V_1_3B, WAN_T2V_14B

CATALOG: dict[str, BackboneInfo] = {
    "tiny": BackboneInfo(
        name="tiny",
        prediction="clean",
        size_multiple=SIZE_MULTIPLE,
        frame_rule=(1, 1),
        halo=TinyConfig().halo,
        parameters=7_426_098,
        licence="Apache-2.0; trained on photos for research use (see the model card)",
        weights="weights/tiny.safetensors",
    ),
    WAN_TI2V_5B.name: WAN_TI2V_5B,
    WAN_T2V_1_3B.name: WAN_T2V_1_3B,
    WAN_T2V_14B.name: WAN_T2V_14B,
    COGVIDEOX_1_5.name: COGVIDEOX_1_5,
    COGVIDEOX_1_5_T2V.name: COGVIDEOX_1_5_T2V,
    COGVIDEOX_1_0.name: COGVIDEOX_1_0,
}

# What the folders of the catalog's video models say about themselves, for those who haven't downloaded them.
CONFIGS: dict[str, WanConfig | CogVideoXConfig] = {
    WAN_TI2V_5B.name: _TI2V_5B,
    WAN_T2V_1_3B.name: T2V_1_3B,
    WAN_T2V_14B.name: T2V_14B,
    COGVIDEOX_1_5.name: I2V_1_5_5B,
    COGVIDEOX_1_5_T2V.name: T2V_1_5_5B,
    COGVIDEOX_1_0.name: I2V_5B,
}


def find(name: str) -> BackboneInfo | None:
    """The backbone of that name, alias or hub id, however it is spelt; None if there is none."""
    wanted = name.lower()
    for info in CATALOG.values():
        if wanted in (info.name, *info.aliases) or (
            info.space == "latents" and wanted == info.weights.lower()
        ):
            return info
    return None
