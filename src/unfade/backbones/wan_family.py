"""Wan's other sizes, as data: those that V-Bridge's way can be trained on, and those it can't."""

from unfade.backbones.info import BackboneInfo
from unfade.backbones.wan_config import TI2V_5B, WanConfig
from unfade.diffusion.flow import UNIPC

# Statistics of Wan2.1's latents, channel by channel.
# fmt: off
_MEAN = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
]
_STD = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
]
# fmt: on
_VAE = {
    **TI2V_5B.vae,
    "base_dim": 96,
    "decoder_base_dim": None,
    "z_dim": 16,
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
    "scale_factor_spatial": 8,
    "latents_mean": _MEAN,
    "latents_std": _STD,
}
_LATENTS = {**TI2V_5B.transformer, "in_channels": 16, "out_channels": 16}

# Wan-AI/Wan2.1-T2V-1.3B-Diffusers and Wan-AI/Wan2.1-T2V-14B-Diffusers.
T2V_1_3B = WanConfig({**_LATENTS, "num_attention_heads": 12, "ffn_dim": 8960}, _VAE, UNIPC)
T2V_14B = WanConfig({**_LATENTS, "num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}, _VAE, UNIPC)

_ADVICE = (
    "It was never shown a clean first frame, so it restores nothing before a long training (unfade train vbridge); "
    "Wan2.2-TI2V-5B is the better start."
)
WAN_T2V_1_3B = BackboneInfo(
    name="wan2.1-t2v-1.3b",
    prediction="velocity",
    size_multiple=T2V_1_3B.size_multiple,
    frame_rule=T2V_1_3B.frame_rule,
    halo=0,
    parameters=1_418_996_800,
    licence="Apache-2.0",
    weights="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    space="latents",
    steps=50,
    advice=_ADVICE,
)
WAN_T2V_14B = BackboneInfo(
    name="wan2.1-t2v-14b",
    prediction="velocity",
    size_multiple=T2V_14B.size_multiple,
    frame_rule=T2V_14B.frame_rule,
    halo=0,
    parameters=14_288_491_584,
    licence="Apache-2.0",
    weights="Wan-AI/Wan2.1-T2V-14B-Diffusers",
    space="latents",
    steps=50,
    advice=_ADVICE,
)

_EXTRA = "it gets its first frame in extra channels and not as a clean first latent"
_TWO = "it is two transformers of 14B one after the other, of which each would have to be trained"
# Names somebody may well try, and why they can't be used.
REFUSED = {
    "wan2.1-i2v-14b-480p": _EXTRA,
    "wan2.1-i2v-14b-720p": _EXTRA,
    "wan2.2-i2v-a14b": f"{_EXTRA}, and {_TWO}",
    "wan2.2-t2v-a14b": _TWO,
}
