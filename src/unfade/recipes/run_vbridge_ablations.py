"""Carries one table of V-Bridge's ablations out: trains every row, judges it on held-out pairs, writes the table.

    python -m unfade.recipes.run_vbridge_ablations TABLE --model FOLDER --pairs DIR --runs DIR

TABLE is frames, curriculum, data, drift or trajectory; the last one needs --photos as well. In drift, the correction is
a new adapter on Wan as published, or with `--start base` goes on from its base's own.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.prompt_embeddings import PromptEmbeddings
from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.conditioning.lora_file import weights_hash
from unfade.core import Plan, UsageError
from unfade.degrade import FOUNDIR
from unfade.degrade.composition import Kinds
from unfade.prompts.vbridge import vbridge_prompt
from unfade.recipes.command import add_arguments, add_start, carried_out, changes_of, sampling_of, tell
from unfade.recipes.drift_base import OWN
from unfade.recipes.launch import check_alone
from unfade.recipes.request import hold_to, names_hash
from unfade.recipes.run_tiny import commit
from unfade.recipes.run_vbridge import run_vbridge
from unfade.recipes.vbridge import vbridge_lora
from unfade.recipes.vbridge_ablations import ABLATIONS, Ablation, rows_of, shortened
from unfade.recipes.vbridge_drift import run_vbridge_drift, vbridge_drift
from unfade.recipes.vbridge_judging import Report, judged_pairs, write_json, write_text
from unfade.recipes.vbridge_tables import Row, tables_in_both
from unfade.restore.latent import LatentRestorer
from unfade.restore.load import load, located
from unfade.training.fewshot import choose_pairs, read_manifest, write_manifest
from unfade.training.pairs import PairFiles, find_pairs
from unfade.training.photos import load_photos
from unfade.training.sequences import PhotoSequences
from unfade.training.vbridge import VBridgeTrainer

# Fields of a run that change neither what is learnt from nor what is learnt, save for rounding.
_HOUSEKEEPING = (
    "accumulation",
    "gradient_checkpointing",
    "checkpoint_every",
    "validate_every",
    "validate_steps",
    "log_every",
)


def run_ablations(
    table: str,
    pairs: Sequence[Path],
    model: str,
    folder: Path,
    *,
    layout: str = "auto",
    held_out: int = 5,
    photos: Sequence[Path] = (),
    kinds: Mapping[str, Kinds] = FOUNDIR,
    epochs: int | None = None,
    size: int | None = None,
    each: int | None = None,
    start: str | Path | None = None,
    device: str = "auto",
    plan: Plan | None = None,
    sampling: Mapping[str, Any] | None = None,
    report: Report | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Trains what is not trained yet, judges what is not judged yet, and writes `table.md` and `table.json`.

    What was asked for stands in `request.json`, and the pairs that are judged on in `judged-on.json`, which every
    training leaves alone. Rows that are the same training are trained once.

    Args:
        table: a name in `ABLATIONS`.
        pairs: folders; `held_out` of each category, the same for every row, are judged on and never learnt from.
        model: the base model's folder or name.
        folder: of the table; each row has a folder in it.
        layout: of the pairs.
        held_out: pairs of each category to judge on.
        photos: clean ones, for the "trajectory" table, under degradations of every one of `kinds`.
        kinds: of the degradations of `photos`.
        epochs, size: a shorter comparison; see `vbridge_ablations.shortened`.
        each: pairs of each category to learn from, instead of each row's own number.
        start: an adapter's file that the drift correction begins as instead of a new one, or "base" for its base's own.
        device: to train on: "auto", "cpu" or "cuda".
        plan: how to restore.
        sampling: fields of `VBridgeSettings` that differ from the published ones; frames are each row's own.
        report: told every line of logs.
        changes: fields of `VBridgeRun` that differ in every row, but not what the table compares; the drift
            correction learns with them as well, save for its number of frames.

    Returns:
        What `table.json` holds.

    Raises:
        UsageError: the table is unknown, photos are needed, the rows would not differ, none of them has a use for
            `start`, the folder was begun with something else, or there are several processes.
        InputError: the pairs can't be used.
        ModelError: the model can't be used.
    """
    check_alone("a table of ablations")
    rows = rows_of(table, epochs=epochs, size=size, each=each, changes=changes)
    if table == "trajectory" and not photos:
        raise UsageError(
            "a degradation that fades has to be applied to clean photos; give some with --photos"
        )
    if held_out < 1:
        raise UsageError(f"a table needs at least 1 pair of each category to judge on, not {held_out}")
    if start is not None and not any(row.corrects for row in rows):
        raise UsageError(
            f"--start is for a drift correction, which the table {table!r} doesn't train; leave it out"
        )
    plan, sampling = plan or Plan(), dict(sampling or {})
    found = find_pairs(pairs, layout)
    request = {
        "table": table,
        "model": open_wan(located(model)[1]).sha256(),
        "pairs": names_hash(found),
        "photos": [str(path) for path in photos],
        "kinds": sorted(kinds) if photos else [],
        "start": _identity(start),
        "held_out": held_out,
        "sampling": sampling,
        "steps": plan.steps,
        "scale": plan.scale,
        "rows": {row.name: _request_of(row) for row in rows},
    }
    hold_to(folder / "request.json", request)
    table_of = _Table(
        model=model,
        folder=folder,
        pairs=tuple(pairs),
        layout=layout,
        found=found,
        judged_on=_judged_on(found, rows[0].run.seed, held_out, folder / "judged-on.json"),
        photos=tuple(photos),
        kinds=kinds,
        device=device,
        plan=plan,
        sampling=sampling,
        correction=_correction(epochs, size, changes) if any(row.corrects for row in rows) else {},
        start=start,
        report=report,
    )
    told: list[Row] = []
    for row in rows:
        journal = folder / _slug(row.name) / "judged.jsonl"
        restorer = table_of.of_photos(row) if table == "trajectory" else table_of.of_pairs(row)
        told.append(Row(row.name, judged_pairs(restorer, table_of.judged_on, plan, journal, report)))
    content = {
        "table": table,
        "rows": {row.name: row.groups for row in told},
        "runs": {row.name: asdict(row.run) for row in rows},
        "commit": commit(),
        "held_out": [pair.name for pair in table_of.judged_on],
    }
    write_json(folder / "table.json", content)
    columns = sorted({pair.category for pair in table_of.judged_on})
    write_text(folder / "table.md", tables_in_both(table, told, columns))
    return content


