"""Reports and plans of controlled experiments, from the events of a dataset."""

from training.experiment.files import save_report
from training.experiment.interleaved import InterleavingReport, report_interleaving
from training.experiment.page import experiment_page
from training.experiment.plan import (
    LIFTS,
    ExperimentPlanReport,
    PlanOptions,
    plan_from_dataset,
    plan_from_numbers,
)
from training.experiment.report import DECISION_NAMES, ExperimentReport
from training.experiment.run import ExperimentOptions, report_experiment
from training.experiment.tables import report_tables

__all__ = [
    "DECISION_NAMES",
    "LIFTS",
    "ExperimentOptions",
    "ExperimentPlanReport",
    "ExperimentReport",
    "InterleavingReport",
    "PlanOptions",
    "experiment_page",
    "plan_from_dataset",
    "plan_from_numbers",
    "report_experiment",
    "report_interleaving",
    "report_tables",
    "save_report",
]
