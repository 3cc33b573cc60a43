"""What a VAE alone leaves of pictures: the ceiling of what a latent model can reach."""

import torch
from torch import Tensor

from unfade.backbones.video import VideoModel
from unfade.diffusion.sizes import Fit
from unfade.restore.walk import decoded


def of_stills(model: VideoModel, fit: Fit, pixels: Tensor, copies: int) -> Tensor:
    """Each picture on its own, as a still clip whose last frame is returned: results are decoded in company.

    Args:
        model: placed already.
        fit: of pictures of this size to the canvas.
        pixels: `[T, 3, H, W]` in [0, 1].
        copies: frames of the still clip, 4k + 1.

    Returns:
        The same shape.
    """
    clips = (fit.enter(one).unsqueeze(2).expand(-1, -1, copies, -1, -1) for one in pixels.split(1))
    lasts = (next(decoded(model, model.vae.encode(still), keep=False)) for still in clips)
    return torch.cat([fit.leave(last) for last in lasts])


def of_film(model: VideoModel, fit: Fit, film: Tensor) -> Tensor:
    """A film as one clip, whose frames share latents (1 | 4 | 4), so that what changes loses more than what is still.

    Args:
        model: placed already.
        fit: of frames of this size to the canvas.
        film: `[T, 3, H, W]` in [0, 1], as many frames as the model can have.

    Returns:
        The same shape.
    """
    latents = model.vae.encode(fit.enter(film).transpose(0, 1)[None])
    return torch.cat([fit.leave(chunk[0].transpose(0, 1)) for chunk in model.vae.decode(latents)])
