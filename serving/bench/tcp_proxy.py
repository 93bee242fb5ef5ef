"""Stands between a client and a server, and does to their connection what networks do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

CHUNK: Final = 65_536
HOST: Final = "127.0.0.1"


class TcpProxy:
    """Forwards the connections of a port to another one, until it is told to harm them.

    What it is told holds for connections that are there, too. `mend` ends every harm.

    Args:
        target_port: on this machine, where the server is.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._delay = 0.0
        self._garbage = b""
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Listen, and forward everything at once; connections that were harmed are cut."""
        self._delay, self._garbage = 0.0, b""
        self._cut()
        if self._listener is None:
            self._listener = socket.create_server((HOST, self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def stop(self) -> None:
        """Close the port and all connections; who connects is refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._cut()

    def slow(self, seconds: float) -> None:
        """Hold back all that the server answers."""
        self._delay = seconds

    def answer(self, garbage: bytes) -> None:
        """Answer whatever is asked with this instead of asking the server."""
        self._garbage = garbage

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self._target_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for way in ((client, server), (server, client)):
                pump = threading.Thread(target=self._pump, args=[*way, way[0] is client])
                pump.daemon = True
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_asking: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if is_asking and self._garbage:
                    source.sendall(self._garbage)
                    continue
                if not is_asking and self._delay:
                    self._changed.wait(self._delay)
                sink.sendall(data)
        self._close(source, sink)

    def _cut(self) -> None:
        self._changed.set()
        self._changed = threading.Event()
        self._close(*self._open)

    def _close(self, *ends: socket.socket) -> None:
        with self._lock:
            self._open -= set(ends)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def tcp_proxy(target_port: int) -> Iterator[TcpProxy]:
    """A proxy that forwards, and is stopped in the end."""
    proxy = TcpProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.stop()
