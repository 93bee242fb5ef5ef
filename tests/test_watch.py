"""What looks every so often goes on looking."""

from __future__ import annotations

from threading import Event

from shelf_server import until

from serving.watch import Watch


class Stumbling(Watch):
    """Fails at every other look."""

    def __init__(self, stopping: Event) -> None:
        super().__init__("stumbling", 0.001, stopping)
        self.looks = 0

    def _look(self) -> None:
        self.looks += 1
        if self.looks % 2:
            raise OSError("the disk is away")


def test_a_look_that_fails_is_logged_and_not_the_last() -> None:
    stopping = Event()
    watch = Stumbling(stopping)
    watch.start()
    until(lambda: watch.looks > 4)
    stopping.set()
    watch.join()
