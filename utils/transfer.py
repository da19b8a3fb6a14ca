"""Fetches a file over HTTP so that it is there whole or not at all, and goes on after a break."""

import contextlib
import os
import socket
import ssl
import sys
import time
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from utils.disk import blaming, check_room, size_of
from utils.images import shown

PARTIAL = ".partial"  # behind the file's name, until it is whole
VALIDATOR = ".partial.etag"  # which version of the server's file the part is of
TIMEOUT = 60.0  # seconds of silence that count as a break
RETRIES = 6  # in a row that bring nothing
BACKOFF = 1.0  # seconds before the first of them, doubled each time
CHUNK = 1 << 18  # bytes


class _Broken(Exception):
    """The transfer stopped; trying again may help, unless the server was `unreached` at all."""

    def __init__(self, reason: object, unreached: bool = False) -> None:
        super().__init__(shown(str(reason) or type(reason).__name__))
        self.unreached = unreached


class _Redirects(HTTPRedirectHandler):
    """Follows a redirection, but not from HTTPS to anything else."""

    def redirect_request(self, req: Request, *args: Any) -> Request | None:
        if req.type == "https" and urlsplit(args[-1]).scheme != "https":
            raise ValueError(f"{_host(req.full_url)}: sends on to {_host(args[-1])} without "
                             "encryption; refused")
        return super().redirect_request(req, *args)


def fetch(url: str, path: Path) -> Path:
    """NAME.partial beside `path`, complete; a part that is there is gone on with if possible.

    `publish` makes `path` of it. A server that names no length cannot be checked to have sent all.

    Raises:
        FileNotFoundError: the server has no such file.
        ValueError: refused by the server, a web page instead of the file, no room on the disk.
        RuntimeError: no connection, or lost again and again; the part is kept.
        OSError: the disk is full, no permission; the part is kept.
    """
    partial = path.with_name(path.name + PARTIAL)
    most, failures, begun = size_of(partial), 0, False
    while True:
        try:
            _receive(url, partial, path.name)
            return partial
        except _Broken as broken:
            reason, unreached = f"{_host(url)}: {broken}", broken.unreached
        # More than ever: a server that always begins anew may stop at one place for ever.
        grown = size_of(partial) > most
        begun, most = begun or grown, max(most, size_of(partial))
        failures = 0 if grown else failures + 1
        # Before the first byte, a wrong address is likelier than a network gone for a moment.
        if unreached and not begun:
            raise RuntimeError(f"{reason}; is the address right, is there a network?")
        if failures > RETRIES:
            raise RuntimeError(f"{reason}; run it again to go on")
        pause = BACKOFF * 2 ** max(0, failures - 1)
        say(f"{reason}; trying again in {pause:.0f} s")
        time.sleep(pause)


def publish(path: Path) -> None:
    """Gives the complete NAME.partial its name."""
    with blaming(path):
        os.replace(path.with_name(path.name + PARTIAL), path)
        path.with_name(path.name + VALIDATOR).unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Deletes NAME.partial."""
    with blaming(path):
        path.with_name(path.name + PARTIAL).unlink(missing_ok=True)
        path.with_name(path.name + VALIDATOR).unlink(missing_ok=True)


def remote_size(url: str) -> int | None:
    """Bytes of the file as its server says; None if it does not say, or cannot be reached."""
    with contextlib.suppress(OSError, HTTPException), _open(url, 0, "") as response:
        return _content_length(response.headers)
    return None


def say(text: str) -> None:
    """A line for people, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)


def _receive(url: str, partial: Path, name: str) -> None:
    """Appends to `partial` what is missing, or all of it if the server wants so.

    Raises:
        _Broken: before all was there.
    """
    validator = partial.with_name(name + VALIDATOR)
    response = _ask(url, partial, validator)
    if response is None:
        return
    with response:
        start = _check_range(response, max(0, size_of(partial)))
        length = _content_length(response.headers)
        total = None if length is None else start + length
        chunk = _read(response)
        if start == 0:  # looked at first, so that a hotel's login page does not replace a part
            _refuse_page(chunk, name, url)
        with blaming(partial):
            check_room(partial.parent, length or 0)
            if start < size_of(partial):
                say(f"{shown(name)}: the server has another version by now, or cannot go on from "
                    "a part; from the beginning")
            if start == 0:
                validator.write_text(_version(response.headers))
            with open(partial, "ab") as file, tqdm(
                total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=None
            ) as bar:
                file.truncate(start)
                while chunk:
                    file.write(chunk)
                    bar.update(len(chunk))
                    chunk = _read(response)
                file.flush()
                os.fsync(file.fileno())
    if total is not None and size_of(partial) != total:
        raise _Broken(f"connection lost after {size_of(partial):,} of {total:,} bytes")


def _ask(url: str, partial: Path, validator: Path) -> Any:
    """The response with what is behind the part; None if there is nothing more.

    Raises:
        FileNotFoundError, ValueError: the server will not give it.
        _Broken: not reached, or no answer.
    """
    start = max(0, size_of(partial))
    try:
        return _open(url, start, validator.read_text() if validator.exists() else "")
    except HTTPError as error:
        fault = f"{error.code} {shown(str(error.reason))}"
        if error.code == 416:  # no bytes from `start` on
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return None
            with blaming(partial):
                partial.unlink(missing_ok=True)
            raise _Broken("the part is longer than the file and deleted") from None
        if error.code in (404, 410):
            raise FileNotFoundError(f"{_host(url)}: {fault}; is the address right?") from None
        if error.code < 500 and error.code not in (408, 425, 429):
            raise ValueError(f"{_host(url)}: refused: {fault}") from None
        raise _Broken(fault) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ValueError(
                f"{_host(url)}: its certificate is not valid ({reason.verify_message}); are the "
                "clock and the system's certificates right?"
            ) from None
        unreached = isinstance(reason, (socket.gaierror, ConnectionRefusedError))
        raise _Broken(reason, unreached) from None


def _open(url: str, start: int, validator: str) -> Any:
    """The response to a request for the file from byte `start` on."""
    headers = {"User-Agent": "streetseg", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    return build_opener(_Redirects).open(Request(url, headers=headers), timeout=TIMEOUT)


def _check_range(response: Any, start: int) -> int:
    """Where the body of a response begins: at `start`, or at 0 if the server does not go on."""
    if response.status != 206:
        return 0
    given = response.headers.get("Content-Range", "")
    if not given.startswith(f"bytes {start}-"):
        raise ValueError(f"{_host(response.url)}: sent {shown(given)!r} when asked for bytes "
                         f"{start}-; delete the .partial file and run it again")
    return start


def _read(response: Any) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise _Broken(error) from None


def _refuse_page(chunk: bytes, name: str, url: str) -> None:
    if chunk.lstrip()[:1] == b"<" and not name.endswith((".html", ".htm", ".xml", ".svg")):
        raise ValueError(f"{_host(url)}: sent a web page instead of {shown(name)}; open the "
                         "address in a browser to see why")


def _version(headers: Message) -> str:
    """What the server calls this version of a file; a weak ETag does not promise equal bytes."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _host(url: str) -> str:
    """The server's name: the rest of an address may hold a token."""
    return shown(urlsplit(url).hostname or url)


def _content_length(headers: Message) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None
