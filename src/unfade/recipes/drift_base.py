"""What a drift correction is built on: a finished run's adapter on its model, or the model it trained whole."""

from dataclasses import dataclass
from pathlib import Path

from unfade.backbones.wan_folder import open_wan
from unfade.conditioning.lora import base_fingerprint, check_adapter
from unfade.core import UsageError
from unfade.restore.load import located

# In the place of a file: the correction's adapter begins as the base's own.
OWN = "base"


@dataclass(frozen=True, slots=True)
class DriftBase:
    """What restores in the first pass, and carries the adapter of the second.

    Attributes:
        model: a folder or name.
        adapter: of the first pass; None where the model itself was trained whole.
        known: the manifest of the pairs it learnt from.
    """

    model: str
    adapter: Path | None
    known: Path

    @staticmethod
    def of(run: Path, model: str) -> "DriftBase":
        """The base that a run made, the last one where it was exported several times.

        Args:
            run: its folder.
            model: that it was trained on.

        Raises:
            UsageError: the run is not finished, or its model is of another build than `model`.
            ModelError: a model can't be used.
        """
        adapter, known = run / "adapter.safetensors", run / "pairs.json"
        whole = sorted(path.parent for path in run.glob("model-*/training.json"))
        if not known.is_file() or not (adapter.is_file() or whole):
            raise UsageError(
                f"{run} holds no finished training with its pairs.json; finish it by unfade train vbridge"
            )
        if adapter.is_file():
            return DriftBase(model, adapter, known)
        own, given = (
            base_fingerprint(open_wan(path).config.transformer) for path in (whole[-1], located(model)[1])
        )
        if own != given:
            raise UsageError(f"{whole[-1]} was not trained on {model}; give the model it was trained on")
        return DriftBase(str(whole[-1]), None, known)

    def beginning(self, start: str | Path | None) -> Path | None:
        """The adapter that the correction's begins as; None for a new one.

        Args:
            start: a file, or `OWN`.

        Raises:
            UsageError: the base has no adapter.
            ModelError: the file is no adapter, or one for another base.
        """
        if start is None:
            return None
        if str(start) == OWN:
            if self.adapter is None:
                raise UsageError(
                    f"a correction of {self.model} begins from its weights anyway; leave --start out"
                )
            return self.adapter
        opened = open_wan(located(self.model)[1])
        check_adapter(Path(start), opened.config.transformer, opened.notes())
        return Path(start)
