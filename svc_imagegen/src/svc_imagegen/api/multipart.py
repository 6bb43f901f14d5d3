"""multipart/form-data within limits, read as it arrives. File names and content types of parts are never used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from svc_imagegen.domain.failures import CallRefused, Kind

_N_PARTS_MAX: Final = 96
_NAME_CHARS_MAX: Final = 100
_FIELD_BYTES_MAX: Final = 256 * 1024  # the longest prompt in the widest characters is half of it


@dataclass(frozen=True, slots=True)
class FormFile:
    """One file of a form; name is the field's."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """What a form held. Fields come once each."""

    fields: dict[str, str]
    files: list[FormFile]


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)


class _Reader:
    """Callbacks of the parser; each raises CallRefused at the first byte too many."""

    def __init__(self, *, file_bytes_max: int) -> None:
        self.form = Form({}, [])
        self.is_whole = False
        self._file_bytes_max = file_bytes_max
        self._part = _Part()
        self._n_parts = 0
        self._header_name = bytearray()
        self._header_value = bytearray()

    def on_part_begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > _N_PARTS_MAX:
            raise _malformed(f"expected at most {_N_PARTS_MAX} parts")
        self._part = _Part()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        self._part.headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"")
        if not name or len(name) > _NAME_CHARS_MAX:
            raise _malformed("expected every part to have a short name")
        self._part.name = name.decode("latin-1")
        self._part.is_file = b"filename" in options or b"filename*" in options

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.data += data[start:end]
        n_max = self._file_bytes_max if part.is_file else _FIELD_BYTES_MAX
        if len(part.data) > n_max:
            message = f"Expected {part.name} to have at most {n_max} bytes."
            code = "image_file_too_large" if part.is_file else "string_above_max_length"
            raise CallRefused(Kind.INVALID, code, message, param=part.name)

    def on_part_end(self) -> None:
        part = self._part
        if part.is_file:
            self.form.files.append(FormFile(part.name, bytes(part.data)))
            return
        if part.name in self.form.fields:
            raise CallRefused(Kind.INVALID, "duplicate_parameter", f"{part.name} was sent twice.", param=part.name)
        try:
            self.form.fields[part.name] = part.data.decode()
        except UnicodeDecodeError as error:
            message = f"Expected {part.name} to be UTF-8 text."
            raise CallRefused(Kind.INVALID, "invalid_value", message, param=part.name) from error

    def on_end(self) -> None:
        self.is_whole = True


async def read_form(chunks: AsyncIterator[bytes], *, content_type: str, file_bytes_max: int) -> Form:
    """
    Return the form of a body.

    Raises:
        CallRefused: for a malformed form or one beyond a limit.
    """
    _, options = parse_options_header(content_type.encode("latin-1"))
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise _malformed("expected a boundary in Content-Type")
    reader = _Reader(file_bytes_max=file_bytes_max)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.on_part_begin,
                "on_part_data": reader.on_part_data,
                "on_part_end": reader.on_part_end,
                "on_header_field": reader.on_header_field,
                "on_header_value": reader.on_header_value,
                "on_header_end": reader.on_header_end,
                "on_headers_finished": reader.on_headers_finished,
                "on_end": reader.on_end,
            },
        )
        async for chunk in chunks:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise _malformed(str(error)) from error
    if not reader.is_whole:
        raise _malformed("expected a closing boundary")
    return reader.form


def _malformed(why: str) -> CallRefused:
    return CallRefused(Kind.INVALID, "invalid_multipart", f"The form could not be read: {why}.")
