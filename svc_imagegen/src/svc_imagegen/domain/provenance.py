"""
Who made a picture, written into its file as XMP, without touching a pixel.

Every format has a block for it: an iTXt chunk, an APP1 segment, an `XMP ` chunk, an application extension. Machine-made
pictures carry IPTC's DigitalSourceType, which search engines and editors show: `trainedAlgorithmicMedia` for a model's,
`algorithmicMedia` for a simulated one, which no model made. A packet that the provider wrote is replaced; its C2PA
manifest stays, and validators will say that the file was changed after it was signed, which is true.

Source: IPTC Photo Metadata Standard 2025.1 (AISystemUsed, DigitalSourceType); XMP specification part 3, 2020.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from xml.sax.saxutils import escape, unescape

from svc_imagegen.domain.containers import (
    GIF,
    JPEG,
    PNG,
    PNG_SIGNATURE,
    WEBP,
    Block,
    gif_blocks,
    jpeg_blocks,
    png_blocks,
    webp_blocks,
)

_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_PNG_KEYWORD: Final = b"XML:com.adobe.xmp"
_JPEG_PREFIX: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_GIF_EXTENSION: Final = b"!\xff\x0bXMP DataXMP"
# A reader that skips sub-blocks lands on one of these bytes wherever it comes from, and so finds the end.
_GIF_TRAILER: Final = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
_FIELD: Final = re.compile(r'qraft:(\w+)="([^"]*)"')
_QUOTES: Final = {'"': "&quot;", "\n": "&#10;", "\t": "&#9;"}
_UNQUOTES: Final = {value: key for key, value in _QUOTES.items()}
# What XML cannot hold at all: a provider's or a model's name may come from a configuration file.
_NOT_XML: Final = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
_VALUE_LENGTH_MAX: Final = 512  # keeps the packet far below the 65,502 bytes of a JPEG segment

_PACKET: Final = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:qraft="urn:qraft:provenance:1"
 xmp:CreatorTool="Qraft" xmp:CreateDate="{created_at}"
 Iptc4xmpExt:DigitalSourceType="{source_type}" Iptc4xmpExt:AISystemUsed="{provider}/{model}"
 qraft:label="{label}" qraft:origin="{origin}" qraft:provider="{provider}" qraft:model="{model}"
 qraft:jobId="{job_id}" qraft:createdAt="{created_at}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a picture comes from. is_simulated: drawn by a program as a placeholder, by no model."""

    provider: str
    model: str
    job_id: str
    created_at: datetime
    is_simulated: bool

    @property
    def origin(self) -> str:
        """Return real or simulated."""
        return "simulated" if self.is_simulated else "real"


def stamp(data: bytes, media_type: str, provenance: Provenance) -> bytes:
    """
    Return the file with its provenance written in, in place of any XMP that it had. The pixels stay bit for bit.

    Args:
        data: a whole picture, as `Pictures.verify` accepted it.
        media_type: of the data, as verified.

    Raises:
        BadPicture: if the data is no whole picture of that type.
        ValueError: for a media type that none of the four formats has.
    """
    packet = _packet(provenance).encode()
    if media_type == PNG:
        return _into_png(data, packet)
    if media_type == JPEG:
        return _into_jpeg(data, packet)
    if media_type == WEBP:
        return _into_webp(data, packet)
    if media_type == GIF:
        return _into_gif(data, packet)
    raise ValueError(f"expected image/png, image/jpeg, image/webp or image/gif, received {media_type!r}")


def read_provenance(data: bytes, media_type: str) -> Provenance | None:
    """Return what `stamp` wrote, or None. It is a label, not a proof: anybody can write one."""
    packet = _find_packet(data, media_type)
    fields = {name: unescape(value, _UNQUOTES) for name, value in _FIELD.findall(packet)}
    try:
        return Provenance(
            provider=fields["provider"],
            model=fields["model"],
            job_id=fields["jobId"],
            created_at=datetime.fromisoformat(fields["createdAt"]),
            is_simulated=fields["origin"] != "real",
        )
    except (KeyError, ValueError):
        return None


def _packet(provenance: Provenance) -> str:
    source_type = "algorithmicMedia" if provenance.is_simulated else "trainedAlgorithmicMedia"
    label = "Simulated placeholder, made by no model" if provenance.is_simulated else "AI-generated"
    values = {
        "source_type": _SOURCE_TYPES + source_type,
        "label": label,
        "origin": provenance.origin,
        "provider": provenance.provider,
        "model": provenance.model,
        "job_id": provenance.job_id,
        "created_at": provenance.created_at.isoformat(),
    }
    return _PACKET.format(**{name: _attribute(value) for name, value in values.items()})


