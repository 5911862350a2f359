#!/usr/bin/env python3
"""Stand-ins for Google Drive, Dropbox, Google Cloud Storage and Backblaze B2: their HTTP interfaces, as far as a
backup needs them, with what makes them differ from a bucket (two files with one name, folders, listings in pages and of
some moments ago, paths in any case, tokens that expire).

    python3 tests/standins.py DIR PORT

is an HTTPS proxy on that port. It answers for the hosts of these services itself, with a certificate of an authority
made in DIR (`ca.pem`), and for nobody else. So a client is told of it as of any proxy that looks into TLS:
HTTPS_PROXY, and the file of the authority.

Each account is a world of its own, named by the credential that the client shows. Plain requests to the port control it:

    POST /ACCOUNT   {"faults": [{"match": REGEX of "METHOD host/path", "skip": 0, "times": 1, "do": ACTION}], ...}
    GET /ACCOUNT    {"requests": [...], "objects": {path: [sizes]}}

ACTION is one of {"status": 429, "headers": {...}, "body": "..."}, "reset" (before it is carried out), "lose" (carried out,
and no answer), "twice" (carried out twice, answered once), and "half" (half of the answer). "stale": N has listings show
the state of N writes ago; "page": N makes pages that small; "quota": BYTES; "expire": true ends the access tokens.
"""

import base64
import copy
import hashlib
import itertools
import json
import os
import re
import socketserver
import ssl
import subprocess
import sys
import threading
import traceback
import urllib.parse

# What Drive's `root` stands for.
TOP = "0ATop"
BOUNDARY = b"--of-the-stand-in-itself"
INNER = "multipart/related; boundary=of-the-stand-in-itself"
BLOCK = 4 << 20
HOSTS = ["oauth2.googleapis.com", "www.googleapis.com", "api.dropboxapi.com", "content.dropboxapi.com",
         "storage.googleapis.com", "api.backblazeb2.com", "api000.backblazeb2.com", "f000.backblazeb2.com"]
FOLDER = "application/vnd.google-apps.folder"
TIME = "2026-01-01T00:00:00Z"
numbers = itertools.count(1)
world_lock = threading.RLock()
accounts = {}


def account(name):
    with world_lock:
        return accounts.setdefault(name, Account(name))


class Answer(Exception):
    def __init__(self, status, body=b"", **headers):
        super().__init__(status)
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Account:
    """What is stored, as a list of states: a listing may show an older one."""

    def __init__(self, name):
        self.name, self.faults, self.requests = name, [], []
        self.stale, self.page, self.quota = 0, 1000, None
        self.tokens, self.cursors, self.sessions = set(), {}, {}
        # By id: name, parents, content (None: a folder), trashed.
        self.files = {}
        self.history = []

    def control(self, wanted):
        self.faults += wanted.pop("faults", [])
        if wanted.pop("expire", False):
            self.tokens.clear()
        if wanted.pop("clear", False):
            self.faults = []
        if wanted.pop("double", False):
            self.double()
        for name in ("stale", "page", "quota"):
            if name in wanted:
                setattr(self, name, wanted.pop(name))

    def double(self):
        """Drive: a second folder beside each, with half of what the first has, and a second file beside each."""
        for key, file in list(self.files.items()):
            if file["trashed"]:
                continue
            twin = f"id{next(numbers)}"
            if file["content"] is None:
                self.files[twin] = dict(file)
                inside = [f for f in self.files.values() if key in f["parents"]]
                for moved in inside[::2]:
                    moved["parents"] = [twin]
            else:
                self.files[twin] = dict(file)

    def changed(self, more=0):
        used = sum(len(f["content"] or b"") for f in self.files.values())
        if self.quota is not None and more and used + more > self.quota:
            return False
        self.history.append({key: dict(file) for key, file in self.files.items()})
        del self.history[:-200]
        return True

    def seen(self):
        """The files, as a listing shows them."""
        if not self.stale or not self.history:
            return self.files
        return self.history[max(0, len(self.history) - self.stale)]

    def token(self):
        token = f"at.{self.name}.{next(numbers)}"
        self.tokens.add(token)
        return token

    def pages(self, found, start):
        end = start + self.page
        return found[start:end], end if end < len(found) else None


