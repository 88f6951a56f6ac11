"""Log lines as JSON, one object a line, with the fields that a log call gave as ``extra={"event": {…}}``."""

from __future__ import annotations

import json
import logging


class JsonLines(logging.Formatter):
    """``at`` (Unix seconds), ``level``, ``logger``, ``message``, and what the call itself added."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "event", {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)