@dataclass(frozen=True, slots=True)
class _Table:
    """What all rows of a table share."""

    model: str
    folder: Path
    pairs: tuple[Path, ...]
    layout: str
    found: tuple[PairFiles, ...]
    judged_on: tuple[PairFiles, ...]
    photos: tuple[Path, ...]
    kinds: Mapping[str, Kinds]
    device: str
    plan: Plan
    sampling: dict[str, Any]
    correction: dict[str, Any]
    start: str | Path | None
    report: Report | None
    trained: dict[str, Path] = field(default_factory=dict)

    def of_pairs(self, row: Ablation) -> LatentRestorer:
        """The row's restorer, trained on pairs."""
        home = self.folder / _slug(row.name)
        judged_on = self.folder / "judged-on.json"
        # Rows that differ in what comes after the training have it in common.
        base = self.trained.setdefault(repr((row.run, row.each)), home)
        self._check_apart(base / "pairs.json")
        adapter = run_vbridge(
            self.pairs,
            self.model,
            base,
            recipe="lora",
            layout=self.layout,
            few_shot=str(row.each),
            held_out=0,
            without=[judged_on],
            device=self.device,
            report=self.report,
            **_differing(row),
        )
        found: dict[str, Any] = {"adapter": adapter}
        if row.corrects:
            self._check_apart(home / "drift" / "choice.json")
            run_vbridge_drift(
                self.pairs,
                self.model,
                base,
                home / "drift",
                each=row.each,
                held_out=1,
                layout=self.layout,
                without=[judged_on],
                start=self.start,
                plan=self.plan,
                sampling=self._sampling(row),
                report=self.report,
                device=self.device,
                **self.correction,
            )
            found["drift_adapter"] = home / "drift" / "training" / "adapter.safetensors"
        return self._loaded(row, **found)

    def of_photos(self, row: Ablation) -> LatentRestorer:
        """The row's restorer, trained on clean photos that are degraded by ourselves."""
        _, path = located(self.model)
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        for folder in self.photos:
            known = [pair for pair in self.judged_on if pair.hq.resolve().is_relative_to(folder.resolve())]
            if known:
                raise UsageError(
                    f"{folder} holds {known[0].hq}, which the table is judged on; give --photos from elsewhere"
                )
        run = replace(row.run, accumulation=row.run.batch)
        loaded = load_photos(self.photos)
        few = loaded if len(loaded) <= row.each else loaded.split(row.each)[1]
        texts = PromptEmbeddings(path)([vbridge_prompt(), ""], torch.device(device))
        trainer = VBridgeTrainer(
            run,
            load_wan(open_wan(path), torch.bfloat16 if run.precision == "bf16" else torch.float32),
            PhotoSequences(few, self.kinds, row.trajectory),
            torch.cat(texts),
            self.folder / _slug(row.name),
            device=device,
        )
        trainer.resume()
        trainer.run(report=self.report)
        return self._loaded(row, adapter=trainer.export({"trajectory": row.trajectory}))

    def _sampling(self, row: Ablation) -> dict[str, Any]:
        return {**self.sampling, "frames": row.run.frames}

    def _loaded(self, row: Ablation, **adapters: Any) -> LatentRestorer:
        restorer = load(self.model, **self._sampling(row), **adapters)
        assert isinstance(restorer, LatentRestorer), "an adapter fits nothing else"
        return restorer

    def _check_apart(self, manifest: Path) -> None:
        if not manifest.exists():
            return
        judged = {pair.name for pair in self.judged_on}
        leaked = sorted(judged & {pair.name for pair in read_manifest(manifest, self.found).training})
        if leaked:
            raise UsageError(
                f"{manifest} learns from {leaked[0]}, which the table is judged on; choose another folder with --runs"
            )