def _attribute(value: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", value)[:_VALUE_LENGTH_MAX], _QUOTES)


def _find_packet(data: bytes, media_type: str) -> str:
    found = b""
    if media_type == PNG:
        found = next((_of(data, it) for it in png_blocks(data) if _is_png_xmp(data, it)), b"")
    elif media_type == JPEG:
        found = next((_of(data, it) for it in jpeg_blocks(data) if _is_jpeg_xmp(data, it)), b"")
    elif media_type == WEBP:
        found = next((_of(data, it) for it in webp_blocks(data) if it.kind == b"XMP "), b"")
    elif media_type == GIF:
        found = next((_of(data, it) for it in gif_blocks(data) if _is_gif_xmp(data, it)), b"")
    return found.decode("utf-8", "replace")


def _into_png(data: bytes, packet: bytes) -> bytes:
    # Keyword, no compression, no language, no translated keyword; right behind the header, before any pixel.
    chunk = b"iTXt" + _PNG_KEYWORD + bytes(5) + packet
    ours = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    kept = [it for it in png_blocks(data) if not _is_png_xmp(data, it)]
    return PNG_SIGNATURE + _joined(data, kept[:1]) + ours + _joined(data, kept[1:])


def _into_jpeg(data: bytes, packet: bytes) -> bytes:
    body = _JPEG_PREFIX + packet
    ours = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    kept = [it for it in jpeg_blocks(data) if not _is_jpeg_xmp(data, it)]
    # Behind JFIF and Exif, which have to come first.
    at = next(i for i, it in enumerate(kept) if i > 0 and not _is_jpeg_head(data, it))
    return _joined(data, kept[:at]) + ours + _joined(data, kept[at:])


def _into_webp(data: bytes, packet: bytes) -> bytes:
    kept = [it for it in webp_blocks(data) if it.kind != b"XMP "]
    if kept and kept[0].kind == b"VP8X":
        flags = data[kept[0].body] | 0x04
        head = data[kept[0].start : kept[0].body] + bytes((flags,)) + data[kept[0].body + 1 : kept[0].end]
        rest = kept[1:]
    else:
        head, rest = _webp_head(data, kept[0]), kept
    ours = b"XMP " + len(packet).to_bytes(4, "little") + packet + bytes(len(packet) % 2)
    form = b"WEBP" + head + _joined(data, rest) + ours
    return b"RIFF" + len(form).to_bytes(4, "little") + form


def _webp_head(data: bytes, pixels: Block) -> bytes:
    """Return the extended header that a simple WebP needs before it may carry XMP."""
    body = data[pixels.body : pixels.body + 10]
    if pixels.kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width_less_one, height_less_one, has_alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    else:
        width_less_one = (int.from_bytes(body[6:8], "little") & 0x3FFF) - 1
        height_less_one = (int.from_bytes(body[8:10], "little") & 0x3FFF) - 1
        has_alpha = 0
    flags = 0x04 | (0x10 if has_alpha else 0)
    sizes = width_less_one.to_bytes(3, "little") + height_less_one.to_bytes(3, "little")
    return b"VP8X" + (10).to_bytes(4, "little") + bytes((flags, 0, 0, 0)) + sizes


def _into_gif(data: bytes, packet: bytes) -> bytes:
    kept = [it for it in gif_blocks(data) if not _is_gif_xmp(data, it)]
    # Extensions came with GIF89a. Ours goes before the end: the loop count of an animation has to come first.
    head = b"GIF89a" + data[6 : kept[0].end]
    return head + _joined(data, kept[1:-1]) + _GIF_EXTENSION + packet + _GIF_TRAILER + b";"


def _is_png_xmp(data: bytes, block: Block) -> bool:
    return block.kind == b"iTXt" and data.startswith(_PNG_KEYWORD + b"\x00", block.body)


def _is_jpeg_xmp(data: bytes, block: Block) -> bool:
    return block.kind == b"\xe1" and data.startswith(b"http://ns.adobe.com/x", block.body)


def _is_jpeg_head(data: bytes, block: Block) -> bool:
    return block.kind == b"\xe0" or (block.kind == b"\xe1" and data.startswith(b"Exif\x00", block.body))


def _is_gif_xmp(data: bytes, block: Block) -> bool:
    return block.kind == b"!" and data.startswith(_GIF_EXTENSION, block.start)


def _of(data: bytes, block: Block) -> bytes:
    return data[block.body : block.body_end]


def _joined(data: bytes, blocks: list[Block]) -> bytes:
    return b"".join(data[it.start : it.end] for it in blocks)
