"""What neighbouring frames put into a frame: the average before any training, and the same in strips as whole."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unfade.backbones import gather as module
from unfade.backbones.doubt import Doubt
from unfade.backbones.gather import HALO, Gather
from unfade.backbones.motion import Levels, motion
from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.tiny_weights import LIMIT, load_tiny, save_tiny
from unfade.backbones.trust import Trust
from unfade.core import ModelError, generator

SMALL = TinyConfig(widths=(8, 8, 8), blocks=(1, 1, 1), context=16, buckets=64)


def scene(height: int, width: int, batch: int = 1) -> Tensor:
    coarse = torch.rand(batch, 3, height // 10 + 2, width // 10 + 2, generator=generator(height, "scene"))
    return functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0.1, 0.9)


def neighbours(frame: Tensor, shifts: tuple[int, ...], sigma: float) -> list[Tensor]:
    """The frame rolled down by some pixels, each under noise of its own."""
    noise = [torch.randn(frame.shape, generator=generator(index, "noise")) for index in range(len(shifts))]
    return [frame.roll(shift, 2) + sigma / 255 * part for shift, part in zip(shifts, noise, strict=True)]


def awake(context: int, width: int = 32) -> Gather:
    """One whose every weight does something."""
    torch.manual_seed(5)
    made = Gather(context, width)
    for part in made.parameters():
        if not part.any():
            nn.init.normal_(part, std=0.1)
    return made.eval()


def applied(made: Gather, frames: list[Tensor], context: Tensor) -> Tensor:
    with torch.inference_mode():
        return made(frames[0], frames[1:], [Levels.of(frame) for frame in frames], context)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_before_any_training_aligned_frames_weigh_alike(count: int) -> None:
    still = scene(96, 128)
    frames = neighbours(still, (0,) * (1 + count), 10)
    made = Gather(16)
    with torch.inference_mode():
        shares = made._shares(frames[0], frames[1:], torch.randn(1, 16))
        assert shares.shape == (1 + count, 1, 1, 96, 128)
        torch.testing.assert_close(shares, torch.full_like(shares, 1 / (1 + count)))
        # Where nothing moves, the average is the plain mean.
        flows = torch.zeros(count, 1, 2, 48, 64)
        average = made._strip(frames[0], frames[1:], flows, torch.zeros(1, 16), 0, 96)
    torch.testing.assert_close(average, torch.stack(frames).mean(0), atol=1e-5, rtol=0)


def test_before_any_training_the_noise_of_a_static_clip_falls_to_a_fifth() -> None:
    still = scene(160, 192)
    frames = neighbours(still, (0,) * 5, 10)
    result = applied(Gather(16), frames, torch.zeros(1, 16))
    left, found = (float((part - still).var()) for part in (result, frames[0]))
    # The motion that noise makes believe blurs a little more of it away than an average would.
    assert 0.12 < left / found < 0.21


def test_before_any_training_moving_frames_are_aligned_first() -> None:
    still = scene(192, 192)
    frames = neighbours(still, (0, -6, -3, 3, 6), 10)
    result = applied(Gather(16), frames, torch.zeros(1, 16))
    inner = (..., slice(32, -32), slice(None))
    left, found = (float((part - still)[inner].square().mean()) for part in (result, frames[0]))
    plain = float((torch.stack(frames).mean(0) - still)[inner].square().mean())
    assert left < 0.3 * found < 0.3 * plain


@pytest.mark.parametrize("size", [(64, 64), (160, 48), (150, 32), (66, 40), (130, 34)])
def test_strips_are_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made, context = awake(16, 8), torch.randn(1, 16, generator=generator(6))
    frames = neighbours(scene(*size), (0, 4, -3), 15)
    whole = applied(made, frames, context)
    seen: list[tuple[int, int]] = []
    real = made._strip
    monkeypatch.setattr(made, "_strip", lambda *given: (seen.append(given[-2:]), real(*given))[1])
    monkeypatch.setattr(module, "_STRIP", 1)
    strips = applied(made, frames, context)
    height = size[0]
    assert seen == [
        (max(0, top - HALO), min(height, top + 2 * HALO + HALO)) for top in range(0, height, 2 * HALO)
    ]
    assert strips.shape == whole.shape
    torch.testing.assert_close(strips, whole, atol=5e-6, rtol=0)
    assert (whole - frames[0]).abs().mean() > 0.01


def test_a_halo_is_all_that_is_looked_at() -> None:
    made, context = awake(16, 8), torch.randn(1, 16, generator=generator(7))
    frames = neighbours(scene(160, 32), (0, 2, -2), 15)
    flows = motion(Levels.of(frames[0]), [Levels.of(frame) for frame in frames[1:]]).clamp(-2, 2)
    row = 80

    def changed(which: int, kind: str) -> Tensor:
        """Which rows of the result change with one row of a frame, or of a flow."""
        others, moved = [frame.clone() for frame in frames], flows.clone()
        if kind == "frame":
            others[which][:, :, row] = 1 - others[which][:, :, row]
        else:
            moved[which, :, :, row // 2] += 3
        with torch.inference_mode():
            before, after = (
                made._strip(one[0], one[1:], flow, context, 0, 160)
                for one, flow in ((frames, flows), (others, moved))
            )
        return (before - after).abs().amax((0, 1, 3)).nonzero()[:, 0]

    # Neighbours are looked at where the flow leads, which is no part of the halo.
    for which, kind, led in ((0, "frame", 0), (1, "frame", 5), (0, "flow", 0)):
        rows = changed(which, kind)
        assert rows.min() >= row - HALO - led
        assert rows.max() <= row + 1 + HALO + led
        # More than the way of the shares and less than all of it would be a halo that is wrong.
        assert rows.max() - rows.min() > HALO


def test_context_says_what_is_done() -> None:
    made = awake(16, 8)
    frames = neighbours(scene(48, 40), (0, 1, -1), 15)
    one, other = (applied(made, frames, torch.randn(1, 16, generator=generator(s))) for s in (8, 9))
    assert (one - other).abs().mean() > 1e-3


def test_a_batch_is_each_of_its_clips_alone() -> None:
    made, context = awake(16, 8), torch.randn(2, 16, generator=generator(10))
    frames = neighbours(scene(48, 40, 2), (0, 1, -1), 15)
    together = applied(made, frames, context)
    for index in (0, 1):
        alone = applied(made, [frame[index : index + 1] for frame in frames], context[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-4, rtol=0)


def test_every_weight_is_learnt() -> None:
    made = awake(16, 8)
    frames = neighbours(scene(48, 40), (0, 1, -1), 15)
    made(frames[0], frames[1:], [Levels.of(f) for f in frames], torch.randn(1, 16)).square().sum().backward()
    for name, part in made.named_parameters():
        assert part.grad is not None and part.grad.any(), name
    trunk = {id(part) for layer in made.trunk() for part in layer.parameters()}
    rest = {name.partition(".")[0] for name, part in made.named_parameters() if id(part) not in trunk}
    assert rest == {"own", "wish", "films"}


@pytest.fixture(scope="module")
def model() -> Tiny:
    torch.manual_seed(0)
    return Tiny(SMALL).eval()


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return (
        all(torch.equal(value, theirs.pop(name)) for name, value in one.state_dict().items()) and not theirs
    )


def test_weights_come_back_with_all_that_goes_with_them(model: Tiny, tmp_path: Path) -> None:
    trust, doubt, made = Trust(), Doubt(16), awake(16)
    nn.init.normal_(trust.layers[0].weight)  # type: ignore[arg-type]
    path = tmp_path / "all.safetensors"
    save_tiny(model, model.state_dict(), path, {"steps": "3"}, trust, doubt, made)
    loaded = load_tiny(path)
    assert loaded.notes == {"steps": "3"}
    assert loaded.trust is not None and equal(loaded.trust, trust)
    assert loaded.doubt is not None and equal(loaded.doubt, doubt)
    assert loaded.gather is not None and equal(loaded.gather, made)
    assert not loaded.gather.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value.bfloat16().float()), name
    # It alone, without the others.
    save_tiny(model, model.state_dict(), path, {}, gather=made)
    alone = load_tiny(path)
    assert (alone.trust, alone.doubt) == (None, None)
    assert alone.gather is not None and equal(alone.gather, made)


def test_weights_without_one_load_as_they_did(model: Tiny, tmp_path: Path) -> None:
    path, with_it = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    save_tiny(model, model.state_dict(), path, {})
    save_tiny(model, model.state_dict(), with_it, {}, gather=Gather(16))
    loaded = load_tiny(path)
    assert loaded.gather is None
    assert equal(loaded.model, load_tiny(with_it).model)


def test_one_for_another_context_is_refused(model: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    save_tiny(model, model.state_dict(), path, {}, gather=Gather(24))
    with pytest.raises(ModelError, match="damaged or not a `tiny`"):
        load_tiny(path)


def test_what_is_shipped_stays_below_the_limit(tmp_path: Path) -> None:
    model, path = Tiny(), tmp_path / "full.safetensors"
    context = model.config.context
    save_tiny(model, model.state_dict(), path, {}, Trust(), Doubt(context), Gather(context))
    assert path.stat().st_size < LIMIT
    assert sum(part.numel() for part in Gather(context).parameters()) < 200_000
