"""A Hub on the loopback address for tests: the part of its protocol that pushing and loading a model use.

    with HubServer() as hub:
        ...  # a process with HF_ENDPOINT=hub.url creates repositories, uploads to them and loads from them
        hub.repositories["tester/model"].files("main")  # {path: bytes}

Large files go either way that huggingface_hub knows: LFS (with HF_HUB_DISABLE_XET=1) or Xet, whose real client then
stores into `hub.xet_folder`. Faults: `hub.fail_next(r"/commit/", status=503, times=2)`; or DROPPED: no answer. The
path of a request to create a repository ends in its name here, that of an upload through LFS in its repository's.
Everything that was asked is in `hub.requests`.
"""

import base64
import hashlib
import json
import re
import struct
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


DROPPED = 0
LARGE = (".safetensors", ".bin", ".parquet")  # suffixes that the Hub keeps out of git


@dataclass
class Blob:
    """A file of a commit: small ones hold their `content`, large ones only its `sha256`."""

    size: int
    sha256: str
    content: bytes | None = None

    @property
    def oid(self) -> str:
        if self.content is None:
            return self.sha256
        return hashlib.sha1(b"blob %d\0%s" % (self.size, self.content), usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    hub: "HubServer"
    private: bool
    branches: dict[str, str] = field(default_factory=dict)  # name -> sha of its last commit
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)  # sha -> path -> file

    def __post_init__(self):
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, Blob]) -> str:
        names = "".join(f"{path} {blob.sha256}\n" for path, blob in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)} {names}".encode(), usedforsecurity=False).hexdigest()
        self.branches[branch], self.commits[sha] = sha, files
        return sha

    def sha(self, revision: str) -> str:
        sha = self.branches.get(revision, revision)
        if sha not in self.commits:
            raise Refusal(404, "RevisionNotFound")
        return sha

    def files(self, revision: str = "main") -> dict[str, bytes | None]:
        """Contents by path; None for a large file that only Xet can read."""
        blobs = self.commits[self.sha(revision)]
        return {path: blob.content or self.hub.large_files.get(blob.sha256) for path, blob in blobs.items()}


class Refusal(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, code: str = "", body: dict | None = None):
        self.status, self.code, self.body = status, code, body or {"error": code or f"status {status}"}


class HubServer(ThreadingHTTPServer):
    """Serves while the `with` block lasts.

    Requests that write, or read of a private repository, need `token`; None: anybody may write.
    """

    daemon_threads = True

    def __init__(self, token: str | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.token = token
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}  # by sha256
        self.requests: list[str] = []  # "POST /api/repos/create", …
        self.faults: list[list] = []  # [pattern, status, times left]
        self.lock = threading.Lock()

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="spanbert-hub-")
        self.xet_folder = Path(self.temporary.name)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self.temporary.cleanup()

    def fail_next(self, path_regex: str, status: int, times: int = 1) -> None:
        """The next `times` requests whose path matches get `status`, or no answer for DROPPED."""
        self.faults.append([path_regex, status, times])

    def fault(self, path: str) -> int | None:
        with self.lock:
            for fault in self.faults:
                if fault[2] and re.search(fault[0], path):
                    fault[2] -= 1
                    return fault[1]
        return None

    def repository(self, name: str) -> Repository:
        if name not in self.repositories:
            raise Refusal(404, "RepoNotFound")
        return self.repositories[name]

    def xet_hash(self, sha256: str) -> str | None:
        """Xet's name of a file that its client has stored, read from the shards beside the data."""
        for shard in self.xet_folder.rglob("*.mdb"):
            data, place = shard.read_bytes(), 48
            while data[place : place + 32] != b"\xff" * 32:
                flags, num_terms = struct.unpack_from("<II", data, place + 32)
                end = place + 48 + 48 * num_terms * (2 if flags >> 31 & 1 else 1)
                if flags >> 30 & 1:
                    if xet_hex(data[end : end + 32]) == sha256:
                        return xet_hex(data[place : place + 32])
                    end += 48
                place = end
        return None


