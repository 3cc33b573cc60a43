"""V-Bridge's drift correction at full size: a second adapter that learns from the first one's own results.

    python -m unfade.recipes.vbridge_drift --pairs FoundIR/train --model FOLDER --base RUN --runs runs/drift

where RUN is the folder of a finished `unfade train vbridge`, of an adapter or of all weights. Pairs that the base
learnt from are left out (its results on them are better than they will ever be on others); the base restores the rest
at its inference size; the adapter learns to go from each result to the truth in 5 frames; and gains per group on pairs
held out are written to `gains.md` and `gains.json`, gated as well as always, over RGB and on luma, with both averages.
It goes on where it stopped when started again; another base, other pairs or another beginning need another folder.

The paper leaves open what the correction begins from. Beside a base that is an adapter, it is a new one on Wan as
published; `--start base` begins from the base's own weights instead, and `--start FILE` from any adapter. On a base
that was trained whole, it is a new adapter on the base's own weights. Hardware: that of training an adapter. Expected:
+1.5 dB on average, +4 to +8 dB in low light and blur, less than nothing in JPEG and rain (paper, Table 1); not
measured by us, as the base's weights can't be had on the machines this project is built on.
"""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from unfade.conditioning.lora import LoraSettings
from unfade.conditioning.lora_file import weights_hash
from unfade.core import Plan, UsageError
from unfade.media.atomic import atomic_output
from unfade.media.images import read_image, write_image
from unfade.recipes.command import add_arguments, add_start, carried_out, changes_of, sampling_of, tell
from unfade.recipes.drift_base import DriftBase
from unfade.recipes.launch import check_alone
from unfade.recipes.request import hold_to, names_hash
from unfade.recipes.run_vbridge import run_vbridge
from unfade.recipes.vbridge_judging import (
    COLOURS,
    Report,
    append_line,
    figures_of,
    made_by,
    means,
    read_journal,
    restored,
    write_json,
    write_text,
)
from unfade.recipes.vbridge_tables import Row, tables_in_both
from unfade.restore.drift import worth_keeping
from unfade.restore.latent import LatentRestorer
from unfade.restore.load import load
from unfade.training.fewshot import Choice, choose_pairs, names_in, read_manifest, write_manifest
from unfade.training.pairs import PairFiles, find_pairs
from unfade.training.vbridge_run import VBridgeRun

ROLE = "drift-correction"
# Lines of the table, and which of its rows they compare with that without correction.
_GAINS = {"gain": "with DC", "gated gain": "gated"}


def vbridge_drift() -> VBridgeRun:
    """The adapter's training: 5 frames, else as an adapter of the base.

    The paper leaves frames, curriculum and beginning open; 5 frames is what its code's evaluation suggests. The second
    pass of a restoration has as many frames as its adapter says that it learnt from, whatever the first one has.
    """
    return VBridgeRun(frames=5, lora=LoraSettings(), lr=1e-4)


