"""A line that can be cut: forwards TCP connections to a server until a test says otherwise."""

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Listens on ``port``. One thread forwards; ``cut`` and ``close`` may be called from any."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._accepting = True
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self, *, stay: bool = False) -> None:
        """End all connections.

        :param stay: also refuse new ones, until :meth:`mend`.
        """
        with self._lock:
            self._accepting = not stay
            for each in list(self._pairs):
                self._drop(each)

    def mend(self) -> None:
        """Take connections again."""
        with self._lock:
            self._accepting = True

    def close(self) -> None:
        """End everything."""
        self._running = False
        self._thread.join()
        self.cut(stay=True)
        self._selector.close()
        self._listener.close()

    def _run(self) -> None:
        while self._running:
            ready = self._selector.select(timeout=0.05)
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj in self._pairs:
                        self._forward(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if not self._accepting:
            client.close()
            return
        server = socket.create_connection(self._target)
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, source: socket.socket) -> None:
        try:
            data = source.recv(65536)
            if data:
                self._pairs[source].sendall(data)
                return
        except OSError:
            pass
        self._drop(source)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is None:
            return
        self._pairs.pop(other, None)
        for each in (one, other):
            self._selector.unregister(each)
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