def ranged(content, headers):
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
    if not wanted:
        return Answer(200, content, Content_Type="application/octet-stream")
    start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
    if start >= len(content):
        return Answer(416, b"")
    part = content[start:end + 1]
    where = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
    return Answer(206, part, Content_Type="application/octet-stream", Content_Range=where)


class Request:
    def __init__(self, method, host, target, headers, body):
        self.method, self.host, self.headers, self.body = method, host, headers, body
        self.path, _, query = target.partition("?")
        self.query = {k: v[-1] for k, v in urllib.parse.parse_qs(query, keep_blank_values=True).items()}

    def json(self):
        return json.loads(self.body or b"{}")

    def form(self):
        found = {k: v[-1] for k, v in urllib.parse.parse_qs(self.body.decode()).items()}
        return {**self.query, **found}


def who(request):
    """The account that a request is for; None where its credential is nobody's."""
    if "upload_id" in request.query:
        return account(request.query["upload_id"].split(".")[1])
    authorization = request.headers.get("authorization", "")
    token = authorization.removeprefix("Bearer ")
    if token.startswith("at."):
        return account(token.split(".")[1])
    if authorization.startswith("Basic "):
        return account(base64.b64decode(authorization[6:]).decode().split(":")[0].removeprefix("key-"))
    form = request.form() if b"=" in request.body[:200] or request.query else {}
    if "refresh_token" in form:
        return account(form["refresh_token"].removeprefix("rt-"))
    if "assertion" in form:
        claims = form["assertion"].split(".")[1]
        issuer = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iss"]
        return account(issuer.split("@")[0])
    return account("nobody")


