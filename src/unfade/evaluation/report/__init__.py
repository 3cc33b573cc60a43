"""A finished run as a folder: one page to look at, one JSON to compute with, one CSV for spreadsheets."""

from unfade.evaluation.report.exhibits import Case, Exhibit, worst_and_best
from unfade.evaluation.report.writer import write_report

__all__ = ["Case", "Exhibit", "worst_and_best", "write_report"]
