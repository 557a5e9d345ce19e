"""What the node serves to its administrator: ``/healthz``, ``/readyz`` and ``/metrics``."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mammoscope.node.metrics import Metrics
from mammoscope.node.readiness import Readiness

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def operate_routes(readiness: Readiness, metrics: Metrics) -> list[Route]:
    """Make the routes; none tells anything of a patient, so they ask for no token.

    ``/healthz`` answers 200 as long as the process lives; ``/readyz`` 200 when each part is well, else 503, with each
    part's own words; ``/metrics`` in Prometheus' text format.
    """

    def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    def readyz(_: Request) -> Response:
        answers = readiness.ask()
        ready = all(answer is None for answer in answers.values())
        parts = {name: answer or "ok" for name, answer in answers.items()}
        return JSONResponse({"ready": ready, "parts": parts}, status_code=200 if ready else 503)

    def page(_: Request) -> Response:
        return Response(metrics.page(), headers={"Content-Type": PROMETHEUS_TEXT})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", page)]