def _judged_on(
    found: tuple[PairFiles, ...], seed: int, held_out: int, manifest: Path
) -> tuple[PairFiles, ...]:
    """The pairs that the manifest names, or newly drawn ones, which are then written down.

    They are what the manifest calls training: those that were drawn.
    """
    if manifest.exists():
        return read_manifest(manifest, found).training
    choice = choose_pairs(found, held_out, seed)
    write_manifest(choice, manifest)
    return choice.training


def _correction(epochs: int | None, size: int | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from `vbridge_drift()` in the drift correction's training; its frames are always its own."""
    asked = {name: value for name, value in changes.items() if name != "frames"}
    if "stages" not in asked:
        short = shortened(Ablation("drift correction", vbridge_drift()), epochs, size)
        asked["stages"] = short.run.stages
    return asked


def _differing(row: Ablation) -> dict[str, Any]:
    """A row's values that are not the recipe's."""
    usual = vbridge_lora()
    values = {one.name: getattr(row.run, one.name) for one in fields(row.run)}
    return {name: value for name, value in values.items() if value != getattr(usual, name)}


def _request_of(row: Ablation) -> dict[str, Any]:
    run = {name: value for name, value in asdict(row.run).items() if name not in _HOUSEKEEPING}
    return {**run, "trajectory": row.trajectory, "each": row.each, "corrects": row.corrects}


def _identity(start: str | Path | None) -> str | None:
    """What a drift correction begins as: `OWN`, or the hash of an adapter's weights."""
    if start is None:
        return None
    return OWN if str(start) == OWN else weights_hash(Path(start))


def _slug(name: str) -> str:
    return name.replace(" ", "-").replace("/", "")


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m unfade.recipes.run_vbridge_ablations", description=__doc__
    )
    parser.add_argument("table", help=", ".join(ABLATIONS))
    add_arguments(parser, each=None)
    add_start(parser)
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="clean photos, for `trajectory`")
    parser.add_argument("--epochs", type=int, help="in all, instead of 300")
    parser.add_argument("--size", type=int, help="of the largest crop, instead of 960")
    given = parser.parse_args(words)
    return carried_out(
        lambda: run_ablations(
            given.table,
            given.pairs,
            given.model,
            given.runs,
            layout=given.layout,
            held_out=given.held_out,
            photos=given.photos,
            epochs=given.epochs,
            size=given.size,
            each=given.each,
            start=given.start,
            device=given.device,
            plan=Plan(device=given.device),
            sampling=sampling_of(given),
            report=tell,
            **changes_of(given),
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
