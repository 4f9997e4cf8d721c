"""What the three services share: a small web server and a plain HTTP call, both of Python's own library.

Nothing here knows of Pillion but one line: where the sidecar listens (PILLION_OUTBOUND_URL, which it sets).
"""

import http.client
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit


def call(service, path, how, **query):
    """Calls another service: the sidecar's address on this machine, the service's name as the host. Returns the
    answer's JSON. `how` is GET or POST. Any failure is an Unanswered that carries the status and the sidecar's own words."""
    sidecar = urlsplit(os.environ["PILLION_OUTBOUND_URL"])
    connection = http.client.HTTPConnection(sidecar.hostname, sidecar.port, timeout=30)
    try:
        connection.request(how, f"{path}?{urlencode(query)}", headers={"Host": service})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Unanswered(answer.status, f"{service}: {answer.status} {body.decode(errors='replace')[:500]}")
        return json.loads(body)
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(502, f"{service}: {error!r}") from error
    finally:
        connection.close()


class Unanswered(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept alive
    wbufsize = -1  # an answer leaves in one piece
    routes = {}  # path -> function(query, headers), which returns text (a page) or anything that JSON can hold

    def do_GET(self):
        url = urlsplit(self.path)
        route = self.routes.get(url.path)
        if route is None:
            return self.answer(404, {"error": f"no {url.path} here"})
        try:
            self.answer(200, route(dict(parse_qsl(url.query)), self.headers))
        except Unanswered as error:
            self.answer(error.status, {"error": str(error)})
        except (KeyError, ValueError) as error:
            self.answer(400, {"error": f"bad query: {error!r}"})

    do_POST = do_GET  # everything stands in the query; a POST's body is empty

    def answer(self, status, content):
        page = isinstance(content, str)
        body = content.encode() if page else json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serve(port, routes):
    Service.routes = routes
    try:
        Server(("127.0.0.1", port), Service).serve_forever()
    except KeyboardInterrupt:
        pass
