"""Carries one table of V-Bridge's ablations out: trains every row, judges it on held-out pairs, writes the table.

    python -m unfade.recipes.run_vbridge_ablations TABLE --model FOLDER --pairs DIR --runs DIR

TABLE is frames, curriculum, data, drift or trajectory; the last one needs --photos as well.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.backbones.wan_text import PromptEmbeddings
from unfade.core import Plan, UnfadeError, UsageError
from unfade.degrade import FOUNDIR
from unfade.degrade.composition import Kinds
from unfade.prompts.vbridge import vbridge_prompt
from unfade.recipes.run_tiny import commit
from unfade.recipes.run_vbridge import run_vbridge
from unfade.recipes.vbridge_ablations import ABLATIONS, Ablation, shortened
from unfade.recipes.vbridge_drift import run_vbridge_drift
from unfade.recipes.vbridge_judging import Report, judged_pairs, write_json, write_text
from unfade.recipes.vbridge_tables import Row, markdown_table
from unfade.restore.latent import LatentRestorer
from unfade.restore.load import load, located
from unfade.training.fewshot import choose_pairs
from unfade.training.pairs import PairFiles, find_pairs
from unfade.training.photos import load_photos
from unfade.training.sequences import PhotoSequences
from unfade.training.vbridge import VBridgeTrainer


def run_ablations(
    table: str,
    pairs: Sequence[Path],
    model: str,
    folder: Path,
    *,
    held_out: int = 5,
    photos: Sequence[Path] = (),
    kinds: Mapping[str, Kinds] = FOUNDIR,
    epochs: int | None = None,
    size: int | None = None,
    each: int | None = None,
    device: str = "auto",
    plan: Plan | None = None,
    sampling: dict[str, Any] | None = None,
    report: Report | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Trains what is not trained yet, judges what is not judged yet, and writes `table.md` and `table.json`.

    Args:
        table: a name in `ABLATIONS`.
        pairs: folders; `held_out` of each category, the same for every row, are judged on and never learnt from.
        model: the base model's folder or name.
        folder: of the table; each row has a folder in it.
        held_out: pairs of each category to judge on.
        photos: clean ones, for the "trajectory" table, under degradations of every one of `kinds`.
        kinds: of the degradations of `photos`.
        epochs, size: a shorter comparison; see `vbridge_ablations.shortened`.
        each: pairs of each category to learn from, instead of each row's own number.
        device: to train on: "auto", "cpu" or "cuda".
        plan: how to restore.
        sampling: fields of `VBridgeSettings` that differ from the published ones; frames are each row's own.
        report: told every line of logs.
        changes: fields of `VBridgeRun` that differ in every row.

    Returns:
        What `table.json` holds.

    Raises:
        UsageError: the table is unknown, or photos are needed.
        InputError: the pairs can't be used.
        ModelError: the model can't be used.
    """
    if table not in ABLATIONS:
        raise UsageError(f"unknown table {table!r}; there is {', '.join(ABLATIONS)}")
    if table == "trajectory" and not photos:
        raise UsageError(
            "a degradation that fades has to be applied to clean photos; give some with --photos"
        )
    plan = plan or Plan()
    rows = [shortened(row, epochs, size) for row in ABLATIONS[table]()]
    if each is not None:
        rows = [replace(row, each=each) for row in rows]
    # Drawn once, as every training draws its held-out pairs first and with the same seed.
    judged_on = choose_pairs(find_pairs(pairs), 1, rows[0].run.seed, held_out).held_out
    told: list[Row] = []
    for row in rows:
        home = folder / row.name.replace(" ", "-").replace("/", "")
        asked = {**(sampling or {}), "frames": row.run.frames}
        restorer = (
            _of_photos(row, model, home, photos, kinds, changes, asked, device, report)
            if table == "trajectory"
            else _of_pairs(row, pairs, model, home, held_out, changes, asked, device, plan, report)
        )
        told.append(Row(row.name, judged_pairs(restorer, judged_on, plan, home / "judged.jsonl", report)))
    content = {
        "table": table,
        "rows": {row.name: row.groups for row in told},
        "runs": {row.name: asdict(row.run) for row in rows},
        "commit": commit(),
        "held_out": [pair.name for pair in judged_on],
    }
    write_json(folder / "table.json", content)
    write_text(
        folder / "table.md", markdown_table(f"{table}: PSNR in dB over RGB", told, _columns(judged_on))
    )
    return content


def _of_pairs(
    row: Ablation,
    pairs: Sequence[Path],
    model: str,
    home: Path,
    held_out: int,
    changes: dict[str, Any],
    asked: dict[str, Any],
    device: str,
    plan: Plan,
    report: Report | None,
) -> LatentRestorer:
    run = replace(row.run, **changes)
    differing = {name: getattr(run, name) for name in ("stages", "frames", "lr", *changes) if name != "lora"}
    differing["device"] = device
    adapter = run_vbridge(
        pairs,
        model,
        home,
        recipe="lora",
        few_shot=str(row.each),
        held_out=held_out,
        report=report,
        **differing,
    )
    found: dict[str, Any] = {"adapter": adapter}
    if row.corrects:
        run_vbridge_drift(
            pairs,
            model,
            home,
            home / "drift",
            each=row.each,
            held_out=1,
            plan=plan,
            sampling=asked,
            **differing,
        )
        found["drift_adapter"] = home / "drift" / "training" / "adapter.safetensors"
    return _loaded(model, {**asked, **found})


def _of_photos(
    row: Ablation,
    model: str,
    home: Path,
    photos: Sequence[Path],
    kinds: Mapping[str, Kinds],
    changes: dict[str, Any],
    asked: dict[str, Any],
    device: str,
    report: Report | None,
) -> LatentRestorer:
    _, path = located(model)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    run = replace(row.run, **{"text_dropout": 0.0, **changes})
    loaded = load_photos(photos)
    few = loaded if len(loaded) <= row.each else loaded.split(row.each)[1]
    base = torch.bfloat16 if run.precision == "bf16" else torch.float32
    trainer = VBridgeTrainer(
        run,
        load_wan(open_wan(path), base),
        PhotoSequences(few, kinds, row.trajectory),
        PromptEmbeddings(path)([vbridge_prompt()], torch.device(device))[0],
        home,
        device=device,
    )
    trainer.resume()
    trainer.run(report=report)
    return _loaded(model, {**asked, "adapter": trainer.export({"trajectory": row.trajectory})})


def _loaded(model: str, settings: dict[str, Any]) -> LatentRestorer:
    restorer = load(model, **settings)
    assert isinstance(restorer, LatentRestorer), "an adapter fits nothing else"
    return restorer


def _columns(pairs: Sequence[PairFiles]) -> list[str]:
    return sorted({pair.category for pair in pairs})


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m unfade.recipes.run_vbridge_ablations", description=__doc__
    )
    parser.add_argument("table", help=", ".join(ABLATIONS))
    parser.add_argument("--pairs", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="clean photos, for `trajectory`")
    parser.add_argument("--model", required=True, help="the base model's folder or name")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the table")
    parser.add_argument("--held-out", type=int, default=5, help="pairs of each category to judge on")
    parser.add_argument("--epochs", type=int, help="in all, instead of 300")
    parser.add_argument("--size", type=int, help="of the largest crop, instead of 960")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    given = parser.parse_args(words)
    try:
        run_ablations(
            given.table,
            given.pairs,
            given.model,
            given.runs,
            held_out=given.held_out,
            photos=given.photos,
            epochs=given.epochs,
            size=given.size,
            device=given.device,
            plan=Plan(device=given.device),
        )
    except UnfadeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
