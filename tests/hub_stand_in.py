"""A hub of Hugging Face on this computer: what huggingface_hub asks of it when it uploads."""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import yaml

TOKENS = {"writes": None, "reads": 403}  # token -> how its wish to write is answered


@contextmanager
def stand_in():
    """Yield what is known of the hub: its address, its repositories and their files."""
    hub = SimpleNamespace(repos={}, files={}, stored={}, asked=[])

    class Answers(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def read(self):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self, content, status=200):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self):
            content = self.read()
            hub.stored[hashlib.sha256(content).hexdigest()] = content
            self.answer({})

        def do_POST(self):
            body, token = self.read(), (self.headers.get("Authorization") or "").split(" ")[-1]
            hub.asked.append(self.path)
            if self.path == "/api/validate-yaml":
                return self.answer(*check_card(json.loads(body)["content"]))
            if token not in TOKENS:
                return self.answer({"error": "Invalid username or password."}, 401)
            if TOKENS[token]:
                return self.answer({"error": "You don't have the rights"}, TOKENS[token])
            if self.path == "/api/repos/create":
                wish = json.loads(body)
                name = f"{wish['organization']}/{wish['name']}"
                if wish["organization"] == "nobody":
                    return self.answer({"error": "Not found"}, 404)
                status = 409 if name in hub.repos else 200
                hub.repos.setdefault(name, wish)
                return self.answer({"url": f"{hub.address}/{name}"}, status)
            if "/preupload/" in self.path:
                return self.answer({"files": [choose_way(f) for f in json.loads(body)["files"]]})
            if self.path.endswith("/info/lfs/objects/batch"):
                way = {"actions": {"upload": {"href": f"{hub.address}/put"}}}
                objects = [each | way for each in json.loads(body)["objects"]]
                return self.answer({"transfer": "basic", "objects": objects})
            if "/commit/" in self.path:
                commit(hub, body)
                name = re.search("/api/models/(.*)/commit/", self.path)[1]
                url = f"{hub.address}/{name}/commit/{'0' * 40}"
                return self.answer({"commitUrl": url, "commitOid": "0" * 40})
            return self.answer({"error": f"the stand-in has no {self.path}"}, 500)

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()


def check_card(content):
    """Refuse a card as the hub does whose head is no YAML, or lacks what a result needs."""
    try:
        head = yaml.safe_load(content.split("---\n")[1])
        for result in head["model-index"][0]["results"]:
            data = result["dataset"]
            assert result["task"]["type"] and data["type"] and data["name"]
            assert all(m["type"] and m["value"] is not None for m in result["metrics"])
    except Exception as error:
        return {"errors": [{"message": repr(error)}], "warnings": []}, 400
    return {"errors": [], "warnings": []}, 200


def choose_way(file):
    is_large = file["path"].endswith((".safetensors", ".onnx", ".model"))
    mode = "lfs" if is_large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def commit(hub, body):
    """Take over the files of a commit; KeyError for one that was not sent before."""
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            hub.files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            hub.files[value["path"]] = hub.stored[value["oid"]]
