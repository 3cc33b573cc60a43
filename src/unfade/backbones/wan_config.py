"""A Wan model as data: its configurations, and the sizes and costs that follow from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unfade.backbones.info import BackboneInfo
from unfade.diffusion.flow import UNIPC


@dataclass(frozen=True, slots=True)
class WanConfig:
    """What a folder in diffusers' layout says about a Wan model.

    Attributes:
        transformer, vae, scheduler: configurations of diffusers' `WanTransformer3DModel`, `AutoencoderKLWan` and
            `UniPCMultistepScheduler`.

    Raises:
        ValueError: the transformer does not take and give the VAE's latents as they are (as the models do that
            get their first frame in extra channels).
    """

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    scheduler: Mapping[str, Any]

    def __post_init__(self) -> None:
        channels = (self.transformer["in_channels"], self.transformer["out_channels"], self.vae["z_dim"])
        if len(set(channels)) != 1:
            raise ValueError(
                f"the transformer takes {channels[0]} and gives {channels[1]} channels where the latents have "
                f"{channels[2]}; only models conditioned by a clean first latent fit (Wan2.2-TI2V-5B, Wan2.1-T2V)"
            )

    @property
    def latent_channels(self) -> int:
        """Of the latents."""
        return int(self.vae["z_dim"])

    @property
    def stride(self) -> int:
        """Pixels to a place of the latents, along each side."""
        return int(self.vae["scale_factor_spatial"])

    @property
    def temporal_stride(self) -> int:
        """Frames to a latent after the first."""
        return int(self.vae["scale_factor_temporal"])

    @property
    def size_multiple(self) -> int:
        """Sides of frames are multiples of this: the VAE's stride times the patch."""
        patch = self.transformer["patch_size"]
        return math.lcm(
            self.vae["scale_factor_spatial"] * patch[1], self.vae["scale_factor_spatial"] * patch[2]
        )

    @property
    def frame_rule(self) -> tuple[int, int]:
        """(a, b): legal frame counts are a k + b."""
        return self.vae["scale_factor_temporal"] * self.transformer["patch_size"][0], 1

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(channels, frames, height, width) of the latents of one clip.

        Raises:
            ValueError: the model can't have this size.
        """
        every, first = self.frame_rule
        if frames < first or (frames - first) % every:
            raise ValueError(f"frames must be {every}k + {first}, not {frames}")
        if height < 1 or width < 1 or height % self.size_multiple or width % self.size_multiple:
            raise ValueError(f"sides must be multiples of {self.size_multiple}, not {width}x{height}")
        stride = self.vae["scale_factor_spatial"]
        return (
            self.vae["z_dim"],
            (frames - 1) // self.vae["scale_factor_temporal"] + 1,
            height // stride,
            width // stride,
        )

    def tokens(self, frames: int, height: int, width: int) -> int:
        """How many tokens the transformer sees for one clip."""
        patch = self.transformer["patch_size"]
        latent = self.latent_shape(frames, height, width)[1:]
        return math.prod(side // size for side, size in zip(latent, patch, strict=True))

    def forward_flops(
        self, tokens: int, text_tokens: int = 512, times: int | None = None, remembered: bool = False
    ) -> float:
        """Floating point operations of one evaluation for one sample: two for each multiplication and addition.

        Counts matrix products only (linear layers, patches, attention).

        Args:
            tokens: of the clip.
            text_tokens: of the prompt.
            times: how many are embedded; one for each token unless told otherwise, as in diffusers.
            remembered: whether the prompt's embedding, keys and values are known already.
        """
        c = self.transformer
        dim = c["num_attention_heads"] * c["attention_head_dim"]
        volume = math.prod(c["patch_size"])
        linear = (
            6 * dim * dim + 2 * dim * c["ffn_dim"]
        ) * tokens  # q k v o, q o of the text's, two of the FFN
        attention = 2 * dim * tokens * (tokens + text_tokens)
        asked = 0 if remembered else text_tokens
        text = 2 * dim * dim * asked
        embedding = (c["freq_dim"] * dim + dim * dim + 6 * dim * dim) * (tokens if times is None else times)
        ends = (c["in_channels"] + c["out_channels"]) * volume * dim * tokens
        sentence = (c["text_dim"] * dim + dim * dim) * asked
        return 2.0 * (c["num_layers"] * (linear + attention + text) + embedding + ends + sentence)


# Statistics of the published VAE's latents, channel by channel.
# fmt: off
_MEAN = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
]
_STD = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
]
# fmt: on

# Wan-AI/Wan2.2-TI2V-5B-Diffusers. Enough to build the model without its weights; whatever is loaded brings its own.
TI2V_5B = WanConfig(
    transformer={
        "patch_size": (1, 2, 2),
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "in_channels": 48,
        "out_channels": 48,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": 14336,
        "num_layers": 30,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "image_dim": None,
        "added_kv_proj_dim": None,
        "rope_max_seq_len": 1024,
    },
    vae={
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_scales": [],
        "temperal_downsample": [False, True, True],
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_temporal": 4,
        "scale_factor_spatial": 16,
        "latents_mean": _MEAN,
        "latents_std": _STD,
    },
    scheduler=UNIPC,
)

WAN_TI2V_5B = BackboneInfo(
    name="wan2.2-ti2v-5b",
    prediction="velocity",
    size_multiple=TI2V_5B.size_multiple,
    frame_rule=TI2V_5B.frame_rule,
    halo=0,
    parameters=4_999_787_712,
    licence="Apache-2.0",
    weights="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    space="latents",
    steps=50,
    aliases=("vbridge",),
    advice="It generates video and restores nothing by itself: train an adapter first (unfade train vbridge).",
)

# The same build, thousands of times smaller: for tests and for trying a chain of commands on any CPU.
SMALL = WanConfig(
    transformer={
        **TI2V_5B.transformer,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 8,
        "out_channels": 8,
        "text_dim": 24,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 2,
    },
    vae={
        **TI2V_5B.vae,
        "base_dim": 8,
        "decoder_base_dim": 8,
        "z_dim": 8,
        "num_res_blocks": 1,
        "latents_mean": [-0.2, 0.1, 0.0, -0.3, 0.2, 0.05, -0.1, 0.15],
        "latents_std": [0.5, 1.0, 0.6, 1.2, 0.8, 0.9, 0.7, 1.1],
    },
    scheduler=UNIPC,
)
