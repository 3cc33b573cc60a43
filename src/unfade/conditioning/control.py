"""Vivid-VR's control of a frozen CogVideoX: what is trained, how it begins, and how both answer together."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unfade.backbones.cogvideox_denoiser import rotary_of
from unfade.conditioning.connectors import KINDS, ConnectorKind, connector, zeroed
from unfade.conditioning.feature_projector import feature_projector, projected

if TYPE_CHECKING:
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """What control is made of.

    Attributes:
        blocks: of the ControlNet, which are copies of the transformer's first ones. With 42 blocks and 6 of these,
            transformer blocks 0 to 6 listen to the first, and so on: the released code's rule. The paper's text says
            every sixth, which would be 7.
        connectors: kind of what carries tokens over.
        bottleneck: of the connectors.
        projector: whether the degraded footage's latents go through the feature projector.
        width, groups: of the projector.

    Raises:
        ValueError: a value is out of range.
    """

    blocks: int = 6
    connectors: ConnectorKind = "dual"
    bottleneck: int = 512
    projector: bool = True
    width: int = 320
    groups: int = 16

    def __post_init__(self) -> None:
        for name in ("blocks", "bottleneck", "width", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.connectors not in KINDS:
            raise ValueError(f"connectors must be one of {', '.join(KINDS)}, not {self.connectors!r}")

    @staticmethod
    def of(told: Mapping[str, Any]) -> "ControlSettings":
        """Settings from what `told` gave.

        Raises:
            ValueError: a value is out of range, or a name unknown.
        """
        try:
            return ControlSettings(**told)
        except TypeError as error:
            raise ValueError(f"settings of control are not these: {', '.join(sorted(told))}") from error

    def told(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)


def _patch_embed(config: Any) -> nn.Module:
    from diffusers.models.embeddings import CogVideoXPatchEmbed

    return CogVideoXPatchEmbed(
        patch_size=config["patch_size"],
        patch_size_t=config["patch_size_t"],
        in_channels=config["in_channels"],
        embed_dim=_width(config),
        text_embed_dim=config["text_embed_dim"],
        bias=config["patch_bias"],
        use_positional_embeddings=False,
        use_learned_positional_embeddings=False,
    )


def _width(config: Any) -> int:
    return int(config["num_attention_heads"] * config["attention_head_dim"])


def _projector(config: Any, settings: ControlSettings) -> nn.ModuleList:
    if not settings.projector:
        return nn.ModuleList()
    return feature_projector(config["in_channels"], config["time_embed_dim"], settings.width, settings.groups)


class _Injecting(nn.Module):
    """What both sides have to take degraded footage in: projected, cut into tokens, added from zero on.

    The embedding brings its own mapping of the text, so it shifts the text's tokens as well.
    """

    def __init__(self, config: Any, settings: ControlSettings) -> None:
        super().__init__()
        self.control_feat_proj = _projector(config, settings)
        self.control_patch_embed = zeroed(_patch_embed(config))

    def _added(self, text: Tensor, low: Tensor, time: Tensor) -> Tensor:
        return self.control_patch_embed(text, projected(self.control_feat_proj, low, time).transpose(1, 2))


class Injection(_Injecting):
    """Degraded footage on its way into the transformer's patch embedding.

    Args:
        config: of the transformer.
        settings: of control.
    """

    def forward(self, text: Tensor, low: Tensor, time: Tensor) -> Tensor:
        """Tokens `[B, L + N, width]` to be added, of text `[B, L, D]` and latents `[B, z, k, h, w]`."""
        return self._added(text, low, time)


class ControlNet(_Injecting):
    """The transformer's first blocks once more, told of the degraded footage; gives the clip's tokens after each.

    Tensors are named as in the released checkpoint.

    Args:
        config: of the transformer.
        settings: of control.
    """

    def __init__(self, config: Any, settings: ControlSettings) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps
        from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock

        super().__init__(config, settings)
        width = _width(config)
        self.time_proj = Timesteps(width, config["flip_sin_to_cos"], config["freq_shift"])
        self.time_embedding = TimestepEmbedding(
            width, config["time_embed_dim"], config["timestep_activation_fn"]
        )
        self.patch_embed = _patch_embed(config)
        self.transformer_blocks = nn.ModuleList(
            CogVideoXBlock(
                dim=width,
                num_attention_heads=config["num_attention_heads"],
                attention_head_dim=config["attention_head_dim"],
                time_embed_dim=config["time_embed_dim"],
                activation_fn=config["activation_fn"],
                attention_bias=config["attention_bias"],
                norm_elementwise_affine=config["norm_elementwise_affine"],
                norm_eps=config["norm_eps"],
            )
            for _ in range(settings.blocks)
        )
        self.gradient_checkpointing = False

    def begin_as(self, transformer: "CogVideoXTransformer3DModel") -> None:
        """Takes over the patch and time embeddings and the first blocks."""
        blocks = list(transformer.transformer_blocks)[: len(self.transformer_blocks)]
        pairs = [
            (self.patch_embed, transformer.patch_embed),
            (self.time_embedding, transformer.time_embedding),
            *zip(self.transformer_blocks, blocks, strict=True),
        ]
        for mine, theirs in pairs:
            mine.load_state_dict(theirs.state_dict())

    def forward(
        self, x: Tensor, low: Tensor, text: Tensor, times: Tensor, rotary: Rotary
    ) -> Iterator[Tensor]:
        """Gives `[B, N, width]` after each block, evaluated when it is asked for; arguments as for `Controlled`."""
        time = self.time_embedding(self.time_proj(times).to(x.dtype))
        tokens = self.patch_embed(text, x.transpose(1, 2)) + self._added(text, low, time)
        length = text.shape[1]
        words, clip = tokens[:, :length], tokens[:, length:]
        del tokens
        for block in self.transformer_blocks:
            clip, words = _passed(block, clip, words, time, rotary, self.gradient_checkpointing)
            yield clip


class Control(nn.Module):
    """All that Vivid-VR trains: the ControlNet, the injection into the transformer, and a connector for each block.

    Args:
        config: of the transformer, diffusers' names.
        settings: what it is made of.

    Raises:
        ValueError: it does not fit the transformer.
    """

    def __init__(self, config: Any, settings: ControlSettings = ControlSettings()) -> None:
        super().__init__()
        layers = config["num_layers"]
        if settings.blocks > layers:
            raise ValueError(f"{settings.blocks} blocks of control are more than the transformer's {layers}")
        every = math.ceil(layers / settings.blocks)
        if math.ceil(layers / every) != settings.blocks:
            raise ValueError(
                f"{layers} blocks of the transformer don't listen to all of {settings.blocks} blocks of control; "
                "choose a number that divides them evenly"
            )
        if config["ofs_embed_dim"] is not None:
            raise ValueError("control is for text-to-video models; this one sees a photo")
        self.settings = settings
        self.controlnet = ControlNet(config, settings)
        self.injection = Injection(config, settings)
        self.connectors = nn.ModuleList(
            connector(_width(config), config["num_attention_heads"], settings.bottleneck, settings.connectors)
            for _ in range(layers)
        )
        self.every = every

    @classmethod
    def beginning(
        cls, transformer: "CogVideoXTransformer3DModel", settings: ControlSettings = ControlSettings()
    ) -> Self:
        """Control that changes nothing yet, on a transformer."""
        reference = next(transformer.parameters())
        with torch.device(reference.device):
            control = cls(transformer.config, settings)
        control.controlnet.begin_as(transformer)
        return control.to(reference.dtype)


class Controlled(nn.Module):
    """A frozen transformer and its control, answering as one; the transformer's class and weights stay as they are.

    Attributes:
        transformer: diffusers' `CogVideoXTransformer3DModel` of a text-to-video model.
        control: what is trained.
    """

    # Which modules are spread one by one where a model is spread over GPUs.
    _no_split_modules = ("CogVideoXBlock",)

    def __init__(self, transformer: "CogVideoXTransformer3DModel", control: Control) -> None:
        super().__init__()
        self.transformer = transformer.requires_grad_(False)
        self.control = control

    def checkpointing(self, on: bool = True) -> None:
        """Whether blocks are evaluated again in the backward pass instead of being kept."""
        self.transformer.gradient_checkpointing = on
        self.control.controlnet.gradient_checkpointing = on

    def forward(
        self, x: Tensor, low: Tensor, text: Tensor, times: Tensor, rotary: Rotary | None = None
    ) -> Tensor:
        """The prediction of v.

        Args:
            x: noisy latents, that in front included, `[B, z, k, h, w]`.
            low: latents of the degraded footage, without noise, of the same shape.
            text: embeddings of the prompts, `[B, L, D]`.
            times: diffusion time of each sample, `[B]`, 0 to 999.
            rotary: positions; made for this size if None.

        Returns:
            `[B, z, k, h, w]`.

        Source: Vivid-VR (arXiv 2508.14483, section 3.2) and its released inference code.
        """
        base, control = self.transformer, self.control
        config: Any = base.config
        rotary = rotary or rotary_of(config, x.shape[2], x.shape[3], x.shape[4], x.device)
        answers = control.controlnet(x, low, text, times, rotary)
        time = base.time_embedding(base.time_proj(times).to(x.dtype))
        tokens = base.patch_embed(text, x.transpose(1, 2)) + control.injection(text, low, time)
        length = text.shape[1]
        words, clip = tokens[:, :length], tokens[:, length:]
        # Each is several hundred megabytes at full size.
        del tokens
        told = clip
        for index, (block, join) in enumerate(zip(base.transformer_blocks, control.connectors, strict=True)):
            if index % control.every == 0:
                told = next(answers)
            clip, words = _passed(block, clip, words, time, rotary, base.gradient_checkpointing)
            clip = join(clip, told)
        clip = base.proj_out(base.norm_out(base.norm_final(clip), temb=time))
        return _unpatched(clip, config, x)


def _passed(
    block: nn.Module, clip: Tensor, words: Tensor, time: Tensor, rotary: Rotary, again: bool
) -> tuple[Tensor, Tensor]:
    if again and torch.is_grad_enabled():
        return checkpoint(block, clip, words, time, rotary, use_reentrant=False)  # type: ignore[return-value]
    return block(hidden_states=clip, encoder_hidden_states=words, temb=time, image_rotary_emb=rotary)


def _unpatched(tokens: Tensor, config: Any, x: Tensor) -> Tensor:
    """Tokens `[B, N, z * volume]` laid out as the latents `x`."""
    batch, _, latents, height, width = x.shape
    side, depth = config["patch_size"], config["patch_size_t"] or 1
    shape = (batch, latents // depth, height // side, width // side, -1, depth, side, side)
    return tokens.reshape(shape).permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
