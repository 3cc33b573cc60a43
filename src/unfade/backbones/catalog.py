"""Every backbone there is, as a table one can read from top to bottom."""

from unfade.backbones.info import BackboneInfo
from unfade.backbones.tiny import SIZE_MULTIPLE, TinyConfig

CATALOG: dict[str, BackboneInfo] = {
    "tiny": BackboneInfo(
        name="tiny",
        prediction="clean",
        size_multiple=SIZE_MULTIPLE,
        frame_rule=(1, 1),
        halo=TinyConfig().halo,
        parameters=2_543_221,
        licence="Apache-2.0; trained on photos for research use (see the model card)",
        weights="weights/tiny.safetensors",
    ),
}
