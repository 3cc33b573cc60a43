"""Running out of memory: one retreat to a smaller plan, told in one line, with the same pixels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from unfade.backbones.memory_plan import MemoryPlan
from unfade.backbones.placement import apply_memory_plan, retreat
from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL
from unfade.backbones.wan_denoiser import WanCondition
from unfade.backbones.wan_memory import choose_memory_plan
from unfade.core import UnfadeError
from unfade.restore.memory import within_memory

CPU = torch.device("cpu")


@pytest.fixture
def wan() -> Wan:
    torch.manual_seed(4)
    return build_wan(SMALL)


def chosen(wan: Wan, tiles: Any = "auto") -> MemoryPlan:
    # 320 pixels wide, so that tiles of 256 are fewer pixels than the whole.
    plan = choose_memory_plan(
        wan.config, (32, 320), 5, 10**12, device="cpu", dtype=torch.float32, tiles=tiles
    )
    apply_memory_plan(wan, plan, CPU)
    return plan


def working(wan: Wan) -> Callable[[], Tensor]:
    dice = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 1, 32, 320, generator=dice)
    noise = torch.randn(1, *wan.config.latent_shape(5, 32, 320), generator=dice)
    text = torch.randn(1, 6, 24, generator=dice)

    def work() -> Tensor:
        condition = WanCondition(wan.vae.encode(image), text)
        latents = noise - wan.denoiser(noise, 800, condition)
        return torch.cat(list(wan.vae.decode(condition.pinned(latents))), dim=2)

    return work


def failing(forward: Callable[..., Any], error: Exception, times: int) -> Callable[..., Any]:
    """The real forward, which runs out of memory so many times first."""
    left = [times]

    def wrapped(*given: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return forward(*given, **named)

    return wrapped


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError(
            "CUDA error: out of memory\nCUDA kernel errors might be reported at some other API call"
        ),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError(
            "[enforce fail] . DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.28 GB, max allowed: 9.07 GB)."),
    ],
)
def test_work_goes_on_with_a_smaller_plan_and_says_so(wan: Wan, error: Exception) -> None:
    plan, work = chosen(wan), working(wan)
    expected = work()
    broken: Any = wan.vae.model.decoder
    broken.forward = failing(broken.forward, error, times=1)
    said: list[str] = []
    answer, followed = within_memory(wan, plan, CPU, work, said.append)
    assert followed.peak < plan.peak
    assert followed.tile and wan.vae.tile == followed.tile
    assert said == [f"memory ran out while decoding (resident); going on with {followed.name}"]
    torch.testing.assert_close(answer, expected, atol=2e-5, rtol=0)


def test_what_fits_is_done_once_and_in_silence(wan: Wan) -> None:
    plan, work = chosen(wan), working(wan)
    said: list[str] = []
    before = wan.denoiser.calls
    answer, followed = within_memory(wan, plan, CPU, work, said.append)
    assert followed is plan and not said
    assert wan.denoiser.calls == before + 1
    assert torch.equal(answer, work())


@pytest.mark.parametrize(("part", "doing"), [("transformer", "denoising"), ("encoder", "encoding")])
def test_on_the_host_only_decoding_can_take_less(wan: Wan, part: str, doing: str) -> None:
    """Tiles of the VAE's decoder don't help the others, so nothing is done twice in vain."""
    plan, work = chosen(wan), working(wan)
    broken: Any = wan.denoiser.model if part == "transformer" else wan.vae.model.encoder
    broken.forward = failing(broken.forward, MemoryError(), times=1)
    before = wan.denoiser.calls
    with pytest.raises(UnfadeError, match=rf"while {doing} \(resident\), and no smaller plan") as told:
        within_memory(wan, plan, CPU, work)
    assert "--memory" not in str(told.value) and "--vae-tiles on" in str(told.value)
    assert wan.denoiser.calls <= before + 1


def test_fp8_stays_fp8_when_memory_runs_out(wan: Wan) -> None:
    plan = choose_memory_plan(
        wan.config, (32, 320), 5, 10**12, "fp8", device="cpu", dtype=torch.float32, tiles="auto"
    )
    assert plan.weights == "fp8" and not plan.tile
    apply_memory_plan(wan, plan, CPU)
    work = working(wan)
    expected = work()
    broken: Any = wan.vae.model.decoder
    broken.forward = failing(broken.forward, torch.OutOfMemoryError("CUDA out of memory"), times=1)
    answer, followed = within_memory(wan, plan, CPU, work)
    assert followed.weights == "fp8" and followed.tile
    torch.testing.assert_close(answer, expected, atol=2e-5, rtol=0)


def test_twice_is_an_error_in_one_sentence(wan: Wan) -> None:
    plan, work = chosen(wan), working(wan)
    model: Any = wan.vae.model.decoder.mid_block
    model.forward = failing(model.forward, torch.OutOfMemoryError("CUDA out of memory"), times=2)
    with pytest.raises(UnfadeError, match=r"ran out twice \(resident, then resident, VAE in tiles of"):
        within_memory(wan, plan, CPU, work)
    assert torch.isfinite(work()).all()


def test_where_nothing_is_smaller_it_is_said_at_once(wan: Wan) -> None:
    plan, work = chosen(wan, "off"), working(wan)
    model: Any = wan.denoiser.model
    model.forward = failing(model.forward, torch.OutOfMemoryError("CUDA out of memory"), times=1)
    before = wan.denoiser.calls
    with pytest.raises(UnfadeError, match="no smaller plan is left"):
        within_memory(wan, plan, CPU, work, tiles="off")
    assert wan.denoiser.calls == before + 1


def test_other_errors_are_not_taken_for_it(wan: Wan) -> None:
    plan, work = chosen(wan), working(wan)
    model: Any = wan.denoiser.model
    model.forward = failing(model.forward, RuntimeError("shapes don't fit"), times=1)
    with pytest.raises(RuntimeError, match="shapes"):
        within_memory(wan, plan, CPU, work)


def test_a_model_without_caches_retreats_too() -> None:
    from unfade.backbones.cogvideox import build_cogvideox
    from unfade.backbones.cogvideox_config import SMALL_1_5

    model: Any = build_cogvideox(SMALL_1_5)
    retreat(model)
    assert model.vae.before is None
