"""Shows models on a page that this machine serves: to its own browsers alone, unless another address is given."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError
from .models import PageModel, load_model

if TYPE_CHECKING:
    import gradio as gr

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 7860
ANY_PORT = 0
A_MOMENT = 1.0  # seconds
MOST_BYTES = {"text": 4 * 2**20, "recordings": 64 * 2**20}  # of a request


def serve(models: Sequence[str | os.PathLike[str]], host: str = LOOPBACK, port: int | None = None) -> None:
    """Show one model, or two side by side, until Ctrl+C is pressed.

    Nothing is sent anywhere: no analytics, no fonts, no scripts from elsewhere. Models on the Hub are fetched first.

    Args:
        models: folders, or names on the Hub.
        host: the address to listen at. The default can be reached from this machine alone; "0.0.0.0" is for all.
        port: by default 7860; 0 takes any that is free.

    Raises:
        UsageError: in one line: gradio is not installed, a model is not there or of another kind, or the address
            cannot be listened at.
    """
    require_free(host, DEFAULT_PORT if port is None else port)  # before models are loaded
    show(load_page(models), host, port)


def show(page: gr.Blocks, host: str = LOOPBACK, port: int | None = None) -> None:
    """Show a page until Ctrl+C is pressed.

    Args:
        page: of `load_page`.
        host: as in `serve`.
        port: as in `serve`.

    Raises:
        UsageError: if the address cannot be listened at.
    """
    address = launch(page, host, port)
    print(f"The page is at {address} (Ctrl+C ends it).", flush=True)
    try:
        never = threading.Event()
        while not never.wait(A_MOMENT):  # where another thread gets the signal, it counts when this one wakes up
            pass
    except KeyboardInterrupt:
        print()
    finally:
        page.close(verbose=False)


def load_page(models: Sequence[str | os.PathLike[str]]) -> gr.Blocks:
    """The page of one model, or two side by side, ready for `launch`.

    Args:
        models: folders, or names on the Hub.

    Raises:
        UsageError: if gradio is not installed, or a model is not there, of another kind, or reads something else.
    """
    require_gradio()
    from .app import build_page

    return build_page(told_apart([load_model(location) for location in models]))


def launch(page: gr.Blocks, host: str = LOOPBACK, port: int | None = None) -> str:
    """Show a page, and go on; `page.close()` ends it.

    Args:
        page: of `load_page` or `build_page`.
        host: as in `serve`.
        port: as in `serve`.

    Returns:
        The address of the page.

    Raises:
        UsageError: if the address cannot be listened at.
    """
    require_gradio()
    import gradio as gr
    from fastapi.middleware import Middleware

    from .app import theme
    from .limits import RequestLimit

    chosen = require_free(host, DEFAULT_PORT if port is None else port)
    _reach_directly(host)
    listens = any(isinstance(block, gr.Audio) for block in page.blocks.values())
    most_bytes = MOST_BYTES["recordings" if listens else "text"]
    try:
        page.launch(
            server_name=f"[{host}]" if ":" in host and "[" not in host else host,  # as in an address of the web
            server_port=chosen,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inline=False,
            footer_links=[],
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=most_bytes,
            theme=theme(),
            app_kwargs={"middleware": [Middleware(RequestLimit, most_bytes=most_bytes)]},
        )
    except OSError as error:
        raise UsageError(f"The page cannot be served at {host}, port {chosen}: {error}") from error
    return str(page.local_url)


def space_address() -> tuple[str, int]:
    """Where a Space is expected to listen, and on any other machine the defaults, unless gradio's settings differ."""
    host = "0.0.0.0" if "SPACE_ID" in os.environ else LOOPBACK
    port = os.environ.get("GRADIO_SERVER_PORT", str(DEFAULT_PORT))
    if not port.isdecimal():
        raise UsageError(f"GRADIO_SERVER_PORT={port!r} must be the number of a port.")
    return os.environ.get("GRADIO_SERVER_NAME", host), int(port)


def require_free(host: str, port: int) -> int:
    """Check that an address can be listened at.

    Returns:
        The port; one that is free for `ANY_PORT`.

    Raises:
        UsageError: if it cannot, because the port is in use for example.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            if os.name == "posix":  # elsewhere this would take a port away from another program
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError, UnicodeError) as error:  # the others: no port, and no name of a host
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"The page cannot be served at {host}, port {port} ({reason}). Choose another port; {ANY_PORT} takes any "
            "that is free."
        ) from error


def require_gradio() -> None:
    """Check that gradio is installed, and tell it to keep to itself before it is imported.

    Raises:
        UsageError: if it is not.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UsageError(
            'The page needs gradio: pip install -c constraints.txt -e ".[page]" in a clone of the repository.'
        )
    # Read when gradio is imported and when a page is launched. Without them it would ask the network for its newest
    # version, and browsers would keep what was typed.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"


def told_apart(models: Sequence[PageModel]) -> list[PageModel]:
    """The models, with their locations for names where two have the same name."""
    names = [model.name for model in models]
    if len(set(names)) == len(names):
        return list(models)
    return [model._replace(name=model.location) for model in models]


def _reach_directly(host: str) -> None:
    """Let gradio, which looks whether its own page is there, do so without a proxy that may be set for the network."""
    for name in ("NO_PROXY", "no_proxy"):
        known = [one for one in os.environ.get(name, "").split(",") if one]
        os.environ[name] = ",".join(dict.fromkeys([*known, "localhost", LOOPBACK, host]))
