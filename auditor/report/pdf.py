"""The report as a tagged PDF/A-3u with `audit.json` attached, made by WeasyPrint.

Nothing is fetched: pictures and fonts are served from memory under `audit:`, and any other address
ends the rendering. What WeasyPrint logs as an error, such as a picture without alternative text,
is a failure here. Dates come from the audit, so that the same audit gives the same file with the
same native libraries. The claim of PDF/A is WeasyPrint's; it is not validated here.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import weasyprint
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from auditor.errors import RunError
from auditor.record.schema import Audit
from auditor.report.html import Source, font_bytes, page
from auditor.report.parts import PDF
from auditor.report.pictures import Missing, Thumbnails
from auditor.report.text import instant
from auditor.report.view import build

__all__ = ["render"]

EPOCH = datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)  # where the audit tells no time


def render(audit: Audit, record: bytes, thumbnails: Thumbnails) -> bytes:
    """The PDF report, with `record`, the bytes of `audit.json`, attached.

    Raises:
        RunError: WeasyPrint reports an error.
    """
    served: dict[str, tuple[str, bytes]] = {}

    def picture(file: str) -> Source | Missing:
        thumbnail = thumbnails.get(file)
        if isinstance(thumbnail, Missing):
            return thumbnail
        url = f"audit:picture/{len(served)}.jpg"
        known = next((u for u, (_, data) in served.items() if data is thumbnail.jpeg), url)
        served[known] = ("image/jpeg", thumbnail.jpeg)
        return Source(known, thumbnail.width, thumbnail.height)

    def font(file: str) -> str:
        url = f"audit:font/{file}"
        served[url] = ("font/woff2", font_bytes(file))
        return url

    text = page(build(audit, PDF), "pdf", picture, font)
    finished = instant(audit.provenance.finished) or EPOCH
    attachment = weasyprint.Attachment(
        string=record,
        name="audit.json",
        description="The audit that this report shows",
        relationship="Source",
        created=finished,
        modified=finished,
    )
    with _errors() as errors, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its colour profile open
        try:
            document = weasyprint.HTML(string=text, url_fetcher=_Memory(served))
            data = document.write_pdf(
                pdf_variant="pdf/a-3u", pdf_tags=True, attachments=[attachment], finisher=_finish
            )
        except FatalURLFetchingError as error:
            raise RunError(f"The PDF report asked for something outside it: {error}.") from None
    if errors:
        raise RunError(f"The PDF report is faulty and was not written: {errors[0]}.")
    return bytes(data)


class _Memory(URLFetcher):  # type: ignore[misc]  # WeasyPrint ships no types
    """Serves what is in memory and refuses everything else."""

    def __init__(self, served: dict[str, tuple[str, bytes]]) -> None:
        super().__init__(allowed_protocols=("audit",), allow_redirects=False, fail_on_errors=True)
        self._served = served

    def fetch(self, url: str, headers: dict[str, str] | None = None) -> Any:
        if url not in self._served:
            raise FatalURLFetchingError(f"{url[:80]} is refused")
        kind, data = self._served[url]
        return URLFetcherResponse(url, data, {"Content-Type": kind})


class _Collector(logging.Handler):
    """Keeps the messages of errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(" ".join(record.getMessage().split()))


@contextlib.contextmanager
def _errors() -> Iterator[list[str]]:
    """Errors that WeasyPrint logs inside the block."""
    logger, collector = logging.getLogger("weasyprint"), _Collector()
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(min(level, logging.ERROR) if level else logging.ERROR)
    try:
        yield collector.messages
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)


def _finish(document: Any, pdf: Any) -> None:
    """Say which way each header cell points, and name the attachment once.

    WeasyPrint 70 leaves `/Scope` out of `/TH` and lists an attachment twice under `/AF`.
    """
    elements = {o.reference: o for o in pdf.objects if hasattr(o, "get")}
    for element in elements.values():
        if element.get("S") != "/TH":
            continue
        row = elements[element["P"]]
        in_head = elements[row["P"]].get("S") == "/THead"
        element["A"]["Scope"] = "/Column" if in_head else "/Row"
    if "AF" in pdf.catalog:
        files = pdf.catalog["AF"]
        files[:] = dict.fromkeys(files)
