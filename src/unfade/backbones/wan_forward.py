"""Wan's forward pass where only two times exist and the prompt was seen before: the same answer for less.

diffusers embeds, projects and adds one row of modulation for every token, and projects the prompt's keys and values
again at every step. Restoring has two times (0 for the first latent, t for the rest) and one prompt.

The time is embedded in fp32 whatever the arithmetic around it is, as Wan was trained and as it restores.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

KEY = "unfade_two_times"


@dataclass(slots=True, eq=False)
class PromptMemory:
    """What a prompt alone decides, filled by the first evaluation.

    Attributes:
        text: the embedding as the blocks see it, `[B, L, D]`.
        pairs: keys and values of each cross-attention, `[B, L, heads, D / heads]`.
    """

    text: Tensor | None = None
    pairs: dict[nn.Module, tuple[Tensor, Tensor]] = field(
        default_factory=dict[nn.Module, tuple[Tensor, Tensor]]
    )


@dataclass(frozen=True, slots=True, eq=False)
class TwoTimes:
    """Says that the first `clean` tokens are at one time and all others at another.

    Attributes:
        clean: how many.
        memory: of the prompt, or None to compute everything again.
    """

    clean: int
    memory: PromptMemory | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Modulation:
    rows: Tensor  # [B, 2, 6, D]
    two: TwoTimes


def prepare(model: "WanTransformer3DModel") -> None:
    """Teaches a model `attention_kwargs={KEY: TwoTimes(...)}`; whoever calls it without that gets diffusers' own pass.

    Done once for each model, and before hooks are put on its blocks (offloading), which then wrap this pass.
    """
    if getattr(model, KEY, False):
        return
    model.forward = MethodType(_model_forward, model)  # type: ignore[method-assign]
    embedder = model.condition_embedder.time_embedder
    embedder.forward = MethodType(_exact_forward, embedder)
    for block in model.blocks:
        block.forward = MethodType(_block_forward, block)  # type: ignore[method-assign]
    setattr(model, KEY, True)


def _model_forward(
    model: Any,
    hidden_states: Tensor,
    timestep: Tensor,
    encoder_hidden_states: Tensor,
    encoder_hidden_states_image: Tensor | None = None,
    return_dict: bool = True,
    attention_kwargs: dict[str, Any] | None = None,
) -> Any:
    two: TwoTimes | None = (attention_kwargs or {}).get(KEY)
    if two is None or torch.is_grad_enabled():
        others = {name: value for name, value in (attention_kwargs or {}).items() if name != KEY}
        return type(model).forward(
            model,
            hidden_states=hidden_states,
            timestep=timestep,
            encoder_hidden_states=encoder_hidden_states,
            encoder_hidden_states_image=encoder_hidden_states_image,
            return_dict=return_dict,
            attention_kwargs=others or None,
        )
    grid = [side // size for side, size in zip(hidden_states.shape[2:], model.config.patch_size, strict=True)]
    rotary = model.rope(hidden_states)
    tokens = model.patch_embedding(hidden_states).flatten(2).transpose(1, 2).contiguous()
    embedded, rows = _times(model.condition_embedder, timestep[:, [0, -1]], encoder_hidden_states)
    text = _text(model.condition_embedder, encoder_hidden_states, two.memory)
    modulation = _Modulation(rows, two)
    for block in model.blocks:
        tokens = block(tokens, text, modulation, rotary)
    table = model.scale_shift_table.unsqueeze(0) + embedded.unsqueeze(2)
    shift, scale = table.to(tokens.device).unbind(2)
    tokens = _modulated(model.norm_out(tokens.float()), scale, shift, two.clean).type_as(tokens)
    pieces = model.proj_out(tokens).unflatten(1, grid).unflatten(4, (*model.config.patch_size, -1))
    sample = pieces.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
    if not return_dict:
        return (sample,)
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    return Transformer2DModelOutput(sample=sample)


def _exact_forward(embedder: Any, sample: Tensor) -> Tensor:
    """In the precision of its weights, which diffusers keeps in fp32, where autocast would take bf16 in training."""
    kind = sample.device.type
    # The meta device, where memory is predicted, knows no autocast.
    exact = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
    with exact:
        return type(embedder).forward(embedder, sample)


def _times(embedder: Any, times: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Both times `[B, 2]` embedded, `[B, 2, D]`, and projected, `[B, 2, 6, D]`."""
    waves = embedder.timesteps_proj(times.flatten()).unflatten(0, (-1, 2))
    kind = next(iter(embedder.time_embedder.parameters())).dtype
    embedded = embedder.time_embedder(waves.to(kind)).type_as(like)
    return embedded, embedder.time_proj(embedder.act_fn(embedded)).unflatten(2, (6, -1))


def _text(embedder: Any, text: Tensor, memory: PromptMemory | None) -> Tensor:
    known = memory.text if memory else None
    embedded: Tensor = embedder.text_embedder(text) if known is None else known
    if memory:
        memory.text = embedded
    return embedded


def _block_forward(
    block: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Any, rotary_emb: Any
) -> Tensor:
    if not isinstance(temb, _Modulation):
        return type(block).forward(block, hidden_states, encoder_hidden_states, temb, rotary_emb)
    clean = temb.two.clean
    rows = (block.scale_shift_table.unsqueeze(0) + temb.rows.float()).unbind(2)
    normed = _modulated(block.norm1(hidden_states.float()), rows[1], rows[0], clean).type_as(hidden_states)
    answer = _scaled(block.attn1(normed, None, None, rotary_emb).float(), rows[2], clean)
    hidden_states = answer.add_(hidden_states).type_as(hidden_states)
    normed = block.norm2(hidden_states.float()).type_as(hidden_states)
    hidden_states = hidden_states + _across(block.attn2, normed, encoder_hidden_states, temb.two.memory)
    normed = _modulated(block.norm3(hidden_states.float()), rows[4], rows[3], clean).type_as(hidden_states)
    answer = _scaled(block.ffn(normed).float(), rows[5], clean)
    return answer.add_(hidden_states).type_as(hidden_states)


def _across(attention: Any, hidden_states: Tensor, text: Tensor, memory: PromptMemory | None) -> Tensor:
    """Cross-attention to the prompt, whose keys and values are remembered."""
    if memory is None or attention.add_k_proj is not None or attention.fused_projections:
        return attention(hidden_states, text, None, None)
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    heads = (attention.heads, -1)
    if attention not in memory.pairs:
        key = attention.norm_k(attention.to_k(text)).unflatten(2, heads)
        memory.pairs[attention] = key, attention.to_v(text).unflatten(2, heads)
    query = attention.norm_q(attention.to_q(hidden_states)).unflatten(2, heads)
    answer = dispatch_attention_fn(
        query,
        *memory.pairs[attention],
        attn_mask=None,
        dropout_p=0.0,
        is_causal=False,
        backend=attention.processor._attention_backend,
        parallel_config=None,
    )
    return attention.to_out[1](attention.to_out[0](answer.flatten(2, 3).type_as(query)))


def _modulated(x: Tensor, scale: Tensor, shift: Tensor, clean: int) -> Tensor:
    """`x (1 + scale) + shift` with the first row for the first tokens; a norm's fresh answer is changed in place."""
    for row, part in enumerate((x[:, :clean], x[:, clean:])):
        part.mul_(1 + scale[:, row, None]).add_(shift[:, row, None])
    return x


def _scaled(x: Tensor, scale: Tensor, clean: int) -> Tensor:
    for row, part in enumerate((x[:, :clean], x[:, clean:])):
        part.mul_(scale[:, row, None])
    return x
