"""What a walk needs of a model, and a model that is loaded only when it is needed."""

from collections.abc import Callable
from typing import Protocol

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_vae import CogVideoXVae
from unfade.conditioning.control_denoiser import ControlDenoiser
from unfade.restore.vivid_model import VividModel


class Walker(Protocol):
    """The parts of a model, such as a `VividModel`."""

    @property
    def config(self) -> CogVideoXConfig: ...
    @property
    def denoiser(self) -> ControlDenoiser: ...
    @property
    def vae(self) -> CogVideoXVae: ...


class Awaited:
    """A model whose weights are loaded when one of its parts is first asked for, if that ever happens.

    Attributes:
        config: of the base, which is known before.

    Args:
        load: gives the model; asked every time, so whoever holds it decides for how long.
    """

    def __init__(self, config: CogVideoXConfig, load: Callable[[], VividModel]) -> None:
        self.config = config
        self._load = load

    @property
    def denoiser(self) -> ControlDenoiser:
        """Transformer and control."""
        return self._load().denoiser

    @property
    def vae(self) -> CogVideoXVae:
        """The base's."""
        return self._load().vae