def oauth(own, request, is_google):
    form = request.form()
    if form.get("client_id") not in (None, "client") or form.get("client_secret") not in (None, "secret-of-the-app"):
        return Answer(401 if is_google else 400, {"error": "invalid_client", "error_description": "The OAuth client was not found."})
    if "assertion" not in form and not form.get("refresh_token", "").startswith("rt-"):
        return Answer(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
    return Answer(200, {"access_token": own.token(), "expires_in": 3599, "token_type": "Bearer"})


def google_error(status, reason, message, **headers):
    error = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
    return Answer(status, {"error": error}, **headers)


def is_signed(own, request):
    return request.headers.get("authorization", "").removeprefix("Bearer ") in own.tokens


# --- Google Drive -----------------------------------------------------------------------------------------------------


def drive_about(key, file):
    about = {"kind": "drive#file", "id": key, "name": file["name"], "parents": file["parents"], "modifiedTime": TIME,
             "mimeType": FOLDER if file["content"] is None else "application/octet-stream"}
    if file["content"] is not None:
        about["size"] = str(len(file["content"]))
        about["sha256Checksum"] = hashlib.sha256(file["content"]).hexdigest()
    return about


def drive_query(text, key, file):
    """The part of the query language that is used."""
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        return drive_query(text[1:-1], key, file)
    for word, join in ((" and ", all), (" or ", any)):
        parts, depth, start = [], 0, 0
        for at in range(len(text)):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            if depth == 0 and text.startswith(word, at):
                parts.append(text[start:at])
                start = at + len(word)
        if parts:
            return join(drive_query(part, key, file) for part in [*parts, text[start:]])
    if wanted := re.fullmatch(r"name = '(.*)'", text):
        return file["name"] == wanted[1].replace("\\'", "'").replace("\\\\", "\\")
    if wanted := re.fullmatch(r"'(.*)' in parents", text):
        return wanted[1].replace("root", TOP) in file["parents"]
    if wanted := re.fullmatch(r"trashed = (true|false)", text):
        return file["trashed"] == (wanted[1] == "true")
    if wanted := re.fullmatch(r"mimeType (=|!=) '(.*)'", text):
        return ((FOLDER if file["content"] is None else "application/octet-stream") == wanted[2]) == (wanted[1] == "=")
    raise google_error(400, "invalid", f"Invalid Value: {text}")


def drive_parts(request):
    boundary = re.search(r"boundary=\"?([^\";]+)", request.headers["content-type"])[1].encode()
    parts = request.body.split(b"--" + boundary)[1:-1]
    return [part.split(b"\r\n\r\n", 1)[1][:-2] for part in parts]


def drive(own, request):
    if not is_signed(own, request):
        return google_error(401, "authError", "Request had invalid authentication credentials.")
    path = request.path
    key = path.rsplit("/", 1)[1]
    is_upload = path.startswith("/upload/")
    full = google_error(403, "storageQuotaExceeded", "The user's Drive storage quota has been exceeded.")
    if path.endswith("/drive/v3/files") and request.method == "GET":
        found = [(k, f) for k, f in own.seen().items() if drive_query(request.query.get("q", "trashed = false"), k, f)]
        if request.query.get("orderBy", "").startswith(("modifiedTime desc", "createdTime desc")):
            found.reverse()
        limit, own_page = int(request.query.get("pageSize", 100)), own.page
        own.page = min(limit, own_page)
        page, after = own.pages(found, int(request.query.get("pageToken", 0)))
        own.page = own_page
        answer = {"kind": "drive#fileList", "files": [drive_about(k, f) for k, f in page]}
        if after is not None:
            answer["nextPageToken"] = str(after)
        return Answer(200, answer)
    if key == "generateIds":
        return Answer(200, {"ids": [f"given{next(numbers)}" for _ in range(int(request.query["count"]))]})
    if is_upload and request.query.get("upload_id"):
        # What a session was begun for, with its content.
        method, target, about = own.sessions[request.query["upload_id"]]
        request = Request(method, request.host, target, {**request.headers, "content-type": INNER},
                          BOUNDARY + b"\r\n\r\n" + about + b"\r\n" + BOUNDARY + b"\r\n\r\n" + request.body + b"\r\n" + BOUNDARY + b"--")
        return drive(own, request)
    if is_upload and request.query.get("uploadType") == "resumable":
        session = f"session.{own.name}.{next(numbers)}"
        own.sessions[session] = (request.method, f"{path}?uploadType=multipart", request.body)
        where = f"https://www.googleapis.com{path}?uploadType=resumable&upload_id={session}"
        return Answer(200, b"", Location=where)
    if is_upload and len(request.body) > (5 << 20) + 4096:
        if request.headers.get("content-type") != INNER:
            return google_error(413, "uploadTooLarge", "more than 5 MB want a resumable upload")
    if path.endswith("/drive/v3/files") and request.method == "POST":
        about, content = request.body, None
        if is_upload:
            about, content = drive_parts(request)
        about = json.loads(about)
        parents = [parent.replace("root", TOP) for parent in about.get("parents", ["root"])]
        for parent in parents:
            if parent != TOP and (parent not in own.files or own.files[parent]["trashed"]):
                return google_error(404, "notFound", f"File not found: {parent}.")
        if about.get("id") in own.files:
            return google_error(409, "fileIdInUse", "A file already exists with the provided ID.")
        if not own.changed(len(content or b"")):
            return full
        key = about.get("id") or f"id{next(numbers)}"
        if content is None and about.get("mimeType") != FOLDER:
            content = b""
        own.files[key] = {"name": about["name"], "parents": parents, "content": content, "trashed": False}
        return Answer(200, drive_about(key, own.files[key]))
    file = own.files.get(key)
    if file is None:
        return google_error(404, "notFound", f"File not found: {key}.")
    if request.method == "GET":
        return ranged(file["content"], request.headers) if request.query.get("alt") == "media" else Answer(
            200, drive_about(key, file))
    if request.method == "PATCH":
        if not own.changed(len(request.body) if is_upload else 0):
            return full
        if is_upload:
            file["content"] = drive_parts(request)[1]
        else:
            file.update({k: v for k, v in request.json().items() if k in ("name", "trashed")})
        return Answer(200, drive_about(key, file))
    if request.method == "DELETE":
        own.changed()
        del own.files[key]
        return Answer(204)
    return google_error(405, "methodNotAllowed", "no")


# --- Dropbox ----------------------------------------------------------------------------------------------------------


def box_error(summary, status=409, **headers):
    tags = summary.strip("./").split("/")
    return Answer(status, {"error_summary": summary, "error": {".tag": tags[0]}}, **headers)


def box_about(path, file):
    about = {".tag": "folder" if file["content"] is None else "file", "name": file["name"], "id": f"id:{path}",
             "path_lower": path, "path_display": file["display"]}
    if file["content"] is not None:
        blocks = [file["content"][at:at + BLOCK] for at in range(0, len(file["content"]), BLOCK)]
        content_hash = hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()
        about.update(size=len(file["content"]), rev="015f", client_modified=TIME, server_modified=TIME,
                     is_downloadable=True, content_hash=content_hash)
    return about


def box_path(text):
    if text and (not text.startswith("/") or text.endswith("/") or "//" in text):
        raise Answer(400, f"Error in call to API function: path: '{text}' did not match pattern".encode())
    return text


def box_upload(own, request, arguments):
    display = box_path(arguments["path"])
    path = display.lower()
    there = own.files.get(path)
    if there is not None:
        if there["content"] is None:
            return box_error("path/conflict/folder/..")
        mode = arguments.get("mode", "add")
        mode = mode if isinstance(mode, str) else mode[".tag"]
        is_same = there["content"] == request.body and not arguments.get("strict_conflict")
        if mode == "add" and not is_same:
            if not arguments.get("autorename"):
                return box_error("path/conflict/file/.")
            raise NotImplementedError("autorename")
    if not own.changed(len(request.body)):
        return box_error("path/insufficient_space/...")
    parts = display.strip("/").split("/")
    for depth in range(1, len(parts)):
        above = "/" + "/".join(parts[:depth])
        folder = own.files.setdefault(above.lower(), {"name": parts[depth - 1], "display": above, "content": None})
        if folder["content"] is not None:
            return box_error("path/conflict/file_ancestor/.")
    own.files[path] = {"name": parts[-1], "display": there["display"] if there else display, "content": request.body}
    return Answer(200, box_about(path, own.files[path]))


def box_list(own, arguments):
    if "cursor" in arguments:
        if arguments["cursor"] not in own.cursors:
            return box_error("reset/..")
        found, start = own.cursors[arguments["cursor"]]
        limit = own.page
    else:
        path, files = box_path(arguments["path"]).lower(), own.seen()
        if path and path not in files:
            return box_error("path/not_found/.")
        if path and files[path]["content"] is not None:
            return box_error("path/not_folder/.")
        deep = arguments.get("recursive", False)
        # The folder itself is there, too, where its content is; and there is no order.
        found = [box_about(p, f) for p, f in files.items()
                 if p.startswith(f"{path}/") and (deep or "/" not in p[len(path) + 1:]) or deep and path and p == path]
        start, limit = 0, min(own.page, arguments.get("limit", own.page))
    page, after = found[start:start + limit], start + limit
    cursor = f"cursor{next(numbers)}"
    own.cursors[cursor] = (found, after)
    return Answer(200, {"entries": page, "cursor": cursor, "has_more": after < len(found)})


def dropbox(own, request):
    if not is_signed(own, request):
        return box_error("expired_access_token/..", 401)
    name = request.path.removeprefix("/2/files/")
    given = request.headers.get("dropbox-api-arg")
    arguments = json.loads(given) if given else request.json()
    if "cursor" not in arguments:
        path = box_path(arguments["path"]).lower()
        there = own.files.get(path)
    if name == "upload":
        return box_upload(own, request, arguments)
    if name in ("list_folder", "list_folder/continue"):
        return box_list(own, arguments)
    if there is None:
        return box_error("path_lookup/not_found/." if name == "delete_v2" else "path/not_found/.")
    if name == "download":
        answer = ranged(there["content"], request.headers) if there["content"] is not None else box_error("path/not_file/.")
        answer.headers["Dropbox-API-Result"] = json.dumps(box_about(path, there))
        return answer
    if name == "get_metadata":
        return Answer(200, box_about(path, there))
    if name == "delete_v2":
        own.changed()
        for below in [p for p in own.files if p == path or p.startswith(f"{path}/")]:
            del own.files[below]
        return Answer(200, {"metadata": box_about(path, there)})
    return Answer(400, b"Unknown API function")


# --- Google Cloud Storage ---------------------------------------------------------------------------------------------


def buckets(own, request):
    # Whoever has the address of an upload may send it.
    if not is_signed(own, request) and request.query.get("upload_id") not in own.sessions:
        return google_error(401, "authError", "Invalid Credentials")
    parts = request.path.split("/")
    is_upload = parts[1] == "upload"
    parts = parts[2:] if is_upload else parts[1:]
    if parts[:2] == ["batch", "storage"]:
        return google_error(501, "notImplemented", "no")
    bucket = parts[3]
    if bucket != "bucket":
        return google_error(404, "notFound", "The specified bucket does not exist.")
    name = urllib.parse.unquote("/".join(parts[5:])) or request.query.get("name", "")

    if is_upload and request.query.get("upload_id"):
        query = {**own.sessions[request.query["upload_id"]], "uploadType": "media"}
        request.method, request.query, name = "POST", query, query["name"]

    def about(key, content):
        return {"kind": "storage#object", "name": key, "bucket": bucket, "size": str(len(content)), "generation": "1",
                "etag": "CAE=", "updated": TIME, "contentType": "application/octet-stream",
                "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode()}

    if request.method == "POST" and is_upload:
        content = request.body
        if request.query.get("uploadType") == "multipart":
            head, content = drive_parts(request)
            name = json.loads(head).get("name", name)
        if request.query.get("ifGenerationMatch") == "0" and name in own.files:
            return google_error(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        if request.query.get("uploadType") == "resumable":
            session = f"session.{own.name}.{next(numbers)}"
            own.sessions[session] = dict(request.query)
            where = f"https://{request.host}{request.path}?uploadType=resumable&upload_id={session}"
            return Answer(200, b"", Location=where)
        if not own.changed(len(content)):
            return google_error(403, "storageQuotaExceeded", "quota")
        own.files[name] = {"content": content}
        return Answer(200, about(name, content))
    if request.method == "GET" and not name:
        prefix, after = request.query.get("prefix", ""), request.query.get("startOffset", "")
        delimiter, seen, items, prefixes = request.query.get("delimiter"), own.seen(), [], []
        for key in sorted(seen):
            if not key.startswith(prefix) or key < after:
                continue
            rest = key[len(prefix):]
            if delimiter and delimiter in rest:
                prefixes.append(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                items.append(about(key, seen[key]["content"]))
        page, more = own.pages(items, int(request.query.get("pageToken", 0)))
        answer = {"kind": "storage#objects", "items": page, "prefixes": sorted(set(prefixes))}
        if more is not None:
            answer["nextPageToken"] = str(more)
        return Answer(200, answer)
    if name not in own.files:
        return google_error(404, "notFound", f"No such object: {bucket}/{name}")
    if request.method == "DELETE":
        own.changed()
        del own.files[name]
        return Answer(204)
    content = own.files[name]["content"]
    return ranged(content, request.headers) if request.query.get("alt") == "media" else Answer(200, about(name, content))


# --- Backblaze B2 -----------------------------------------------------------------------------------------------------


def b2_error(status, code, message="", **headers):
    return Answer(status, {"status": status, "code": code, "message": message}, **headers)


def b2(own, request):
    name = request.path.rsplit("/", 1)[1]
    if name == "b2_authorize_account":
        given = base64.b64decode(request.headers.get("authorization", "")[6:]).decode()
        if given.split(":")[1:] != ["secret-of-the-app"]:
            return b2_error(401, "unauthorized", "Invalid application key")
        return Answer(200, {
            "accountId": "account", "authorizationToken": own.token(), "apiUrl": "https://api000.backblazeb2.com",
            "downloadUrl": "https://f000.backblazeb2.com", "s3ApiUrl": "", "recommendedPartSize": 100000000,
            "absoluteMinimumPartSize": 5000000, "allowed": {"capabilities": [], "bucketId": None, "bucketName": None,
                                                            "namePrefix": None}})
    token = request.headers.get("authorization", "")
    if token not in own.tokens:
        return b2_error(401, "expired_auth_token", "Authorization token has expired")

    def about(key, file):
        return {"accountId": "account", "action": "upload", "bucketId": "bucket-id", "contentLength": len(file["content"]),
                "contentSha1": hashlib.sha1(file["content"]).hexdigest(), "contentMd5": None,
                "contentType": "application/octet-stream", "fileId": f"4_z{file['version']}", "fileInfo": {},
                "fileName": key, "uploadTimestamp": 1700000000000}

    if name == "b2_get_upload_url":
        return Answer(200, {"bucketId": "bucket-id", "uploadUrl": "https://api000.backblazeb2.com/b2api/v2/b2_upload_file",
                            "authorizationToken": own.token()})
    if name == "b2_upload_file":
        key = urllib.parse.unquote(request.headers["x-bz-file-name"])
        if not own.changed(len(request.body)):
            return b2_error(403, "storage_cap_exceeded", "Cannot upload files, storage cap exceeded.")
        # A new version; those before it stay, below it.
        before = own.files.get(key)
        file = {"content": request.body, "version": next(numbers), "before": before}
        own.files[key] = file
        return Answer(200, about(key, file))
    if name == "b2_list_file_names":
        arguments = {**request.query, **request.json()}
        prefix, start = arguments.get("prefix", ""), arguments.get("startFileName") or ""
        delimiter, seen, found = arguments.get("delimiter"), own.seen(), {}
        for key in sorted(seen):
            rest = key[len(prefix):]
            if not key.startswith(prefix) or key < start or seen[key].get("hidden"):
                continue
            if delimiter and delimiter in rest:
                folder = prefix + rest.split(delimiter)[0] + delimiter
                found[folder] = {"action": "folder", "fileName": folder, "contentLength": 0, "fileId": None,
                                 "contentType": None, "uploadTimestamp": 0}
            else:
                found[key] = about(key, seen[key])
        names = sorted(found)
        limit = min(own.page, int(arguments.get("maxFileCount") or 1000))
        more = names[limit] if len(names) > limit else None
        return Answer(200, {"files": [found[n] for n in names[:limit]], "nextFileName": more})
    if name == "b2_hide_file":
        key = request.json()["fileName"]
        if key not in own.files or own.files[key].get("hidden"):
            return b2_error(400, "no_such_file", f"File not present: {key}")
        own.changed()
        file = {"content": b"", "version": next(numbers), "before": own.files[key], "hidden": True}
        own.files[key] = file
        return Answer(200, {**about(key, file), "action": "hide"})
    if name == "b2_delete_file_version":
        arguments = request.json()
        key, version = arguments["fileName"], arguments["fileId"]
        file = own.files.get(key)
        if file is None or f"4_z{file['version']}" != version:
            return b2_error(400, "file_not_present", f"File not present: {key} {version}")
        own.changed()
        if file["before"]:
            own.files[key] = file["before"]
        else:
            del own.files[key]
        return Answer(200, {"fileId": version, "fileName": key})
    if request.path.startswith("/file/"):
        key = urllib.parse.unquote(request.path.split("/", 3)[3])
        file = own.files.get(key)
        if file is None or file.get("hidden"):
            return b2_error(404, "not_found", f"File with such name does not exist: {key}")
        answer = ranged(file["content"], request.headers)
        answer.headers.update({"X-Bz-File-Id": f"4_z{file['version']}", "X-Bz-File-Name": key})
        return answer
    return b2_error(400, "bad_request", name)


def carry_out(own, request):
    try:
        if request.path == "/token":
            return oauth(own, request, True)
        if request.path == "/oauth2/token":
            return oauth(own, request, False)
        if request.host == "www.googleapis.com":
            return drive(own, request)
        if request.host.endswith("dropboxapi.com"):
            return dropbox(own, request)
        if request.host == "storage.googleapis.com":
            return buckets(own, request)
        return b2(own, request)
    except Answer as answer:
        return answer


def served(request):
    """Returns the answer to a request, None for none, and how much of it is sent."""
    with world_lock:
        own = who(request)
        line = f"{request.method} {request.host}{request.path}"
        own.requests.append(line)
        for fault in own.faults:
            if not fault.get("times", 1) or not re.search(fault["match"], line):
                continue
            if fault.get("skip", 0):
                fault["skip"] -= 1
                continue
            fault["times"] = fault.get("times", 1) - 1
            do = fault["do"]
            if do == "reset":
                return None, False
            if isinstance(do, dict):
                answer = Answer(do["status"], do.get("body", "").encode())
                answer.headers = do.get("headers", {})
                return answer, False
            answer = carry_out(own, copy.copy(request))
            if do == "twice":
                answer = carry_out(own, request)
            return (None, False) if do == "lose" else (answer, do == "half")
        return carry_out(own, request), False


class Handler(socketserver.StreamRequestHandler):
    def head(self):
        line = self.rfile.readline(65536).decode("latin-1").split()
        headers = {}
        while (text := self.rfile.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = text.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return line, headers

    def body(self, headers):
        if headers.get("expect"):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(headers.get("content-length", 0)))

    def answer(self, answer, is_head=False, is_half=False):
        headers = {"Content-Type": "application/json", **answer.headers, "Content-Length": len(answer.body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.wfile.write(f"HTTP/1.1 {answer.status} X\r\n{head}\r\n".encode())
        body = b"" if is_head else answer.body
        self.wfile.write(body[:len(body) // 2] if is_half else body)
        self.wfile.flush()

    def handle(self):
        try:
            line, headers = self.head()
            if not line:
                return
            if line[0] != "CONNECT":
                return self.control(line, headers)
            host = line[1].split(":")[0]
            if host not in HOSTS:
                return self.wfile.write(b"HTTP/1.1 502 Nobody\r\nContent-Length: 0\r\n\r\n")
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            inner = self.server.tls.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = inner.makefile("rb"), inner.makefile("wb", 0)
            while True:
                line, headers = self.head()
                if not line:
                    return
                request = Request(line[0], host, line[1], headers, self.body(headers))
                answer, is_half = served(request)
                if answer is None:
                    return
                self.answer(answer, line[0] == "HEAD", is_half)
                if is_half:
                    return
        except (OSError, ValueError):
            pass
        except Exception:
            traceback.print_exc()
        finally:
            self.connection.close()

    def control(self, line, headers):
        own = account(urllib.parse.unquote(line[1].strip("/")))
        body = self.body(headers)
        with world_lock:
            if line[0] == "POST":
                own.control(json.loads(body))
            objects = {}
            for key, file in own.files.items():
                if not file.get("trashed") and not file.get("hidden") and file["content"] is not None:
                    name = key
                    if "parents" in file:
                        name, above = file["name"], file["parents"][0]
                        while above != TOP:
                            name, above = f"{own.files[above]['name']}/{name}", own.files[above]["parents"][0]
                    objects.setdefault(name, []).append(len(file["content"]))
            self.answer(Answer(200, {"requests": own.requests, "objects": objects,
                                     "faults": [f for f in own.faults if f.get("times", 1)]}))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 100


def certificates(place):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=place, capture_output=True)

    with open(f"{place}/names", "w") as out:
        out.write("subjectAltName=" + ",".join(f"DNS:{host}" for host in HOSTS) + "\nextendedKeyUsage=serverAuth\n")
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj")
    openssl(*new, "/CN=Authority of the tests", "-x509", "-days", "30", "-keyout", "ca.key", "-out", "ca.pem",
            "-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign")
    openssl(*new, "/CN=stand-in", "-keyout", "own.key", "-out", "own.csr")
    openssl("x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", "names", "-out", "own.pem")


def main():
    place, port = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    os.makedirs(place, exist_ok=True)
    certificates(place)
    server = Server(("127.0.0.1", port), Handler)
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.tls.load_cert_chain(f"{place}/own.pem", f"{place}/own.key")
    server.serve_forever()


if __name__ == "__main__":
    main()