def run_vbridge_drift(
    pairs: Sequence[Path],
    model: str,
    base: Path,
    folder: Path,
    *,
    each: int = 50,
    held_out: int = 5,
    layout: str = "auto",
    without: Sequence[Path] = (),
    start: str | Path | None = None,
    plan: Plan | None = None,
    sampling: dict[str, Any] | None = None,
    report: Report | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Rolls out, trains, judges; returns what `gains.json` holds.

    Args:
        pairs: folders.
        model: the folder or name of the model that the base was trained on.
        base: the folder of the run that made what restores, with `pairs.json` and `adapter.safetensors`, or
            `model-NNNNNN` where all weights were trained.
        folder: of this run.
        each: pairs of each category to learn from.
        held_out: pairs of each category to judge on.
        layout: of the pairs.
        without: manifests whose pairs are neither learnt from nor judged on, besides those the base learnt from.
        start: an adapter's file that the correction begins as instead of a new one, or "base" for the base's own.
        plan: how to restore.
        sampling: fields of `VBridgeSettings` that differ from the published ones.
        report: told every line of logs.
        changes: fields of `VBridgeRun` that differ from `vbridge_drift()`.

    Raises:
        UsageError: the base's run is not finished, no pair is held out, the folder was begun with another base,
            beginning or pairs, or there are several processes.
        InputError: too few pairs are left.
        ModelError: model or adapter can't be used.
    """
    check_alone("a drift correction")
    if held_out < 1:
        raise UsageError(
            f"a drift correction needs at least 1 pair of each category to judge on, not {held_out}"
        )
    built_on = DriftBase.of(base, model)
    begins = built_on.beginning(start)
    plan, asked = plan or Plan(), dict(sampling or {})
    found = find_pairs(pairs, layout)
    alone = load(built_on.model, adapter=built_on.adapter, **{**asked, "drift": "never"})
    assert isinstance(alone, LatentRestorer), "a base is a video model"
    barred = frozenset[str]().union(*(names_in(manifest) for manifest in (built_on.known, *without)))
    request = {
        "base": alone.weights.sha256,
        "start": weights_hash(begins) if begins else None,
        "sampling": asdict(cast(Any, alone.settings)),
        "steps": plan.steps,
        "scale": plan.scale,
        "pairs": names_hash(pair for pair in found if pair.name not in barred),
        "each": each,
        "held_out": held_out,
    }
    hold_to(folder / "request.json", request)
    choice = _choice(found, each, held_out, barred, folder / "choice.json")
    rolled = roll_out(alone, choice.training, folder / "rollout", plan, report)
    run = vbridge_drift()
    settings = {"frames": run.frames, "lr": run.lr, **changes}
    second = run_vbridge(
        [rolled],
        built_on.model,
        folder / "training",
        recipe="lora",
        layout="foundir",
        few_shot="all",
        held_out=0,
        role=ROLE,
        start=begins,
        report=report,
        **settings,
    )
    both = load(
        built_on.model, adapter=built_on.adapter, drift_adapter=second, **{**asked, "drift": "always"}
    )
    assert isinstance(both, LatentRestorer), "a base is a video model"
    told = _judged(
        find_pairs([roll_out(alone, choice.held_out, folder / "held-out" / "base", plan, report)], "foundir"),
        find_pairs(
            [roll_out(both, choice.held_out, folder / "held-out" / "corrected", plan, report)], "foundir"
        ),
    )
    write_json(folder / "gains.json", told)
    rows = [Row(name, told[name]) for name in ("w/o DC", "with DC", "gated")]
    gains = {name: (row, "w/o DC") for name, row in _GAINS.items()}
    page = tables_in_both("drift correction", rows, list(told["w/o DC"]), gains)
    write_text(folder / "gains.md", page)
    return told


def roll_out(
    restorer: LatentRestorer,
    pairs: Sequence[PairFiles],
    folder: Path,
    plan: Plan,
    report: Report | None = None,
) -> Path:
    """What a restorer makes of pairs, and their truths, as pairs of a new folder in FoundIR's layout.

    A result that the same restorer made before is kept; `made.jsonl` says which did. Results have 16 bits, so rounding
    adds nothing to learn.

    Returns:
        `folder`.

    Raises:
        OutputError: a file can't be written.
    """
    maker, journal = made_by(restorer, plan), folder / "made.jsonl"
    # The last line counts: a result may have been made anew.
    makers = {row["name"]: row["by"] for row in read_journal(journal)}
    for index, pair in enumerate(pairs):
        stem = pair.name.rpartition("/")[2]
        target = folder / pair.category / "LQ" / f"{stem}.png"
        truth = folder / pair.category / "GT" / f"{stem}{pair.hq.suffix}"
        _copied(pair.hq, truth)
        if makers.get(pair.name) != maker or not target.exists():
            write_image(restored(restorer, pair, plan), target, bit_depth=16)
            append_line(journal, {"name": pair.name, "by": maker})
            if report:
                report({"rolled_out": index + 1, "of": len(pairs), "name": pair.name})
    return folder


def _copied(source: Path, target: Path) -> None:
    """A copy that is whole or not there at all; one of another size is of another photo, or was cut off."""
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    with atomic_output(target) as temporary:
        shutil.copyfile(source, temporary)


def _choice(
    found: tuple[PairFiles, ...], each: int, held_out: int, barred: frozenset[str], manifest: Path
) -> Choice:
    if manifest.exists():
        return read_manifest(manifest, found)
    choice = choose_pairs(found, each, VBridgeRun().seed, held_out, barred)
    write_manifest(choice, manifest)
    return choice


def _judged(base: Sequence[PairFiles], corrected: Sequence[PairFiles]) -> dict[str, Any]:
    """Summaries without and with the correction, and with it only where it is worth keeping; and its gains in dB, over
    RGB and (those that end in "_y") on luma.
    """
    rows: dict[str, list[dict[str, Any]]] = {"w/o DC": [], "with DC": [], "gated": []}
    for first, second in zip(base, corrected, strict=True):
        truth = read_image(first.hq).frames
        before, after = read_image(first.lq).frames, read_image(second.lq).frames
        chosen = {
            "w/o DC": before,
            "with DC": after,
            "gated": after if worth_keeping(before, after) else before,
        }
        for name, result in chosen.items():
            rows[name].append({"category": first.category, **figures_of(result, truth)})
    told: dict[str, Any] = {name: means(these) for name, these in rows.items()}
    for gain, row in _GAINS.items():
        for ending in COLOURS.values():
            figure = f"result{ending}"
            told[f"{gain}{ending}"] = {
                name: told[row][name][figure] - group[figure] for name, group in told["w/o DC"].items()
            }
    return told


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m unfade.recipes.vbridge_drift", description=__doc__)
    add_arguments(parser, each=50)
    add_start(parser)
    parser.add_argument("--base", type=Path, required=True, help="folder of the finished base run")
    given = parser.parse_args(words)
    return carried_out(
        lambda: run_vbridge_drift(
            given.pairs,
            given.model,
            given.base,
            given.runs,
            each=given.each,
            held_out=given.held_out,
            layout=given.layout,
            start=given.start,
            plan=Plan(device=given.device),
            sampling=sampling_of(given),
            report=tell,
            device=given.device,
            **changes_of(given),
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
