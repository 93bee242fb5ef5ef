"""Benchmarks of the product's own path, each with its peer in the same run."""

from serving.bench.item_states import StoredStates
from serving.bench.machine import Machine, this_machine
from serving.bench.server_process import running_server
from serving.bench.serving_path import ServingPath, measure_serving
from serving.bench.text_scoring import TextScoring, measure_text_scoring
from serving.bench.training import TrainingSpeed, measure_training

__all__ = [
    "Machine",
    "ServingPath",
    "StoredStates",
    "TextScoring",
    "TrainingSpeed",
    "measure_serving",
    "measure_text_scoring",
    "measure_training",
    "running_server",
    "this_machine",
]
