"""What `unfade restore` does once it knows what is wanted: one job after another, and how they went."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from unfade.cli.board import Bar, Format, close
from unfade.cli.rehearsal import in_all, rehearse, tell

if TYPE_CHECKING:
    from unfade.core import Plan
    from unfade.media.excerpt import Span
    from unfade.media.images import ImageInfo
    from unfade.media.video import VideoInfo
    from unfade.restore.job import Filing, JobReport
    from unfade.restore.outputs import Job


def carry_out(
    jobs: Sequence["Job"],
    model: str,
    chosen: dict[str, Any],
    prompt: str | None,
    plan: "Plan",
    filing: "Filing",
    dry_run: bool,
    format: Format,
    settings: dict[str, Any],
    span: "Span | None" = None,
    stop_at: int | None = None,
) -> list["JobReport"]:
    """Tells and collects a report for every job, those first that fail before any work.

    Args:
        jobs: what was asked for.
        model: its name, file or folder.
        chosen: settings of the model, by the names that `restore.load` has.
        prompt: what is wanted.
        plan, filing: of every job.
        dry_run: only says what would be done.
        format: of the lines on stdout.
        settings: what those tell of the run.
        span: the part of clips to restore; None for all.
        stop_at: after which step Vivid-VR stops.

    Raises:
        UsageError, ModelError: the model can't be used so. What fails with one job is in its report.
    """
    from unfade.cli.preview import as_in_the_whole, excerpted
    from unfade.restore.job import JobReport, run_job
    from unfade.restore.report import explained

    ready, reports = _screened(jobs, plan, filing)
    for report in reports:
        tell(report, format, settings, None)
    if not ready:
        return reports
    from unfade.core import UsageError
    from unfade.core.memory import reuse_large_blocks
    from unfade.restore.load import load
    from unfade.restore.vivid_restorer import VividRestorer

    reuse_large_blocks()
    restorer = load(model, **chosen)
    if stop_at is not None:
        if not isinstance(restorer, VividRestorer):
            raise UsageError(f"{restorer.name} has no use for --stop-at, which is of Vivid-VR; leave it out")
        restorer.stop_at = stop_at
    if dry_run:
        return reports + rehearse(ready, restorer, prompt, plan, filing, format, settings, span)
    sizes = {job: in_all(info) for job, info in ready}
    with Bar(sum(sizes.values()), len(ready)) as bar:
        for job, info in ready:
            bar.begin(job.input.name, sizes[job])
            try:
                with excerpted(job, info, span) as (taken, part):
                    fitting = as_in_the_whole(restorer, part, info)
                    report = run_job(taken, fitting, plan, prompt=prompt, filing=filing, progress=bar.share)
            except Exception as error:
                report = JobReport(job, "failed", error=explained(error, job))
            report = replace(report, job=job)
            reports.append(report)
            tell(report, format, settings, bar)
    return reports


def _screened(
    jobs: Sequence["Job"], plan: "Plan", filing: "Filing"
) -> tuple[list[tuple["Job", "ImageInfo | VideoInfo"]], list["JobReport"]]:
    """The jobs that can be tried, and reports on those that are done already or can't work."""
    from unfade.restore.footage import check_footage
    from unfade.restore.job import JobReport, check_job, is_done

    ready: list[tuple[Job, ImageInfo | VideoInfo]] = []
    reports: list[JobReport] = []
    for job in jobs:
        if is_done(job, filing):
            reports.append(JobReport(job, "skipped"))
            continue
        try:
            check = check_footage if job.footage else check_job
            ready.append((job, check(job, plan.scale, filing)))
        except Exception as error:
            reports.append(JobReport(job, "failed", error=error))
    return ready, reports


def finish(reports: Sequence["JobReport"], ignored: int) -> None:
    """Notes on stderr, and the failures.

    Args:
        reports: of all jobs.
        ignored: how many files of folders are neither photos nor clips.

    Raises:
        UnfadeError: of the only job, or that some of several failed.
    """
    understood = {report.provenance.get("understood", "yes") for report in reports}
    for sentence in sorted(understood - {"yes"}):
        typer.echo(f"note: {sentence}", err=True)
    for report in reports:
        if _cut_off(report):
            typer.echo(
                f"note: {report.job.input} was cut off: the file is shorter than it says, so the end of the footage "
                "may be missing",
                err=True,
            )
        if note := report.provenance.get("prompt_note"):
            typer.echo(f"note: {report.job.input}: {note}", err=True)
        if report.job.footage and (stopped := report.provenance.get("stopped")):
            typer.echo(
                f"note: {report.job.output} shows what was predicted {stopped}; the same command with --overwrite and "
                "without --stop-at goes on from there",
                err=True,
            )
    failures = [(report.error_message, report.error) for report in reports if report.error is not None]
    if len(reports) == 1:
        for _, failure in failures:
            raise failure
        if not ignored:
            return
    done = sum(report.status in ("done", "planned") and report.error is None for report in reports)
    close(failures, done, sum(report.status == "skipped" for report in reports), ignored)


def _cut_off(report: "JobReport") -> bool:
    """Whether footage lacks its end although all that is left of it could be read, which is no error."""
    from unfade.media.torn import cut_off

    return (
        report.job.footage
        and report.error is None
        and report.status in ("done", "planned")
        and report.job.input.is_file()
        and cut_off(report.job.input)
    )
