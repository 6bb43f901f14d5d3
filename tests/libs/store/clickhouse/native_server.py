"""
ClickHouse's native protocol in front of today's engine (chdb), as far as clickhouse-driver needs it.

The blocks of a SELECT are the engine's own bytes, and an INSERT's bytes go to the engine as the driver wrote them, so
both directions of the driver's encoding are held against the engine. What a server adds over the engine (users,
compression, progress, logs) is not here; the suite against a real server is `test_server.py`.
"""

from __future__ import annotations

import re
import socket
import threading
from types import TracebackType
from typing import Any, Final

from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.connection import ServerInfo
from clickhouse_driver.context import Context
from clickhouse_driver.protocol import ClientPacketTypes, ServerPacketTypes
from clickhouse_driver.reader import read_binary_str, read_binary_uint8
from clickhouse_driver.streams.native import BlockInputStream
from clickhouse_driver.varint import read_varint
from tests.libs.store.clickhouse.chdb_process import ChdbProcess, EngineError

# Low cardinality is spoken, settings are still plain and blocks have no custom serialization.
_REVISION: Final = 54_428
_CLIENT_SETTINGS: Final = {
    "use_numpy": False,
    "strings_as_bytes": True,
    "strings_encoding": "utf-8",
    "input_format_null_as_default": False,
    "namedtuple_as_json": True,
}
_BUFFER_BYTES: Final = 1 << 20
_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # of a block: no overflow, no bucket
_INSERT: Final = re.compile(r"INSERT INTO (\S+) \((.*)\) VALUES", re.DOTALL)


class NativeServer:
    """Listens on loopback; one thread a connection."""

    def __init__(self, engine: ChdbProcess) -> None:
        self._engine = engine
        self._turn = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"clickhouse://127.0.0.1:{self._listener.getsockname()[1]}/default"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> NativeServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def run(self, sql: str, data: bytes | None = None) -> bytes:
        """Run a statement; the engine takes one at a time."""
        with self._turn:
            return self._engine.run(sql, data)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=_Conversation(self, connection).serve, daemon=True).start()


class _Tape:
    """A socket to read from that keeps what came, so that a block can be cut out as it was sent."""

    def __init__(self, source: socket.socket | bytes) -> None:
        self._source = source
        self.bytes = bytearray()

    def recv_into(self, buffer: bytearray) -> int:
        if isinstance(self._source, bytes):
            data, self._source = self._source[: len(buffer)], self._source[len(buffer) :]
            buffer[: len(data)] = data
            n = len(data)
        else:
            n = self._source.recv_into(buffer)
        self.bytes += buffer[:n]
        return n


class _Blocks:
    """Reads packets and blocks. revision: 0 for the Native format, where no information comes before a block."""

    def __init__(self, source: socket.socket | bytes, *, revision: int) -> None:
        self._tape = _Tape(source)
        self.reader = BufferedSocketReader(self._tape, _BUFFER_BYTES)
        context = Context()
        context.client_settings = _CLIENT_SETTINGS
        context.settings = {}
        context.server_info = ServerInfo("ClickHouse", 26, 9, 2, revision, "UTC", "", revision)
        self._stream = BlockInputStream(self.reader, context)

    def at(self) -> int:
        """Return how many bytes have been taken."""
        return len(self._tape.bytes) - (self.reader.current_buffer_size - self.reader.position)

    def block(self) -> tuple[int, bytes]:
        """Return the rows of the next block, and the block as it came."""
        start = self.at()
        rows = self._stream.read().num_rows
        return rows, bytes(self._tape.bytes[start : self.at()])


