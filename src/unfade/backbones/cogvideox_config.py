"""A CogVideoX model as data: its configurations, and the sizes and costs that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unfade.backbones.info import BackboneInfo
from unfade.diffusion.v_schedule import ZERO_SNR

# The one value of "ofs" that CogVideoX1.5 was trained and is used with.
OFS = 2.0


@dataclass(frozen=True, slots=True)
class CogVideoXConfig:
    """What a folder in diffusers' layout says about a CogVideoX model.

    Attributes:
        transformer, vae, scheduler: configurations of diffusers' `CogVideoXTransformer3DModel`,
            `AutoencoderKLCogVideoX` and of either of its schedulers.

    Raises:
        ValueError: the transformer takes neither the clip's latents nor those and an image's beside them, or has other
            positions than those of CogVideoX-5B-I2V (rotary and learned) or CogVideoX1.5 (rotary, pairs of latents).
    """

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    scheduler: Mapping[str, Any]

    def __post_init__(self) -> None:
        taken, given = self.transformer["in_channels"], self.transformer["out_channels"]
        channels = self.vae["latent_channels"]
        if taken not in (channels, 2 * channels) or given != channels:
            raise ValueError(
                f"the transformer takes {taken} and gives {given} channels where the latents have {channels}; neither "
                "an image-to-video nor a text-to-video model is like that"
            )
        learned = bool(self.transformer["use_learned_positional_embeddings"])
        pairs = self.transformer["patch_size_t"] is not None
        if not self.transformer["use_rotary_positional_embeddings"] or learned == pairs:
            raise ValueError("its positions are neither those of CogVideoX-5B-I2V nor of CogVideoX1.5")

    @property
    def sees_photo(self) -> bool:
        """Whether it is an image-to-video model, which is shown a photo's latents beside those of the clip."""
        return bool(self.transformer["in_channels"] == 2 * self.vae["latent_channels"])

    @property
    def latent_channels(self) -> int:
        """Of the latents."""
        return int(self.vae["latent_channels"])

    @property
    def stride(self) -> int:
        """Pixels to a place of the latents, along each side."""
        return 2 ** (len(self.vae["block_out_channels"]) - 1)

    @property
    def temporal_stride(self) -> int:
        """Frames to a latent after the first."""
        return int(self.vae["temporal_compression_ratio"])

    @property
    def size_multiple(self) -> int:
        """Sides of frames are multiples of this: the VAE's stride times the patch."""
        return self.stride * self.transformer["patch_size"]

    @property
    def only(self) -> tuple[int, int, int] | None:
        """(frames, height, width) where there is but one size, because the places in it were learned one by one."""
        if not self.transformer["use_learned_positional_embeddings"]:
            return None
        rows, columns = self.transformer["sample_height"], self.transformer["sample_width"]
        return self.transformer["sample_frames"], rows * self.stride, columns * self.stride

    @property
    def largest(self) -> tuple[int, int]:
        """(height, width) beyond which there are no positions."""
        return (
            self.transformer["sample_height"] * self.stride,
            self.transformer["sample_width"] * self.stride,
        )

    @property
    def frame_rule(self) -> tuple[int, int]:
        """(a, b): legal frame counts are a k + b; the VAE decodes odd numbers of latents only."""
        return (0, self.only[0]) if self.only else (2 * self.temporal_stride, 1)

    @property
    def text_tokens(self) -> int:
        """To which every prompt is cut or padded."""
        return int(self.transformer["max_text_seq_length"])

    @property
    def latent_scale(self) -> float:
        """What a clip's latents are multiplied with, in training and sampling."""
        return float(self.vae["scaling_factor"])

    @property
    def image_scale(self) -> float:
        """What the conditioning photo's latents are multiplied with, in training and sampling.

        CogVideoX1.5 divides by what it multiplies a clip's with (`invert_scale_latents`), a factor of 2.04 apart;
        training with one and sampling with the other shows as wrong colours.
        """
        return 1 / self.latent_scale if self.vae["invert_scale_latents"] else self.latent_scale

    def clip_latents(self, frames: int) -> int:
        """How many latents the VAE makes of so many frames."""
        return (frames - 1) // self.temporal_stride + 1

    def padding(self, frames: int) -> int:
        """How many copies of the first latent go in front of a clip's, so that latents can be taken in patches."""
        return -self.clip_latents(frames) % (self.transformer["patch_size_t"] or 1)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(channels, latents, height, width) of what is denoised for one clip, latents in front included.

        Raises:
            ValueError: the model can't have this size.
        """
        if self.only:
            if frames != self.only[0]:
                raise ValueError(f"frames must be {self.only[0]}, not {frames}")
            if (height, width) != self.only[1:]:
                raise ValueError(f"sides must be {self.only[2]}x{self.only[1]}, not {width}x{height}")
        every, first = self.frame_rule
        if not self.only and (frames < first or (frames - first) % every):
            raise ValueError(f"frames must be {every}k + {first}, not {frames}")
        if height < 1 or width < 1 or height % self.size_multiple or width % self.size_multiple:
            raise ValueError(f"sides must be multiples of {self.size_multiple}, not {width}x{height}")
        latents = self.clip_latents(frames) + self.padding(frames)
        return self.vae["latent_channels"], latents, height // self.stride, width // self.stride

    def tokens(self, frames: int, height: int, width: int) -> int:
        """How many tokens the transformer sees for one clip, those of the prompt left out.

        Raises:
            ValueError: the model can't have this size, or not all of it at once.
        """
        _, latents, rows, columns = self.latent_shape(frames, height, width)
        if height > self.largest[0] or width > self.largest[1]:
            most = f"{self.largest[1]}x{self.largest[0]}"
            raise ValueError(f"at most {most} can be seen at once, not {width}x{height}")
        patch = self.transformer["patch_size"]
        return latents // (self.transformer["patch_size_t"] or 1) * (rows // patch) * (columns // patch)

    def forward_flops(self, tokens: int, text_tokens: int | None = None) -> float:
        """Floating point operations of one evaluation for one sample: two for each multiplication and addition.

        Counts matrix products only (linear layers, patches, attention).

        Args:
            tokens: of the clip.
            text_tokens: of the prompt; as many as the model takes by default.
        """
        c = self.transformer
        text = self.text_tokens if text_tokens is None else text_tokens
        dim, times = c["num_attention_heads"] * c["attention_head_dim"], c["time_embed_dim"]
        volume = c["patch_size"] ** 2 * (c["patch_size_t"] or 1)
        seen = tokens + text
        block = 12 * dim * dim * seen + 2 * dim * seen * seen + 12 * times * dim
        ends = (c["in_channels"] + c["out_channels"]) * volume * dim * tokens
        offset = 2 * (c["ofs_embed_dim"] or 0) ** 2
        embedding = dim * times + times * times + 2 * times * dim + offset
        return 2.0 * (c["num_layers"] * block + ends + c["text_embed_dim"] * dim * text + embedding)


_TRANSFORMER: Mapping[str, Any] = {
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "in_channels": 32,
    "out_channels": 16,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "time_embed_dim": 512,
    "ofs_embed_dim": None,
    "text_embed_dim": 4096,
    "num_layers": 42,
    "dropout": 0.0,
    "attention_bias": True,
    "sample_width": 90,
    "sample_height": 60,
    "sample_frames": 49,
    "patch_size": 2,
    "patch_size_t": None,
    "temporal_compression_ratio": 4,
    "max_text_seq_length": 226,
    "activation_fn": "gelu-approximate",
    "timestep_activation_fn": "silu",
    "norm_elementwise_affine": True,
    "norm_eps": 1e-5,
    "spatial_interpolation_scale": 1.875,
    "temporal_interpolation_scale": 1.0,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
    "patch_bias": True,
}
_VAE: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["CogVideoXDownBlock3D"] * 4,
    "up_block_types": ["CogVideoXUpBlock3D"] * 4,
    "block_out_channels": [128, 256, 256, 512],
    "latent_channels": 16,
    "layers_per_block": 3,
    "act_fn": "silu",
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "temporal_compression_ratio": 4,
    "sample_height": 480,
    "sample_width": 720,
    "scaling_factor": 0.7,
    "invert_scale_latents": False,
}

# THUDM/CogVideoX-5b-I2V and THUDM/CogVideoX1.5-5B-I2V. Enough to build the models without their weights; whatever is
# loaded brings its own.
I2V_5B = CogVideoXConfig(_TRANSFORMER, _VAE, ZERO_SNR)
I2V_1_5_5B = CogVideoXConfig(
    {
        **_TRANSFORMER,
        "ofs_embed_dim": 512,
        "patch_size_t": 2,
        "sample_width": 300,
        "sample_height": 300,
        "sample_frames": 81,
        "use_learned_positional_embeddings": False,
        "patch_bias": False,
    },
    {**_VAE, "sample_height": 300, "sample_width": 300, "invert_scale_latents": True},
    ZERO_SNR,
)
# THUDM/CogVideoX1.5-5B, which is told by text alone: what Vivid-VR controls.
T2V_1_5_5B = CogVideoXConfig(
    {**I2V_1_5_5B.transformer, "in_channels": 16, "ofs_embed_dim": None},
    {**I2V_1_5_5B.vae, "invert_scale_latents": False},
    ZERO_SNR,
)

_LICENCE = "CogVideoX licence (registration for commercial use)"
COGVIDEOX_1_5 = BackboneInfo(
    name="cogvideox1.5-5b-i2v",
    prediction="v",
    size_multiple=I2V_1_5_5B.size_multiple,
    frame_rule=I2V_1_5_5B.frame_rule,
    halo=0,
    parameters=5_571_594_880,
    licence=_LICENCE,
    weights="THUDM/CogVideoX1.5-5B-I2V",
    space="latents",
    steps=50,
    aliases=("progressive",),
    advice="It generates video and restores nothing by itself: train an adapter first, or name one with --adapter.",
)
COGVIDEOX_1_5_T2V = BackboneInfo(
    name="cogvideox1.5-5b",
    prediction="v",
    size_multiple=T2V_1_5_5B.size_multiple,
    frame_rule=T2V_1_5_5B.frame_rule,
    halo=0,
    parameters=5_570_676_352,
    licence=_LICENCE,
    weights="THUDM/CogVideoX1.5-5B",
    space="latents",
    steps=50,
    aliases=("vivid-vr",),
    advice="It generates video from text and restores footage only under Vivid-VR's control: name it with --control.",
)
COGVIDEOX_1_0 = BackboneInfo(
    name="cogvideox-5b-i2v",
    prediction="v",
    size_multiple=I2V_5B.size_multiple,
    frame_rule=I2V_5B.frame_rule,
    halo=0,
    parameters=5_570_479_680,
    licence=_LICENCE,
    weights="THUDM/CogVideoX-5b-I2V",
    space="latents",
    steps=50,
    advice=(
        "It has one size only, 49 frames of 720x480, and restores nothing by itself; cogvideox1.5-5b-i2v is the better "
        "start."
    ),
)

# The same builds, thousands of times smaller: for tests and for trying a chain of commands on any CPU.
_SMALL_TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 8,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 24,
    "num_layers": 2,
    "max_text_seq_length": 12,
}
_SMALL_VAE = {
    "block_out_channels": [8, 8, 8, 8],
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
}
SMALL_1_5 = CogVideoXConfig(
    {**I2V_1_5_5B.transformer, **_SMALL_TRANSFORMER, "ofs_embed_dim": 16},
    {**I2V_1_5_5B.vae, **_SMALL_VAE},
    ZERO_SNR,
)
SMALL_T2V = CogVideoXConfig(
    {**SMALL_1_5.transformer, "in_channels": 4, "ofs_embed_dim": None},
    {**SMALL_1_5.vae, "invert_scale_latents": False},
    ZERO_SNR,
)
SMALL_1_0 = CogVideoXConfig(
    {**_TRANSFORMER, **_SMALL_TRANSFORMER, "sample_width": 12, "sample_height": 8, "sample_frames": 9},
    {**_VAE, **_SMALL_VAE},
    ZERO_SNR,
)
