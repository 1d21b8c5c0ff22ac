"""A server on the loopback interface that speaks the part of the Hub's HTTP API that models need.

Repositories of models and Spaces with branches, commits, large files and pull requests, plus the refusals a user can
meet: no token, gated, gone in the middle of an upload. Clients need HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

DATE = "2026-01-01T00:00:00.000Z"
LARGE = (".safetensors",)
REPO = r"/api/(?:models|spaces)/(?P<repo>[^/]+/[^/]+)"  # the names of both are one list here


def digest(data: bytes, kind: str = "sha256") -> str:
    return hashlib.new(kind, data).hexdigest()


@dataclass
class Repository:
    private: bool = False
    sdk: str | None = None  # of a Space
    gated: bool = False
    branches: dict = field(default_factory=dict)  # name -> commit id
    commits: dict = field(default_factory=dict)  # commit id -> {path: bytes}
    history: list = field(default_factory=list)  # (branch, title), newest last

    def commit(self, branch, files, title):
        identity = repr((len(self.history), title, sorted((p, digest(d)) for p, d in files.items())))
        sha = digest(identity.encode(), "sha1")
        self.commits[sha] = files
        self.branches[branch] = sha
        self.history.append((branch, title))
        return sha

    def find(self, revision):
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class LoopbackHub:
    """The server; `url` is its address, `repos` its content, `requests` what was asked."""

    def __init__(self):
        self.repos: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse_tokens = False
        self.require_tokens = False
        self.break_uploads = False
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.lock = threading.RLock()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def files(self, repo, revision="main"):
        entry = self.repos[repo]
        return entry.commits[entry.find(revision)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *args):
        return

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer(self, content=None, status=200, headers=None, length=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, str(value))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status, code, message):
        self.answer({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    def handle_request(self):
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        self.body = self.read_body() if self.command in ("POST", "PUT") else b""
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
            for methods, pattern, function in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in methods:
                    return function(self, **match.groupdict())
        return self.refuse(404, "EntryNotFound", f"no route {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def repository(self, name):
        repo = self.hub.repos.get(name)
        if repo is None:
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif repo.gated:
            self.refuse(403, "GatedRepo", "Access to this model is restricted")
            return None
        return repo

    def revision(self, repo, name):
        sha = repo.find(name)
        if sha is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
        return sha

    # ---- writing

    def create_repo(self):
        nobody = self.hub.require_tokens and not self.headers.get("Authorization")
        if self.hub.refuse_tokens or nobody:
            return self.refuse(401, "Unauthorized", "Invalid username or password.")
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'user'}/{asked['name']}"
        reply = {"url": f"{self.hub.url}/{name}", "name": name, "id": "0"}
        if name in self.hub.repos:
            return self.answer({"error": "exists already", **reply}, 409)
        private = bool(asked.get("private") or asked.get("visibility") == "private")
        self.hub.repos[name] = Repository(private, asked.get("sdk"))
        self.hub.repos[name].commit("main", {}, "initial commit")
        return self.answer(reply)

    def create_branch(self, repo, revision):
        entry = self.hub.repos[repo]
        if revision in entry.branches:
            return self.answer({"error": "Reference already exists"}, 409)
        entry.branches[revision] = entry.branches["main"]
        return self.answer({})

    def preupload(self, repo, revision):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(self.body)["files"]
        ]
        self.answer({"files": files})

    def large_batch(self, repo):
        objects = []
        for item in json.loads(self.body)["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.url}/large/{item['oid']}"},
                "verify": {"href": f"{self.hub.url}/verify"},
            }
            objects.append({"oid": item["oid"], "size": item["size"], "actions": actions})
        self.answer({"transfer": "basic", "objects": objects})

    def large_upload(self, oid):
        if self.hub.break_uploads:
            return self.refuse(400, "BadRequest", "the connection was lost")
        self.hub.blobs[oid] = self.body
        return self.answer({})

    def verify(self):
        self.answer({})

    def commit(self, repo, revision):
        entry = self.repository(repo)
        if entry is None:
            return None
        base = self.revision(entry, revision)
        if base is None:
            return None
        files, title = dict(entry.commits[base]), ""
        for line in filter(None, self.body.splitlines()):
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                title = value.get("summary", "")
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        number = len(entry.history)
        target = f"refs/pr/{number}" if self.query.get("create_pr") else revision
        sha = entry.commit(target, files, title)
        reply = {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repo}/commit/{sha}"}
        if target != revision:
            reply["pullRequestUrl"] = f"{self.hub.url}/{repo}/discussions/{number}"
        return self.answer(reply)

    def validate(self):
        self.answer({"errors": [], "warnings": []})

    # ---- reading

    def whoami(self):
        self.answer({"type": "user", "name": "user", "orgs": [], "auth": {"type": "access_token"}})

    def info(self, repo, revision="main"):
        entry = self.repository(repo)
        sha = entry and self.revision(entry, revision)
        if not sha:
            return
        siblings = [{"rfilename": path} for path in sorted(entry.commits[sha])]
        facts = {"id": repo, "modelId": repo, "sha": sha, "private": entry.private, "gated": False}
        self.answer({**facts, "tags": [], "siblings": siblings, "createdAt": DATE, "lastModified": DATE})

    def tree(self, repo, revision, path=None):
        entry = self.repository(repo)
        sha = entry and self.revision(entry, revision)
        if sha:
            self.answer([self.file_entry(name, data) for name, data in entry.commits[sha].items()])

    def paths_info(self, repo, revision):
        files = self.hub.files(repo, revision)
        asked = json.loads(self.body) if self.body[:1] == b"{" else parse_qs(self.body.decode())
        self.answer([self.file_entry(p, files[p]) for p in asked.get("paths", []) if p in files])

    def file_entry(self, path, data):
        return {"type": "file", "path": path, "size": len(data), "oid": digest(data, "sha1")}

    def resolve(self, repo, revision, path):
        entry = self.repository(repo)
        sha = entry and self.revision(entry, revision)
        if not sha:
            return
        data = entry.commits[sha].get(path)
        if data is None:
            codes = {
                "X-Error-Code": "EntryNotFound",
                "X-Error-Message": "Entry not found",
                "X-Repo-Commit": sha,
            }
            self.answer({"error": "Entry not found"}, 404, codes)
            return
        headers = {"X-Repo-Commit": sha, "ETag": f'"{digest(data)}"', "Accept-Ranges": "bytes"}
        self.answer(data, headers=headers)


H = _Handler
ROUTES = [
    (("GET",), r"/api/whoami-v2", H.whoami),
    (("POST",), r"/api/repos/create", H.create_repo),
    (("POST",), r"/api/validate-yaml", H.validate),
    (("POST",), REPO + r"/preupload/(?P<revision>.+)", H.preupload),
    (("POST",), REPO + r"/commit/(?P<revision>.+)", H.commit),
    (("POST",), REPO + r"/branch/(?P<revision>.+)", H.create_branch),
    (("POST",), REPO + r"/paths-info/(?P<revision>.+)", H.paths_info),
    (("GET", "HEAD"), REPO, H.info),
    (("GET", "HEAD"), REPO + r"/revision/(?P<revision>.+)", H.info),
    (("GET",), REPO + r"/tree/(?P<revision>refs/pr/\d+|[^/]+)(?:/(?P<path>.*))?", H.tree),
    (("POST",), r"/(?:spaces/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", H.large_batch),
    (("PUT",), r"/large/(?P<oid>[0-9a-f]{64})", H.large_upload),
    (("POST",), r"/verify", H.verify),
    (
        ("GET", "HEAD"),
        r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>refs/pr/\d+|[^/]+)/(?P<path>.+)",
        H.resolve,
    ),
]