def xet_hex(digest: bytes) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))


class Handler(BaseHTTPRequestHandler):
    """One method a route; its docstring is the route's pattern, matched against "METHOD path"."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def create(self, query):
        r"POST /api/repos/create"
        name = f"{query.get('organization') or 'tester'}/{query['name']}"
        if name in self.server.repositories:
            raise Refusal(409, body={"error": "it exists", "url": f"{self.server.url}/{name}"})
        private = query.get("visibility") == "private" or bool(query.get("private"))
        self.server.repositories[name] = Repository(self.server, private)
        return {"url": f"{self.server.url}/{name}", "name": name, "id": name}

    def whoami(self, query):
        r"GET /api/whoami-v2"
        return {"type": "user", "name": "tester", "orgs": [], "auth": {"type": "access_token"}}

    def validate_yaml(self, query):
        r"POST /api/validate-yaml"
        return {"errors": [], "warnings": []}

    def preupload(self, query, name, revision):
        r"POST /api/models/([^/]+/[^/]+)/preupload/([^/]+)"
        repository = self.server.repository(name)
        there = repository.commits[repository.sha(revision)]
        files = []
        for file in query["files"]:
            mode = "lfs" if file["path"].endswith(LARGE) else "regular"
            answer = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            files.append(answer | ({"oid": there[file["path"]].oid} if file["path"] in there else {}))
        return {"files": files}

    def lfs_batch(self, query, name):
        r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch"
        commits = self.server.repository(name).commits.values()
        there = {blob.sha256 for files in commits for blob in files.values()}
        objects = []
        for item in query["objects"]:
            actions = {
                "upload": {"href": f"{self.server.url}/lfs/{item['oid']}/{name}"},
                "verify": {"href": f"{self.server.url}/lfs/{item['oid']}/verify"},
            }
            objects.append(item | ({} if item["oid"] in there else {"actions": actions}))
        return {"transfer": "basic", "objects": objects}

    def lfs_upload(self, query, oid):
        r"PUT /lfs/([0-9a-f]+)/[^/]+/[^/]+"
        if hashlib.sha256(query).hexdigest() != oid:
            raise Refusal(400)
        self.server.large_files[oid] = query
        return {}

    def lfs_verify(self, query, oid):
        r"POST /lfs/([0-9a-f]+)/verify"
        if oid not in self.server.large_files:
            raise Refusal(404)
        return {}

    def xet_token(self, query, name):
        r"GET /api/models/([^/]+/[^/]+)/xet-(?:read|write)-token/.+"
        token = {"casUrl": f"local://{self.server.xet_folder}", "accessToken": "xet", "exp": 2**32}
        for header, key in (("Cas-Url", "casUrl"), ("Access-Token", "accessToken"), ("Token-Expiration", "exp")):
            self.extra_headers[f"X-Xet-{header}"] = str(token[key])
        return token

    def commit(self, query, name, revision):
        r"POST /api/models/([^/]+/[^/]+)/commit/([^/]+)"
        repository = self.server.repository(name)
        parent = repository.sha(revision)
        files = dict(repository.commits[parent])
        for line in map(json.loads, query.splitlines()):
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in (None, parent):
                raise Refusal(412)
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = Blob(len(content), hashlib.sha256(content).hexdigest(), content)
            if line["key"] == "lfsFile":
                files[value["path"]] = Blob(value["size"], value["oid"])
            if line["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(revision, files)
        return {"commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}", "success": True}

    def branch(self, query, name, branch):
        r"POST /api/models/([^/]+/[^/]+)/branch/([^/]+)"
        repository = self.server.repository(name)
        if branch in repository.branches:
            raise Refusal(409)
        repository.branches[branch] = repository.sha((query or {}).get("startingPoint") or "main")
        return {}

    def info(self, query, name, revision="main"):
        r"GET /api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?"
        repository = self.server.repository(name)
        sha = repository.sha(revision or "main")
        siblings = [{"rfilename": path} for path in repository.commits[sha]]
        return {
            "id": name, "modelId": name, "sha": sha, "private": repository.private, "tags": [],
            "downloads": 0, "likes": 0, "siblings": siblings,
        }  # fmt: skip

    def refs(self, query, name):
        r"GET /api/models/([^/]+/[^/]+)/refs"
        branches = self.server.repository(name).branches.items()
        return {
            "branches": [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": sha} for branch, sha in branches
            ],
            "tags": [],
            "converts": [],
        }

    def tree(self, query, name, revision, folder):
        r"GET /api/models/([^/]+/[^/]+)/tree/([^/]+)/?(.*)"
        return self.entries(name, revision, lambda path: path.startswith(folder))

    def paths_info(self, query, name, revision):
        r"POST /api/models/([^/]+/[^/]+)/paths-info/([^/]+)"
        return self.entries(name, revision, lambda path: path in query["paths"])

    def entries(self, name, revision, wanted):
        repository = self.server.repository(name)
        entries = []
        for path, blob in repository.commits[repository.sha(revision)].items():
            if wanted(path):
                large = {"lfs": {"oid": blob.sha256, "size": blob.size, "pointerSize": 130}}
                entry = {"type": "file", "path": path, "oid": blob.oid, "size": blob.size}
                entries.append(entry | (large if blob.content is None else {}))
        return entries

    def resolve(self, query, name, revision, path):
        r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)"
        repository = self.server.repository(name)
        sha = repository.sha(revision)
        self.extra_headers["X-Repo-Commit"] = sha
        if path not in repository.commits[sha]:
            raise Refusal(404, "EntryNotFound")
        blob = repository.commits[sha][path]
        self.extra_headers["ETag"] = f'"{blob.oid}"'
        content = blob.content
        if content is None:
            self.extra_headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
            content = self.server.large_files.get(blob.sha256)
        if content is None:
            self.extra_headers["X-Xet-Hash"] = self.server.xet_hash(blob.sha256) or ""
            route = f"{self.server.url}/api/models/{name}/xet-read-token/{sha}"
            self.extra_headers["X-Xet-Refresh-Route"] = route
            content = b"\0" * blob.size  # only its length is ever asked for
        return content

    def answer(self):
        path = unquote(urlsplit(self.path).path)
        self.extra_headers = {}
        self.server.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        created = f"/{json.loads(body)['name']}" if path == "/api/repos/create" else ""
        fault = self.server.fault(path + created)
        if fault == DROPPED:
            self.close_connection = True
            return
        try:
            if fault:
                raise Refusal(fault)
            self.authorise(path)
            for route in ROUTES:
                if match := re.fullmatch(route.__doc__, f"{self.command} {path}"):
                    is_json = "json" in self.headers.get("Content-Type", "") and "/commit/" not in path
                    query = json.loads(body) if is_json and body else body
                    self.respond(200, route(self, query, *match.groups()))
                    return
            raise Refusal(404)
        except Refusal as refusal:
            if refusal.code:
                self.extra_headers["X-Error-Code"] = refusal.code
            self.respond(refusal.status, refusal.body)

    def authorise(self, path):
        name = re.match(r"/(?:api/models/)?([^/]+/[^/]+)", path)
        repository = self.server.repositories.get(name[1]) if name else None
        if repository and repository.private and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            raise Refusal(404, "RepoNotFound")  # who may not see it is not told that it is there
        if self.server.token is None or self.command not in ("POST", "PUT") or path.startswith("/lfs/"):
            return
        given = self.headers.get("Authorization")
        if given != f"Bearer {self.server.token}":
            raise Refusal(403 if given else 401)

    def respond(self, status, answer):
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(answer, bytes) else "application/json"
        )
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.extra_headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


ROUTES = [
    method
    for method in vars(Handler).values()
    if re.match(r"(?:GET|POST|PUT|\(\?:GET)", getattr(method, "__doc__", "") or "")
]
