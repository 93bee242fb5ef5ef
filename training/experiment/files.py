"""Writing an experiment's report."""

from __future__ import annotations

import json
from pathlib import Path

from recsys.errors import ConfigurationError
from training.experiment.page import experiment_page
from training.experiment.report import ExperimentReport


def save_report(report: ExperimentReport, folder: Path) -> dict[str, Path]:
    """Write `experiment.html` and `experiment.json`; files of an earlier report are replaced.

    Returns:
        Their paths, as `report` and `data`.

    Raises:
        ConfigurationError: the folder can't be made or written to.
    """
    page, data = folder / "experiment.html", folder / "experiment.json"
    document = json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)
    text = experiment_page(report)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
        data.write_text(document + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the report can't be written to {folder} ({error}); choose another folder with --out"
        ) from error
    return {"report": page, "data": data}