class _Conversation:
    def __init__(self, server: NativeServer, connection: socket.socket) -> None:
        self._server, self._connection = server, connection
        self._in = _Blocks(connection, revision=_REVISION)

    def serve(self) -> None:
        with self._connection:
            try:
                self._greet()
                while True:
                    self._answer(read_varint(self._in.reader))
            except (EOFError, ConnectionError):
                return

    def _greet(self) -> None:
        reader = self._in.reader
        assert read_varint(reader) == ClientPacketTypes.HELLO
        read_binary_str(reader)
        for _ in range(3):
            read_varint(reader)
        for _ in range(3):
            read_binary_str(reader)
        hello = _text("ClickHouse") + _number(26) + _number(9) + _number(_REVISION) + _text("UTC") + _text("chdb")
        self._send(ServerPacketTypes.HELLO, hello + _number(2))

    def _answer(self, packet: int) -> None:
        if packet == ClientPacketTypes.PING:
            self._send(ServerPacketTypes.PONG, b"")
            return
        assert packet == ClientPacketTypes.QUERY, f"packet {packet} is not spoken here"
        sql = self._query()
        try:
            insert = _INSERT.fullmatch(sql)
            if insert:
                self._insert(f"INSERT INTO {insert[1]} ({insert[2]})", insert[1], insert[2].split(", "))
            else:
                self._select(sql)
            self._send(ServerPacketTypes.END_OF_STREAM, b"")
        except EngineError as error:
            head = error.code.to_bytes(4, "little") + _text("DB::Exception")
            self._send(ServerPacketTypes.EXCEPTION, head + _text(str(error)) + _text("") + b"\0")

    def _query(self) -> str:
        reader = self._in.reader
        read_binary_str(reader)  # id
        assert read_binary_uint8(reader) == 1, "an initial query"
        for _ in range(3):
            read_binary_str(reader)
        read_binary_uint8(reader)
        for _ in range(3):
            read_binary_str(reader)
        for _ in range(3):
            read_varint(reader)
        read_binary_str(reader)  # quota
        read_varint(reader)
        assert read_binary_str(reader) == "", "settings are not spoken here"
        read_varint(reader)
        assert read_varint(reader) == 0, "compression is not spoken here"
        sql = read_binary_str(reader)
        assert self._data()[0] == 0, "external tables are not spoken here"
        return str(sql)

    def _data(self) -> tuple[int, bytes]:
        assert read_varint(self._in.reader) == ClientPacketTypes.DATA
        read_binary_str(self._in.reader)
        return self._in.block()

    def _insert(self, sql: str, table: str, columns: list[str]) -> None:
        described = self._rows(f"DESCRIBE TABLE {table}")
        types = {row["name"]: row["type"] for row in described}
        missing = [name for name in columns if name not in types]
        if missing:
            raise EngineError(f"Code: 16. DB::Exception: No such column {missing[0]} in table {table}")
        self._block(_header([(name, types[name]) for name in columns]))
        blocks = []
        while (found := self._data())[0]:
            blocks.append(found[1].removeprefix(_INFO))
        self._server.run(sql, b"".join(blocks))

    def _select(self, sql: str) -> None:
        data = self._server.run(sql)
        if not sql.startswith(("SELECT", "WITH")):
            return
        blocks = _Blocks(data, revision=0)
        n_rows = 0
        while blocks.at() < len(data):
            rows, block = blocks.block()
            n_rows += rows
            self._block(block)
        if not n_rows:
            self._block(_header([(row["name"], row["type"]) for row in self._rows(f"DESCRIBE ({sql})")]))

    def _rows(self, sql: str) -> list[dict[str, str]]:
        """Return the names and types that a DESCRIBE gives."""
        stream = _Blocks(self._server.run(sql), revision=0)._stream
        block = stream.read()
        names = [name for name, _ in block.columns_with_types]
        return [{name: _decoded(value) for name, value in zip(names, row, strict=True)} for row in block.get_rows()]

    def _block(self, block: bytes) -> None:
        self._send(ServerPacketTypes.DATA, _text("") + _INFO + block)

    def _send(self, packet: int, body: bytes) -> None:
        self._connection.sendall(_number(packet) + body)


def _header(columns: list[tuple[str, str]]) -> bytes:
    """Return a block of no rows."""
    return _number(len(columns)) + _number(0) + b"".join(_text(name) + _text(type_) for name, type_ in columns)


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _text(value: str) -> bytes:
    data = value.encode()
    return _number(len(data)) + data


def _number(value: int) -> bytes:
    """Return a variable-length integer."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
