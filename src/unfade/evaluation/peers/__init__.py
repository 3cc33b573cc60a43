"""The peers: what our models are compared with in the same run, as a table.

All work on 8-bit pixels as their users call them, and on the bicubically enlarged picture where enlargement is asked
for. OpenCV, scipy and bm3d are optional (`pip install ".[evaluate]"`) and imported only when a peer runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unfade.core import Restorer, UsageError
from unfade.evaluation.peers.brightening import Clahe, Gamma, MeanGain
from unfade.evaluation.peers.deconvolution import RichardsonLucy, Wiener, wrong_kernel
from unfade.evaluation.peers.enlargement import Identity, Lanczos
from unfade.evaluation.peers.facts import Facts
from unfade.evaluation.peers.filters import Bilateral, Bm3d, NonLocalMeans
from unfade.evaluation.peers.framewise import package
from unfade.evaluation.peers.network import load_network

__all__ = [
    "PEERS",
    "Bilateral",
    "Bm3d",
    "Clahe",
    "Gamma",
    "Identity",
    "Lanczos",
    "MeanGain",
    "NonLocalMeans",
    "Peer",
    "RichardsonLucy",
    "Wiener",
    "peer",
]

_PREFIX = "spandrel:"
_WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".pkl")


@dataclass(frozen=True, slots=True)
class Peer:
    """One line of the table.

    Attributes:
        name: by which it is asked for.
        label: in a report.
        source: paper or library.
        told: what it is told that a blind restorer is not, e.g. "the noise level"; None where it is blind.
        make: from what is known about an input to the restorer for it; None where it does not apply.
        weights: SHA-256 of its weights; None for filters.
    """

    name: str
    label: str
    source: str
    told: str | None
    make: Callable[[Facts], Restorer | None]
    weights: str | None = None


def _nlm(facts: Facts) -> Restorer | None:
    return NonLocalMeans.for_sigma(facts.sigma) if facts.sigma else None


def _bm3d(facts: Facts) -> Restorer | None:
    return Bm3d(facts.sigma) if facts.sigma else None


def _wiener(facts: Facts) -> Restorer | None:
    return None if facts.kernel is None else Wiener(facts.kernel, Wiener.balance_for(facts.sigma))


def _wiener_wrong(facts: Facts) -> Restorer | None:
    if facts.kernel is None:
        return None
    balance = Wiener.balance_for(facts.sigma)
    return Wiener(wrong_kernel(facts.kernel), balance, name="wiener-wrong")


def _richardson_lucy(facts: Facts) -> Restorer | None:
    return None if facts.kernel is None else RichardsonLucy(facts.kernel)


def _richardson_lucy_wrong(facts: Facts) -> Restorer | None:
    if facts.kernel is None:
        return None
    return RichardsonLucy(wrong_kernel(facts.kernel), name="richardson-lucy-wrong")


def _mean_gain(facts: Facts) -> Restorer | None:
    return None if facts.gain is None else MeanGain(facts.gain)


# The optional packages that peers compute with, so that a missing one is told before any work.
_NEEDS = {
    "lanczos": "cv2",
    "nlm": "cv2",
    "nlm-default": "cv2",
    "bilateral": "cv2",
    "clahe": "cv2",
    "bm3d": "bm3d",
}
_SIGMA = "the noise level"
_KERNEL = "the blur kernel"
_WRONG = "a blur kernel turned by 30 degrees or 1.5 times as wide"

PEERS: dict[str, Peer] = {
    entry.name: entry
    for entry in (
        Peer(
            "identity",
            "as it came",
            "the input, bicubically enlarged where asked for",
            None,
            lambda _: Identity(),
        ),
        Peer("bicubic", "bicubic", "Keys 1981, a = -0.5", None, lambda _: Identity("bicubic")),
        Peer("lanczos", "Lanczos", "OpenCV INTER_LANCZOS4, 8 x 8 pixels", None, lambda _: Lanczos()),
        Peer("nlm", "NLM, h = 0.65 sigma", "OpenCV; Buades et al. 2011", _SIGMA, _nlm),
        Peer("nlm-default", "NLM, h = 10", "OpenCV; Buades et al. 2011", None, lambda _: NonLocalMeans()),
        Peer("bilateral", "bilateral", "OpenCV; Tomasi and Manduchi 1998", None, lambda _: Bilateral()),
        Peer("bm3d", "BM3D", "bm3d package (non-commercial); Dabov et al. 2007", _SIGMA, _bm3d),
        Peer("wiener", "Wiener", "Hunt 1973", _KERNEL, _wiener),
        Peer("wiener-wrong", "Wiener, wrong kernel", "Hunt 1973", _WRONG, _wiener_wrong),
        Peer("richardson-lucy", "Richardson-Lucy", "Richardson 1972; Lucy 1974", _KERNEL, _richardson_lucy),
        Peer(
            "richardson-lucy-wrong",
            "Richardson-Lucy, wrong kernel",
            "Richardson 1972; Lucy 1974",
            _WRONG,
            _richardson_lucy_wrong,
        ),
        Peer("clahe", "CLAHE", "OpenCV; Zuiderveld 1994", None, lambda _: Clahe()),
        Peer("gamma", "gamma to middle grey", "mean lifted to 118 of 255", None, lambda _: Gamma()),
        Peer("mean-gain", "true gain undone", "division by the gain", "the gain", _mean_gain),
    )
}


def peer(name: str) -> Peer:
    """A peer by its name; a network by the path of its weights, or `spandrel:PATH`.

    Raises:
        UsageError: the name is unknown, or the peer's package isn't installed.
        ModelError: the network can't be used.
    """
    if name in PEERS:
        if name in _NEEDS:
            package(_NEEDS[name], name)
        return PEERS[name]
    if not name.startswith(_PREFIX) and not name.lower().endswith(_WEIGHTS):
        raise UsageError(
            f"unknown peer {name!r}; there is {', '.join(PEERS)}, or spandrel:PATH for a network's .safetensors file"
        )
    network = load_network(Path(name.removeprefix(_PREFIX)).expanduser())
    return Peer(
        network.path.stem,
        network.label,
        f"{network.path.name}, read by {network.reader}",
        None,
        lambda facts: network if network.scale in (1, facts.scale) else None,
        network.sha256,
    )
