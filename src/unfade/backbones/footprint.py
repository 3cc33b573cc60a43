"""What a video model needs for one clip on one canvas: the figures that memory plans and predictions are made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

# Sides in pixels of the tiles that a VAE may decode in.
TILES = (1024, 512, 256)

# Only matrices inside the blocks are stored in fp8; small layers around them decide too much.
FP8_SKIPPED = (
    "patch_embed",
    "condition_embedder",
    "time_embedding",
    "ofs_embedding",
    "norm",
    "^proj_out$",
    "lora",
    "control_feat_proj",
)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes and floating point operations for one clip on one canvas.

    Attributes:
        transformer, vae: weights in their precisions.
        block, around: of the transformer's weights, one block and everything outside the blocks.
        fp8: the transformer's weights with its blocks' matrices in 8 bits.
        encode, denoise, decode: the most that is alive besides weights while one frame (or, of a model that sees the
            whole clip, its chunks) is encoded, while the transformer is evaluated once, while the clip is decoded chunk
            by chunk.
        decode_tiled: the same for decoding in tiles, by their side in pixels.
        remembered: keys and values of the prompts, held while sampling.
        encode_flops, forward_flops, decode_flops: of one frame, one evaluation, the clip.
        tile_flops: of decoding in tiles, by their side.
        encode_tiled: as `encode`, where that is tiled as well.
    """

    transformer: int
    vae: int
    block: int
    around: int
    fp8: int
    encode: int
    denoise: int
    decode: int
    decode_tiled: dict[int, int]
    remembered: int
    encode_flops: float
    forward_flops: float
    decode_flops: float
    tile_flops: dict[int, float]
    encode_tiled: Mapping[int, int] = field(default_factory=dict[int, int])


def bytes_of(module: nn.Module) -> int:
    """Of a module's parameters and buffers in their precisions."""
    return sum(one.numel() * one.itemsize for one in (*module.parameters(), *module.buffers()))


def saved_by_fp8(block: nn.Module) -> int:
    """Bytes that one of a transformer's blocks loses when its matrices are stored in 8 bits."""
    return sum(
        sum(one.numel() * (one.itemsize - 1) for one in layer.parameters())
        for name, layer in block.named_modules()
        if isinstance(layer, nn.Linear) and "norm" not in name
    )
