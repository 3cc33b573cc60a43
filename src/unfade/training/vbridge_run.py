"""A V-Bridge training run as data: the values of the paper, and what its objective needs besides."""

from dataclasses import dataclass

from torch import Tensor

from unfade.core import generator
from unfade.degrade.framing import Size
from unfade.training.flow_matching import shifted, stratified
from unfade.training.video_run import VideoRun


@dataclass(frozen=True, slots=True, kw_only=True)
class VBridgeRun(VideoRun):
    """A whole training run; the values it begins with are those of the paper's Table 7 where that has one.

    Attributes:
        stages: V-Bridge's 720 is no legal size of its model, so 704.
        frames: of a sequence, 4k + 1.
        shift: of the law noise levels are drawn from.
        first_latent_loss: whether the known first latent counts in the loss, as in the published code.

    Raises:
        ValueError: a value is out of range.

    Source: V-Bridge (arXiv 2603.13089), Table 7 and section 4; what it leaves open (betas, text dropout, law of the
    noise levels) is that of the training scripts it builds on. Its batch is one sample on each of 8 GPUs.
    """

    stages: tuple[tuple[int, int | Size], ...] = ((100, 512), (100, 704), (100, 960))
    lr: float = 2e-5
    weight_decay: float = 3e-2
    eps: float = 1e-10
    clip: float = 0.05
    shift: float = 5.0
    first_latent_loss: bool = False

    def __post_init__(self) -> None:
        # The zero-argument form does not know a class that `slots=True` has made anew.
        VideoRun.__post_init__(self)
        self.check_positive("shift")

    def levels(self, step: int) -> Tensor:
        """The noise levels of a step's samples, `[batch]`, spread evenly over their law."""
        return shifted(stratified(self.batch, generator(self.seed, "levels", step)), self.shift)
