import socket
import threading

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mammoscope.network import ServiceError, WebService


def greet(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.path_params['name']}")


ROUTES = [Route("/hello/{name}", greet)]


def test_answers_what_the_routes_say_and_nothing_else() -> None:
    with WebService("127.0.0.1", 0, ROUTES) as service:
        assert service.url == f"http://127.0.0.1:{service.port}"
        answer = httpx.get(f"{service.url}/hello/node")
        assert (answer.status_code, answer.text) == (200, "hello node")
        assert "server" not in answer.headers
        assert httpx.get(f"{service.url}/other").status_code == 404
        assert httpx.post(f"{service.url}/hello/node").status_code == 405


def test_a_taken_port_is_told_in_one_sentence() -> None:
    with WebService("127.0.0.1", 0, ROUTES) as service, pytest.raises(ServiceError) as caught:
        WebService("127.0.0.1", service.port, ROUTES).start()
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1 port {service.port} for the web: Address already in use; choose a free port and"
        " an address of this machine"
    )


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ServiceError, match=r"cannot listen on no-such-host\.invalid port 0"):
        WebService("no-such-host.invalid", 0, ROUTES).start()


def test_after_stop_nobody_listens_and_it_starts_again() -> None:
    service = WebService("127.0.0.1", 0, ROUTES)
    service.start()
    service.stop()
    service.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port), timeout=5)
    with service:
        assert httpx.get(f"{service.url}/hello/again").text == "hello again"


def test_stop_lets_a_running_request_end() -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(_: Request) -> PlainTextResponse:
        entered.set()
        go.wait(30)
        return PlainTextResponse("done")

    service = WebService("127.0.0.1", 0, [Route("/slow", slow)])
    service.start()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{service.url}/slow", timeout=30).text))
    asking.start()
    assert entered.wait(30)
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    go.set()
    stopping.join(30)
    asking.join(30)
    assert answers == ["done"]


def test_https_with_our_certificate(certificates) -> None:
    ours = certificates.issue("node")
    with WebService("127.0.0.1", 0, ROUTES, tls=ours) as service:
        assert service.url.startswith("https://")
        with httpx.Client(verify=certificates.trusting_context()) as client:
            assert client.get(f"{service.url}/hello/node").text == "hello node"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{service.url}/hello/node")
