"""A client that knows when an answer was complete: only then is anything acknowledged."""

import socket

# Far beyond what any answer may take: a server that hangs fails the run, not the runner.
PATIENCE_S = 30.0


class Gone(Exception):
    """The connection ended before the answer did: what was asked for is in doubt."""


class Answer:
    """A complete answer."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def text(self):
        return self.body.decode("utf-8", "replace").strip()


class Client:
    """One kept connection, made when it is first needed."""

    def __init__(self, addr, patience_s=PATIENCE_S):
        self.addr = addr
        self.patience_s = patience_s
        self.stream = None
        self.reader = None

    def close(self):
        if self.stream is not None:
            self.reader.close()
            self.stream.close()
            self.stream = None

    def put(self, path, body, chunked=False):
        if not chunked:
            return self.ask("PUT", path, f"Content-Length: {len(body)}\r\n", body)
        pieces = []
        for start in range(0, len(body), 50_000):
            piece = body[start:start + 50_000]
            pieces.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        pieces.append(b"0\r\n\r\n")
        return self.ask("PUT", path, "Transfer-Encoding: chunked\r\n", b"".join(pieces))

    def delete(self, path):
        return self.ask("DELETE", path)

    def get(self, path):
        return self.ask("GET", path)

    def ask(self, method, path, headers="", body=b""):
        head = f"{method} {path} HTTP/1.1\r\nHost: faults.test\r\n{headers}\r\n".encode()
        try:
            if self.stream is None:
                self.stream = socket.create_connection(self.addr, self.patience_s)
                self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.reader = self.stream.makefile("rb")
            try:
                self.stream.sendall(head + body if len(body) < 65536 else head)
                if len(body) >= 65536:
                    self.stream.sendall(body)
            except (BrokenPipeError, ConnectionResetError):
                # A refusal may have come before the body was taken.
                pass
            return self._answer()
        except (OSError, ValueError, EOFError) as cause:
            self.close()
            raise Gone(f"{method} {path}: {cause}") from cause

    def _answer(self):
        status = int(self._line()[9:12])
        headers = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if "transfer-encoding" in headers:
            raise ValueError("a sealed object has a length")
        wanted = 0 if status == 204 else int(headers.get("content-length", 0))
        body = self.reader.read(wanted)
        if len(body) != wanted:
            raise EOFError("cut short")
        answer = Answer(status, headers, body)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def _line(self):
        line = self.reader.readline(65536)
        if not line.endswith(b"\r\n"):
            raise EOFError("no complete line")
        return line[:-2].decode("latin-1")
