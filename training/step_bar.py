"""A progress bar over the steps of a Trainer."""

from __future__ import annotations

from rich.progress import Progress, TaskID
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class StepBar(TrainerCallback):
    """Shows steps and the latest validation figure on a progress bar.

    Args:
        progress: gets one more bar.
        title: of the bar.
        metric: key of the validation figure in the Trainer's log.
    """

    def __init__(self, progress: Progress, title: str, metric: str) -> None:
        self._progress = progress
        self._title = title
        self._metric = metric
        self._task: TaskID | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Add the bar."""
        del args, control
        self._task = self._progress.add_task(self._title, total=state.max_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Move it."""
        del args, control
        if self._task is not None:
            self._progress.update(self._task, completed=state.global_step)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Show the figure and the best one so far."""
        del args, control
        latest = [entry[self._metric] for entry in state.log_history if self._metric in entry]
        if self._task is not None and latest:
            name = self._metric.removeprefix("eval_").upper()
            text = f"{self._title} (validation {name} {latest[-1]:.4f}, best {max(latest):.4f})"
            self._progress.update(self._task, description=text)
