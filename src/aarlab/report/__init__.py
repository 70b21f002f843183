"""Reports of an exported campaign: `load_export` reads it, `write_report` writes page and files."""

from aarlab.report.load import load_export
from aarlab.report.write import ReportFiles, write_report

__all__ = ["ReportFiles", "load_export", "write_report"]
