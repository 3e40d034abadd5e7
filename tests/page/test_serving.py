"""The page as a server: what it answers, where it cannot be, and what it bears."""

import importlib.util
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.page.app import AT_ONE_TIME, MOST_WAITING, build_page
from hf_rnn_s2s.page.heat_map import heat_map
from hf_rnn_s2s.page.models import load_model
from hf_rnn_s2s.page.n_best import n_best_table
from hf_rnn_s2s.page.serving import (
    ANY_PORT,
    DEFAULT_PORT,
    LOOPBACK,
    MOST_BYTES,
    launch,
    load_page,
    require_free,
    serve,
    space_address,
)
from hf_rnn_s2s.page.writing import write

from .saved import EXAMPLES, save_model

TEXT = "one red cat sleeps on the big mat"


@contextmanager
def served(*folders: Path) -> Iterator[str]:
    """The address of a page of these models, while it is served."""
    page = load_page(folders)
    try:
        yield launch(page, port=ANY_PORT)
    finally:
        page.close(verbose=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny", num_attention_heads=2)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder) as where:
        yield where


def client(address: str) -> Client:
    return Client(address, verbose=False, analytics_enabled=False)


def test_programs_get_what_the_pipeline_gives(folder: Path, address: str) -> None:
    assert address.startswith(f"http://{LOOPBACK}:")
    written = write(load_model(folder), TEXT, 4, 0.5)
    assert written.alignment is not None
    assert client(address).predict(TEXT, 4, 0.5, api_name="/translate") == (
        written.candidates[0].text,
        n_best_table(written.candidates, "translation"),
        heat_map(*written.alignment),
    )


def test_the_page_has_the_examples_and_no_analytics(address: str) -> None:
    config = httpx.get(f"{address}config").json()
    [examples] = [part["props"] for part in config["components"] if part["type"] == "dataset"]
    assert examples["samples"] == [[example] for example in EXAMPLES]
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert not config.get("run_history")  # which older versions of gradio do not have
    assert "Translates English to German." in httpx.get(address).text


def test_a_request_of_a_megabyte_is_answered_in_one_line(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AppError) as refusal:
        client(address).predict("x" * 2**20, 4, 1.0, api_name="/translate")
    message = str(refusal.value)
    assert "The text has 1,048,576 characters, and this page takes at most 20,000." in message
    assert "\n" not in message
    assert client(address).predict("the dog", 2, 1.0, api_name="/translate")[0]  # and it goes on
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_larger_request_is_not_even_read(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    body = {"data": ["x" * MOST_BYTES["text"], 4, 1.0]}
    answer = httpx.post(f"{address}gradio_api/call/translate", json=body)
    assert (answer.status_code, answer.json()) == (
        413, {"detail": f"The request has more than {MOST_BYTES['text']:,} bytes, the most allowed."}
    )  # fmt: skip
    assert httpx.get(address).status_code == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_nobody_goes_past_the_queue(address: str) -> None:
    answer = httpx.post(f"{address}gradio_api/run/translate", json={"data": ["the dog", 4, 1.0]})
    assert (answer.status_code, "join the queue" in answer.text) == (404, True)


class Waiting:
    """A pipeline that waits until it may go on, and counts how many wait with it."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.may_go_on = threading.Event()
        self.count = 0
        self.most = 0
        self.changing = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)

    def __call__(self, text: str, **arguments: Any) -> Any:
        with self.changing:
            self.count += 1
            self.most = max(self.most, self.count)
        self.may_go_on.wait()
        with self.changing:
            self.count -= 1
        return self.pipeline(text, **arguments)


def test_few_texts_are_written_from_at_one_time_and_not_many_wait(folder: Path) -> None:
    model = load_model(folder)
    pipeline = Waiting(model.pipeline)
    models = [model._replace(pipeline=pipeline), model._replace(pipeline=pipeline, name="other")]
    page = build_page(models)
    where = f"{launch(page, port=ANY_PORT)}gradio_api/call/translate"
    answers = [httpx.post(f"{where}_{1 + number % 2}", json={"data": ["the dog", 2, 1.0]}) for number in range(40)]
    accepted = [answer.json()["event_id"] for answer in answers if answer.status_code == 200]
    refused = [answer.json()["detail"] for answer in answers if answer.status_code != 200]
    assert MOST_WAITING <= len(accepted) <= MOST_WAITING + AT_ONE_TIME
    assert len(refused) == 40 - len(accepted)
    assert all(f"Max size is {MOST_WAITING}" in detail for detail in refused), refused[0]
    pipeline.may_go_on.set()
    done = [httpx.get(f"{where}_1/{event}", timeout=None).text for event in accepted[::2]]
    assert all("event: complete" in one for one in done)
    assert pipeline.most == AT_ONE_TIME
    page.close(verbose=False)


def test_values_beyond_the_sliders_are_refused(address: str) -> None:
    with pytest.raises(AppError, match="Value 1000000 is greater than maximum value 10"):
        client(address).predict("the dog", 10**6, 1.0, api_name="/translate")


def test_two_models_side_by_side(folder: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "tiny", seed=1)  # of the same name
    with served(folder, other) as where:
        first, second = (client(where).predict(TEXT, 3, 1.0, api_name=f"/translate_{number}") for number in (1, 2))
        page = httpx.get(where).text
    assert [first[0], second[0]] == [
        write(load_model(one), TEXT, 3, 1.0).candidates[0].text for one in (folder, other)
    ]
    assert first[0] != second[0]
    assert f"{folder} and {other}: Translation" in page


def test_a_port_in_use_is_refused_before_anything_is_loaded(folder: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        message = (
            rf"The page cannot be served at 127\.0\.0\.1, port {port} \(Address already in use\)\. Choose another"
        )
        with pytest.raises(UsageError, match=message) as refusal:
            serve(["there/is/no/such/model"], port=port)
        assert "\n" not in str(refusal.value)
        with pytest.raises(UsageError, match=message):
            launch(load_page([folder]), port=port)


@pytest.mark.parametrize(("host", "port"), [("no..host", 0), (LOOPBACK, 70000), ("203.0.113.1", 0)])
def test_an_address_that_nobody_can_listen_at(host: str, port: int) -> None:
    with pytest.raises(UsageError, match=rf"The page cannot be served at {host}, port {port} \([^\n]+\)\. Choose"):
        require_free(host, port)


def test_an_address_of_ipv6(folder: Path) -> None:
    try:
        require_free("::1", ANY_PORT)
    except UsageError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    page = load_page([folder])
    where = launch(page, "::1", ANY_PORT)
    assert where.startswith("http://[::1]:")
    assert httpx.get(where).status_code == 200
    page.close(verbose=False)


def test_any_port_is_one_that_is_free() -> None:
    port = require_free(LOOPBACK, ANY_PORT)
    assert 1024 <= port < 65536
    assert require_free(LOOPBACK, port) == port


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"The folder \S+ holds no model"):
        load_page([tmp_path / "empty"])
    with pytest.raises(UsageError, match="one model, or two side by side; 0 were given"):
        load_page([])


def test_without_gradio_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find(name))
    with pytest.raises(UsageError, match=r'The page needs gradio: pip install -c constraints\.txt -e "\.\[page\]"'):
        load_page([folder])


def test_gradio_is_imported_for_a_page_alone() -> None:
    code = "import sys; from hf_rnn_s2s.page import serving, space; print({'gradio', 'fastapi'} & {*sys.modules})"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout == "set()\n"


def test_a_proxy_for_the_network_is_not_asked_for_the_own_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.org")
    with socket.create_server((LOOPBACK, 0)) as proxy:  # which answers nobody
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://{LOOPBACK}:{proxy.getsockname()[1]}")
        with served(folder) as where, urllib.request.urlopen(where) as answer:
            assert answer.status == 200


def test_where_a_space_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert space_address() == (LOOPBACK, DEFAULT_PORT)
    monkeypatch.setenv("SPACE_ID", "org/name")
    assert space_address() == ("0.0.0.0", DEFAULT_PORT)
    monkeypatch.setenv("GRADIO_SERVER_NAME", "::1")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "8000")
    assert space_address() == ("::1", 8000)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "x")
    with pytest.raises(UsageError, match="GRADIO_SERVER_PORT='x' must be the number of a port"):
        space_address()
