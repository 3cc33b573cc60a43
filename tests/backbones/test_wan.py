"""The transformer's side: times for each token, and the published model on the meta device."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL, TI2V_5B, WAN_TI2V_5B, WanConfig
from unfade.backbones.wan_denoiser import WanCondition, WanDenoiser, token_times
from unfade.diffusion.guidance import Contrast, guided


@pytest.fixture(scope="module")
def full() -> Wan:
    return build_wan(TI2V_5B, "meta")


def test_tokens_of_the_first_latent_are_at_time_zero_in_both_passes() -> None:
    torch.manual_seed(0)
    wan = build_wan(SMALL)
    seen: list[tuple[Tensor, Tensor]] = []

    def look(module: torch.nn.Module, given: tuple[object, ...], named: dict[str, Tensor]) -> None:
        seen.append((named["timestep"], named["hidden_states"]))

    wan.denoiser.model.register_forward_pre_hook(look, with_kwargs=True)
    first = torch.randn(2, 8, 1, 4, 6)
    x = torch.randn(2, 8, 3, 4, 6)
    contrast = Contrast(
        WanCondition(first, torch.randn(2, 5, 24)), WanCondition(first, torch.randn(2, 5, 24))
    )
    answer = guided(wan.denoiser, 5)(x, 750, contrast)
    assert answer.shape == x.shape
    assert len(seen) == wan.denoiser.calls == 2
    for times, given in seen:
        assert times.shape == (2, 18)
        assert (times[:, :6] == 0).all()
        assert (times[:, 6:] == 750).all()
        assert torch.equal(given[:, :, :1], first)
        assert torch.equal(given[:, :, 1:], x[:, :, 1:])


def test_what_stands_in_the_first_place_does_not_matter() -> None:
    torch.manual_seed(0)
    wan = build_wan(SMALL)
    condition = WanCondition(torch.randn(1, 8, 1, 4, 4), torch.randn(1, 5, 24))
    x = torch.randn(1, 8, 2, 4, 4)
    other = torch.cat([torch.randn(1, 8, 1, 4, 4), x[:, :, 1:]], dim=2)
    assert torch.equal(wan.denoiser(x, 300, condition), wan.denoiser(other, 300, condition))


def test_the_condition_speaks_of_a_window() -> None:
    condition = WanCondition(torch.randn(1, 8, 1, 6, 8), torch.randn(1, 5, 24))
    window = condition.crop(2, 4, 3, 2)
    assert torch.equal(window.first, condition.first[..., 2:5, 4:6])
    assert window.text is condition.text


def test_times_follow_the_patch() -> None:
    assert token_times(torch.zeros(1, 8, 2, 4, 4), (1, 2, 2), 9.0).tolist() == [[0.0] * 4 + [9.0] * 4]
    assert token_times(torch.zeros(1, 8, 2, 2, 2), (1, 1, 1), 9.0).tolist() == [[0.0] * 4 + [9.0] * 4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_two_embedded_times_give_what_one_for_each_token_gives(dtype: torch.dtype, frames: int) -> None:
    torch.manual_seed(0)
    wan = build_wan(SMALL, dtype=dtype)
    plain = type(wan.denoiser.model)(**SMALL.transformer).eval()
    plain.load_state_dict(wan.denoiser.model.state_dict(), assign=True)
    x = torch.randn(2, 8, frames, 4, 6)
    condition = WanCondition(torch.randn(2, 8, 1, 4, 6), torch.randn(2, 5, 24))
    given = condition.pinned(x).to(dtype), token_times(x, (1, 2, 2), 640), condition.text.to(dtype)
    with torch.no_grad():
        theirs = plain(*given, return_dict=False)[0]
        asked_plainly = wan.denoiser.model(*given, return_dict=False)[0]
    assert torch.equal(theirs, asked_plainly)
    exact = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}
    torch.testing.assert_close(wan.denoiser(x, 640, condition), theirs, **exact)
    with wan.denoiser.remembering():
        first, again = (wan.denoiser(x, 640, condition) for _ in range(2))
    assert torch.equal(first, wan.denoiser(x, 640, condition))
    assert torch.equal(again, first)


def test_what_two_times_and_a_known_prompt_save_is_counted() -> None:
    wan = build_wan(SMALL, "meta")
    latents = torch.empty(1, *SMALL.latent_shape(9, 64, 96), device="meta")
    condition = WanCondition(latents[:, :, :1], torch.empty(1, 12, 24, device="meta"))
    with wan.denoiser.remembering():
        for remembered in (False, True):
            with FlopCounterMode(display=False) as counted:
                wan.denoiser(latents, 500, condition)
            cost = SMALL.forward_flops(SMALL.tokens(9, 64, 96), 12, times=2, remembered=remembered)
            assert counted.get_total_flops() == cost


def test_prompts_are_remembered_apart_and_only_as_long_as_said() -> None:
    torch.manual_seed(0)
    wan = build_wan(SMALL)
    projected: list[int] = []
    hook = wan.denoiser.model.blocks[1].attn2.to_k.register_forward_hook(lambda *_: projected.append(1))
    first, x = torch.randn(1, 8, 1, 4, 4), torch.randn(1, 8, 2, 4, 4)
    one, two = (WanCondition(first, torch.randn(1, 5, 24)) for _ in range(2))
    alone = [wan.denoiser(x, 300, condition) for condition in (one, two)]
    assert len(projected) == 2
    with wan.denoiser.remembering():
        for _ in range(3):
            for condition, expected in zip((one, two), alone, strict=True):
                assert torch.equal(wan.denoiser(x, 300, condition), expected)
        window = one.crop(0, 0, 2, 4)
        wan.denoiser(x[..., :2, :], 300, window)
    assert len(projected) == 4
    torch.nn.init.zeros_(wan.denoiser.model.blocks[1].attn2.to_k.weight)
    assert not torch.equal(wan.denoiser(x, 300, one), alone[0])
    assert len(projected) == 5
    hook.remove()


def test_what_learns_goes_diffusers_own_way() -> None:
    torch.manual_seed(0)
    model = build_wan(SMALL).denoiser.model.requires_grad_(True)
    x, text = torch.randn(1, 8, 2, 4, 4), torch.randn(1, 5, 24)
    model(x, token_times(x, (1, 2, 2), 300), text, return_dict=False)[0].square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_copy_is_a_model_of_its_own() -> None:
    torch.manual_seed(0)
    wan = build_wan(SMALL)
    condition = WanCondition(torch.randn(1, 8, 1, 4, 4), torch.randn(1, 5, 24))
    x = torch.randn(1, 8, 2, 4, 4)
    before = wan.denoiser(x, 300, condition)
    copied = WanDenoiser(deepcopy(wan.denoiser.model))
    assert torch.equal(copied(x, 300, condition), before)
    for parameter in wan.denoiser.model.blocks.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(copied(x, 300, condition), before)


def test_the_published_model_has_five_billion_parameters(full: Wan) -> None:
    count = sum(parameter.numel() for parameter in full.denoiser.model.parameters())
    assert count == WAN_TI2V_5B.parameters
    assert count / 1e9 == pytest.approx(5.00, abs=0.005)
    assert sum(parameter.numel() for parameter in full.vae.model.parameters()) / 1e9 == pytest.approx(
        0.7, abs=0.01
    )
    assert full.config.size_multiple == 32
    assert full.config.frame_rule == (4, 1)


# The specification's table (section 6): size, frames, tokens, TFLOP for each evaluation, TFLOP of the decoder.
TABLE = [
    (1280, 704, 9, 2640, 26.9, 153),
    (1280, 704, 5, 1760, 17.6, 87),
    (1920, 1088, 9, 6120, 69.5, 356),
    (1920, 1088, 5, 4080, 43.5, 202),
    (2560, 1440, 9, 10800, 141, 629),
    (2560, 1440, 5, 7200, 84.5, 357),
    (3840, 2176, 9, 24480, 442, 1433),
    (3840, 2176, 5, 16320, 246, 814),
]


@pytest.mark.parametrize(("width", "height", "frames", "tokens", "forward", "decode"), TABLE)
def test_costs_are_those_of_the_table(
    full: Wan, width: int, height: int, frames: int, tokens: int, forward: float, decode: float
) -> None:
    shape = full.config.latent_shape(frames, height, width)
    assert full.config.tokens(frames, height, width) == tokens
    assert full.config.forward_flops(tokens) / 1e12 == pytest.approx(forward, rel=0.01)
    latents = torch.empty(1, *shape, device="meta")
    condition = WanCondition(latents[:, :, :1], torch.empty(1, 512, 4096, device="meta"))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        full.denoiser.model(latents, token_times(latents, (1, 2, 2), 500), condition.text)
    assert counted.get_total_flops() == full.config.forward_flops(tokens)
    with FlopCounterMode(display=False) as counted:
        assert sum(chunk.shape[2] for chunk in full.vae.decode(latents)) == frames
    assert counted.get_total_flops() / 1e12 == pytest.approx(decode, rel=0.02)


def test_encoding_one_frame_costs_a_seventh(full: Wan) -> None:
    def cost(frames: int) -> int:
        with FlopCounterMode(display=False) as counted:
            full.vae.encode(torch.empty(1, 3, frames, 1440, 2560, device="meta"))
        return counted.get_total_flops()

    assert cost(1) / 1e12 == pytest.approx(17.6, rel=0.01)
    assert cost(9) / cost(1) == pytest.approx(7, abs=0.15)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="4k"):
        TI2V_5B.latent_shape(8, 704, 1280)
    with pytest.raises(ValueError, match="multiples of 32, not 1280x720"):
        TI2V_5B.latent_shape(9, 720, 1280)


def test_models_with_extra_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="takes 36 and gives 16 channels where the latents have 16"):
        WanConfig(
            {**TI2V_5B.transformer, "in_channels": 36, "out_channels": 16}, {**TI2V_5B.vae, "z_dim": 16}, {}
        )
