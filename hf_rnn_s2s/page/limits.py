"""The largest request that the page reads. This module needs `fastapi`, which comes with `gradio`."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException


class RequestLimit:
    """Stops to read a request at a number of bytes, and answers it with status 413 and one line.

    Without it, a request takes as much memory as it has bytes.

    Args:
        app: the application (ASGI) behind it.
        most_bytes: of the body of a request.
    """

    def __init__(self, app: Any, most_bytes: int) -> None:
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and count what is read of it."""
        read = 0

        async def counted() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most_bytes:
                raise HTTPException(413, f"The request has more than {self.most_bytes:,} bytes, the most allowed.")
            return message

        await self.app(scope, counted, send)
