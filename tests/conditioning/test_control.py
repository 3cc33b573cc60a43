"""Vivid-VR's control: it begins as nothing, reaches everything that is trained, and has the published shapes."""

import pytest
import torch
from torch import Tensor

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_1_5, SMALL_T2V, T2V_1_5_5B
from unfade.backbones.cogvideox_denoiser import rotary_of
from unfade.conditioning.connectors import KINDS, Connector
from unfade.conditioning.control import Control, Controlled, ControlSettings

SMALL = ControlSettings(blocks=1, bottleneck=8, width=8, groups=2)


def parts(settings: ControlSettings = SMALL) -> Controlled:
    torch.manual_seed(0)
    transformer = build_cogvideox(SMALL_T2V).denoiser.model
    return Controlled(transformer, Control.beginning(transformer, settings))


def inputs(batch: int = 2, latents: int = 4) -> dict[str, Tensor]:
    dice = torch.Generator().manual_seed(1)
    shape = (batch, 4, latents, 8, 12)
    return {
        "x": torch.randn(shape, generator=dice),
        "low": torch.randn(shape, generator=dice),
        "text": torch.randn(batch, 12, 24, generator=dice),
        "times": torch.tensor([900, 37][:batch]),
    }


def shaken(model: Controlled) -> Controlled:
    """With every zero of its control made something."""
    dice = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.control.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=dice))
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("projector", [True, False])
def test_untrained_control_is_the_base_bit_for_bit(kind: str, projector: bool) -> None:
    settings = ControlSettings(1, kind, 8, projector, 8, 2)  # type: ignore[arg-type]
    model, given = parts(settings), inputs()
    with torch.no_grad():
        rotary = rotary_of(model.transformer.config, 4, 8, 12, torch.device("cpu"))
        alone = model.transformer(
            hidden_states=given["x"].transpose(1, 2),
            encoder_hidden_states=given["text"],
            timestep=given["times"],
            image_rotary_emb=rotary,
            return_dict=False,
        )[0].transpose(1, 2)
        assert torch.equal(model(**given), alone)
        assert not torch.equal(shaken(model)(**given), alone)


def test_gradient_reaches_all_that_is_trained_and_nothing_else() -> None:
    model = shaken(parts())
    model(**inputs()).square().mean().backward()
    for name, parameter in model.control.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name
    assert all(parameter.grad is None for parameter in model.transformer.parameters())


def test_samples_of_several_times_are_those_of_each_alone() -> None:
    model, given = shaken(parts()), inputs()
    with torch.no_grad():
        together = model(**given)
        for index in range(2):
            alone = model(**{name: value[index : index + 1] for name, value in given.items()})
            assert torch.allclose(together[index : index + 1], alone, atol=1e-5)


def test_checkpointed_gradients_are_the_same() -> None:
    model, given = shaken(parts()), inputs()
    found: list[list[Tensor]] = []
    for on in (False, True):
        model.checkpointing(on)
        model.zero_grad()
        model(**given).square().mean().backward()
        found.append(
            [parameter.grad.clone() for parameter in model.control.parameters() if parameter.grad is not None]
        )
    assert len(found[0]) == len(list(model.control.parameters()))
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*found, strict=True))


def test_each_part_of_the_degraded_footage_is_heard() -> None:
    model, given = shaken(parts()), inputs(1)
    with torch.no_grad():
        before = model(**given)
        given["low"] = given["low"].clone()
        given["low"][:, :, -1] += 1
        after = model(**given)
    assert float((after - before).abs().max()) > 1e-4


def test_a_connector_by_hand() -> None:
    torch.manual_seed(3)
    join = Connector(16, 2, 8)
    with torch.no_grad():
        for parameter in join.parameters():
            parameter.normal_(std=0.3)
    h, c = torch.randn(1, 5, 16), torch.randn(1, 7, 16)
    with pytest.raises(RuntimeError):
        join(h, c)  # as many of one as of the other, for the mapping is added token by token
    c = c[:, :5]
    q, k = join.to_q(h)[0].reshape(5, 2, 8), join.to_k(c)[0].reshape(5, 2, 8)
    values, heads = c[0].reshape(5, 2, 8), []
    for head in range(2):
        scores = join.norm_q(q[:, head]) @ join.norm_k(k[:, head]).T / 8**0.5
        heads.append(scores.softmax(1) @ values[:, head])
    wanted = h + join.out_layer(torch.cat(heads, dim=1))[None] + join.c_mlp(c)
    assert torch.allclose(join(h, c), wanted, atol=1e-5)


def test_full_size_has_the_published_shapes() -> None:
    transformer = build_cogvideox(T2V_1_5_5B, "meta").denoiser.model
    with torch.device("meta"):
        control = Control(transformer.config)

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert len(control.connectors) == 42
    assert {count(join) for join in control.connectors} == {12_597_504}
    assert count(control.injection.control_feat_proj) == pytest.approx(4.78e6, rel=2e-3)
    assert count(control.injection) == pytest.approx(17.8e6, rel=3e-3)
    assert count(control.controlnet) == pytest.approx(825.8e6, rel=1e-3)
    assert count(control) == pytest.approx(1.373e9, rel=1e-3)
    assert control.every == 7
    assert [index // control.every for index in (0, 6, 7, 41)] == [0, 0, 1, 5]
    model = Controlled(transformer, control)
    shape = (1, 16, 32, 128, 128)
    x = torch.empty(shape, device="meta")
    text = torch.empty(1, 226, 4096, device="meta")
    rotary = tuple(torch.empty(16 * 64 * 64, 64, device="meta") for _ in range(2))
    answer = model(x, x, text, torch.zeros(1, device="meta"), rotary)
    assert answer.shape == shape


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="5 blocks of control are more than the transformer's 2"):
        Control(SMALL_T2V.transformer, ControlSettings(blocks=5))
    with pytest.raises(ValueError, match="this one sees a photo"):
        Control(SMALL_1_5.transformer, SMALL)
    with pytest.raises(ValueError, match="connectors must be one of dual, mlp, attention, sft, not 'both'"):
        ControlSettings(connectors="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="blocks must be at least 1"):
        ControlSettings(blocks=0)
    with pytest.raises(ValueError, match="settings of control are not these: colour"):
        ControlSettings.of({"colour": 1})
