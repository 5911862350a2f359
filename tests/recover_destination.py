#!/usr/bin/env python3
"""Tests that recover.py reads destinations (docs/format.md, section 10), and that its decryptor is right.

  python3 tests/recover_destination.py [SEED]

Needs Python 3.8 or newer. `age`, `ssh-keygen` and the test vectors of the crate `age` are used where they are. A
repository and its destinations are made here by a small writer of its own, so that nothing is compared with itself.
"""
import base64, collections, contextlib, glob, gzip, hashlib, hmac, importlib.util, io, json  # noqa: E401
import os, random, shutil, stat, struct, subprocess, sys, tarfile, tempfile, time, zlib  # noqa: E401

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
RECOVER = os.path.join(HERE, "..", "src", "repo", "recover.py")
spec = importlib.util.spec_from_file_location("recover", RECOVER)
recover = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recover)
SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1
rng = random.Random(SEED)
SECRET = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"  # of the specification
PUBLIC = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
OTHER = "AGE-SECRET-KEY-1VNX3ZZ7FZ4LT8SU3600Z82X0HY0HQ2U2Y4D8JMPSG2LRAV8UAE7SC0T8Q2"
NO_TOOLS = "/nonexistent"
skipped = []


def skip(what):
    skipped.append(what)
    print("SKIPPED: " + what)


def check(truth, *what):
    if not truth:
        raise SystemExit("FAILED (seed %d): %s" % (SEED, " ".join(str(w)[:3000] for w in what)))


# --- an encryptor, as the specifications say it, one block after the other ----------------------------------------

def plain_block(key, counter, nonce):
    x = list(struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce))
    start = x[:]

    def quarter(a, b, c, d):
        for p, q, r, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[p] = x[p] + x[q] & 0xFFFFFFFF
            x[r] ^= x[p]
            x[r] = (x[r] << by | x[r] >> 32 - by) & 0xFFFFFFFF

    for _ in range(10):
        for at in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                   (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*at)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(x, start)))


def plain_stream(key, nonce, count):
    return b"".join(plain_block(key, counter, nonce) for counter in range(count))


def plain_poly(key, data):
    r, total = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF, 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at:at + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return (total + int.from_bytes(key[16:], "little") & (1 << 128) - 1).to_bytes(16, "little")


def seal(key, nonce, text):
    # The stream of long texts is that of recover.py, which is compared with the plain one first.
    count = 1 + -(-len(text) // 64)
    stream = (plain_stream if count < 40 else recover.chacha20)(key, nonce, count)
    sealed = bytes(a ^ b for a, b in zip(text, stream[64:]))
    return sealed + plain_poly(stream[:32], sealed + bytes(-len(sealed) % 16) + struct.pack("<QQ", 0, len(sealed)))


def expand(secret, salt, info):
    key = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(key, info + b"\1", hashlib.sha256).digest()


def raw64(data):
    return base64.b64encode(data).rstrip(b"=")


def age_file(stanza, file_key, text):
    args, body = stanza
    signed = b"age-encryption.org/v1\n-> " + args + b"\n" + raw64(body) + b"\n---"
    mac = hmac.new(expand(file_key, b"", b"header"), signed, hashlib.sha256).digest()
    nonce = rng.getrandbits(128).to_bytes(16, "little")
    key = expand(file_key, nonce, b"payload")
    chunks = [text[at:at + 65536] for at in range(0, len(text), 65536)] or [b""]
    last = len(chunks) - 1
    sealed = [seal(key, n.to_bytes(11, "big") + bytes([n == last]), chunk) for n, chunk in enumerate(chunks)]
    return signed + b" " + raw64(mac) + b"\n" + nonce + b"".join(sealed)


def encrypt(text, public=PUBLIC, point=None):
    file_key, ephemeral = rng.getrandbits(128).to_bytes(16, "little"), rng.getrandbits(256).to_bytes(32, "little")
    point = point or recover.bech32(public)[1]
    share = recover.x25519(ephemeral, bytes([9]) + bytes(31))
    key = expand(recover.x25519(ephemeral, point), share + point, b"age-encryption.org/v1/X25519")
    return age_file((b"X25519 " + raw64(share), seal(key, bytes(12), file_key)), file_key, text)


def encrypt_to_passphrase(text, passphrase, work=10):
    file_key, salt = rng.getrandbits(128).to_bytes(16, "little"), rng.getrandbits(128).to_bytes(16, "little")
    key = hashlib.scrypt(passphrase, salt=b"age-encryption.org/v1/scrypt" + salt, n=1 << work, r=8, p=1, dklen=32)
    return age_file((b"scrypt %s %d" % (raw64(salt), work), seal(key, bytes(12), file_key)), file_key, text)


# --- known answers ------------------------------------------------------------------------------------------------

def known_answers():
    h = bytes.fromhex
    # RFC 7748, 5.2 and 6.1.
    for scalar, point, result in (
            ("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
             "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
             "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
            ("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
             "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
             "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"),
            ("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
             "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
             "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")):
        check(recover.x25519(h(scalar), h(point)).hex() == result, "x25519", scalar)
    k = u = bytes([9]) + bytes(31)
    for _ in range(1000):
        k, u = recover.x25519(k, u), k
    check(k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51", "x25519, a thousand times")
    # RFC 8439, 2.3.2, 2.4.2, 2.5.2, and cases of appendix A.3 in which a number wraps.
    key = bytes(range(32))
    block = plain_block(key, 1, h("000000090000004a00000000"))
    check(block.hex().startswith("10f1e7e4d13b5915500fdd1fa32071c4"), "a block of chacha20")
    text = (b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
            b"sunscreen would be it.")
    stream = recover.chacha20(key, h("000000000000004a00000000"), 3)[64:]
    check(bytes(a ^ b for a, b in zip(text, stream)).hex() ==
          "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b357"
          "1639d624e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
          "5af90bbf74a35be6b40b8eedf2785e42874d", "chacha20")
    key = h("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
    for poly in (recover.poly1305, plain_poly):
        check(poly(key, b"Cryptographic Forum Research Group").hex() == "a8061dc1305136c6c22b8baf0c0127a9", "poly1305")
        for key_text, data, tag in (
                ("02" + "00" * 31, "ff" * 16, "03" + "00" * 15),
                ("02" + "00" * 15 + "ff" * 16, "02" + "00" * 15, "03" + "00" * 15),
                ("01" + "00" * 31, "ff" * 16 + "f0" + "ff" * 15 + "11" + "00" * 15, "05" + "00" * 15),
                ("01" + "00" * 31, "ff" * 16 + "fb" + "fe" * 15 + "01" * 16, "00" * 16),
                ("02" + "00" * 31, "fd" + "ff" * 15, "fa" + "ff" * 15)):
            check(poly(h(key_text), h(data)).hex() == tag, "poly1305", key_text)
    # RFC 5869, A.1 and A.3: the first 32 bytes.
    check(recover.hkdf(b"\x0b" * 22, h("000102030405060708090a0b0c"), h("f0f1f2f3f4f5f6f7f8f9")).hex() ==
          "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf", "hkdf")
    check(recover.hkdf(b"\x0b" * 22, b"", b"").hex() ==
          "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d", "hkdf without a salt")
    # The specification of age.
    prefix, secret = recover.bech32(SECRET)
    check((prefix, secret) == ("age-secret-key-", b"\x42" * 32), "bech32")
    check(recover.bech32(PUBLIC) == ("age", recover.x25519(secret, bytes([9]) + bytes(31))), "the public key")
    for wrong in (SECRET[:-1] + "Q", SECRET.replace("GFP", "gfp", 1), SECRET[:-1], SECRET.replace("1", "", 1), "1", ""):
        try:
            check(not recover.bech32(wrong), "bech32 takes", wrong)
        except ValueError:
            pass


def like_the_plain_ones():
    """The fast ways give what the plain ones give."""
    for count in (1, 2, 3, 64, 65, 300):
        key, nonce = rng.getrandbits(256).to_bytes(32, "big"), rng.getrandbits(96).to_bytes(12, "big")
        check(recover.chacha20(key, nonce, count) == plain_stream(key, nonce, count), "chacha20 of", count, "blocks")
    key = b"\xff" * 32
    check(recover.chacha20(key, b"\xff" * 12, 1025)[-64:] == plain_block(key, 1024, b"\xff" * 12), "the last block")
    for size in [0, 1, 15, 16, 17, 1023, 1024, 1025, 1040, 2048, 4095, 65535, 65536, 65552, 65553, 70000]:
        for data, key in ((b"\xff" * size, b"\xff" * 32), (bytes(size), b"\xff" * 32), (noise(size), noise(32))):
            check(recover.poly1305(key, data) == plain_poly(key, data), "poly1305 of", size, "bytes")


def age_d(data, key=SECRET):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return subprocess.run(["age", "-d", "-i", "-", file.name], input=key.encode(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)


def keys(text=SECRET):
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode() if isinstance(text, str) else text)
        file.flush()
        return recover.Keys([file.name], b"/nonexistent")


def with_age():
    own = keys()
    sizes = [0, 1, 16, 63, 64, 65, 65535, 65536, 65537, 131072, 131073]
    for size in sizes:
        text = noise(size)
        sealed = encrypt(text)
        check(own.decrypt(sealed) == text, "decrypting", size)
        if shutil.which("age"):
            done = age_d(sealed)
            check(done.returncode == 0 and done.stdout == text, "age on what the test encrypts", size, done.stderr)
            sealed = subprocess.run(["age", "-r", PUBLIC], input=text, stdout=subprocess.PIPE).stdout
            check(own.decrypt(sealed) == text, "decrypting what age encrypted", size)
            sealed = subprocess.run(["age", "-a", "-r", PUBLIC], input=text, stdout=subprocess.PIPE).stdout
            check(own.decrypt(base64.b64decode(recover.ARMOR.fullmatch(sealed.strip())[1])) == text, "armor", size)
    # Whatever is changed in it, nothing comes out; but unknown stanzas may be there.
    text = b"x" * 70000
    sealed = encrypt(text)
    end = sealed.index(b"\n--- ") + 49
    places = list(range(0, end, 3)) + [end, end + 16, end + 65552, len(sealed) - 1]
    places += [rng.randrange(len(sealed)) for _ in range(20)]
    tries = [sealed[:at] + bytes([sealed[at] ^ 1 << rng.randrange(8)]) + sealed[at + 1:] for at in places]
    tries += [sealed[:at] for at in (0, 10, end, end + 15, end + 16, end + 17, end + 16 + 65552, len(sealed) - 1)]
    tries += [sealed + b"x", sealed[:end + 16] + sealed[end + 16 + 65552:], sealed + encrypt(b"")[end:]]
    for number, other in enumerate(tries):
        try:
            check(own.decrypt(other) is None, "decrypting something else,", number)
        except (recover.Damaged,) + recover.BROKEN:
            pass
    if not shutil.which("age"):
        skip("cross-checks of the decryptor with age (no age)")


def testkit():
    home = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
    paths = sorted(glob.glob(os.path.join(home, "registry/src/*/age-0*/tests/testdata/testkit/*")))
    if not paths:
        skip("the test vectors of age (the crate age is not in Cargo's registry here)")
    for path in paths:
        with open(path, "rb") as file:
            head, _, data = file.read().partition(b"\n\n")
        about = collections.defaultdict(list)
        for line in head.decode().splitlines():
            name, _, value = line.partition(": ")
            about[name].append(value)
        if about["compressed"]:
            data = zlib.decompress(data)

        def unwrap(args, body):
            secrets = [recover.bech32(key)[1] for key in about["identity"]]
            own = recover.Keys([], b"/nonexistent")
            own.own = [(secret, recover.x25519(secret, bytes([9]) + bytes(31))) for secret in secrets]
            found = [recover.unwrap_scrypt(p.encode(), args, body) for p in about["passphrase"]]
            found.append(own.unwrap(args, body))
            return next(filter(None, found), None)

        try:
            if about["armored"]:
                armored = recover.ARMOR.fullmatch(data.strip())
                data = base64.b64decode(armored[1]) if armored else b""
            got = "success" if sha(recover.age_decrypt(data, unwrap)) == about["payload"][0] else "wrong"
        except recover.NoKey:
            got = "no match"
        except (recover.Damaged, SystemExit) + recover.BROKEN:
            got = "failure"
        wanted = about["expect"][0]
        check(got == (wanted if wanted in ("success", "no match") else "failure"), path, wanted, got)


# --- a repository, and its destinations ---------------------------------------------------------------------------

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid():
    return "01" + "".join(rng.choice(ALPHABET) for _ in range(24))


def sha(data):
    return hashlib.sha256(data).hexdigest()


def checked(record):
    body = json.dumps(record, separators=(",", ":")).encode()
    return b'{"sha256":"%s","record":%s}\n' % (sha(body).encode(), body)


def gzipped(data):
    return gzip.compress(data, mtime=0)


def noise(size):
    return rng.getrandbits(8 * size + 8).to_bytes(size + 1, "big")[1:]


def pack(repository, contents):
    """A pack; its bytes, where its members begin, and where they end."""
    out, members, blobs, starts = b"", [], [], []
    for content in contents:
        info = tarfile.TarInfo("blobs/" + sha(content))
        info.size, info.mode = len(content), 0o600
        raw = info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
        blobs.append([sha(content), len(content), len(members), 512])
        for at in range(0, len(raw), 256 << 10):
            packed = gzipped(raw[at:at + (256 << 10)])
            starts.append(len(out))
            members.append([len(packed), len(raw[at:at + (256 << 10)])])
            out += packed
    toc = {"format": "bdr-pack", "version": 1, "repository": repository, "members": members, "blobs": blobs}
    toc = json.dumps(toc).encode()
    info = tarfile.TarInfo(".bdr/toc.json")
    info.size = len(toc)
    contents = gzipped(info.tobuf(tarfile.USTAR_FORMAT) + toc + bytes(-len(toc) % 512) + bytes(1024))
    footer = bytes.fromhex("1f8b08040000000000ff1400") + b"BD\x10\0" + struct.pack("<QQ", len(out), len(contents))
    return out + contents + footer + b"\3" + bytes(9), starts, len(out)


class World:
    """A repository of some snapshots, as the files that each of them added."""

    def __init__(self, count=12):
        self.id, self.truth, self.added, self.packs = ulid(), [], [], {}
        form = {"format": "bdr", "version": 1, "id": self.id, "created": "2026-01-01T00:00:00Z",
                "features": {"read": [], "write": [], "prune": []}}
        tree = {}
        for seq in range(1, count + 1):
            files = {} if seq > 1 else {"format.json": json.dumps(form).encode()}
            new = {"plain.txt": b"state %d" % seq, "deep/n%d" % seq: noise(300)}
            if seq in (1, 5, 9):
                new["big%d" % seq] = noise(600_000 if seq == 1 else 150_000)
            tree.update(new)
            data, starts, end = pack(self.id, list(new.values()))
            name = "packs/%s/%s.tar.gz" % (sha(data)[:2], sha(data))
            files[name], self.packs[name] = data, (starts, end)
            entries = [{"p": "", "k": "d", "m": 0o755, "t": [1, 0]}, {"p": "deep", "k": "d", "m": 0o755, "t": [1, 0]}]
            entries += [{"p": p, "m": 0o644, "t": [seq, 5], "s": len(c), "h": sha(c)} for p, c in tree.items()]
            entries.sort(key=lambda entry: entry["p"].split("/"))
            root = {"name": "tree", "path": "/home/tree"}
            head = json.dumps({"format": "bdr-manifest", "version": 1, "repository": self.id, "root": root})[:-1]
            lines = ",\n".join(map(json.dumps, entries))
            listing = gzipped((head + ',"entries":[\n' + lines + "\n]}\n").encode())
            files["manifests/%s.json.gz" % sha(listing)] = listing
            snapshot = {"version": 1, "repository": self.id, "id": ulid(), "seq": seq,
                        "time": "2026-01-02T00:00:%02dZ" % seq, "kind": "full" if seq == 1 else "incremental",
                        "trigger": "backup", "host": "h", "roots": [dict(root, base=sha(listing))], "packs": [],
                        "stats": {"files": len(tree)}}
            if seq == 7:
                snapshot["label"] = "é" * 3000  # too large for a record: an object of its own
            files["snapshots/%010d-%s.json" % (seq, snapshot["id"])] = checked(snapshot)
            self.added.append(files)
            self.truth.append(dict(tree))

    def write(self, directory):
        for files in self.added:
            for name, data in files.items():
                put(os.path.join(directory, name), data)


def put(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def get(path):
    with open(path, "rb") as file:
        return file.read()


def member(comment):
    return b"\x1f\x8b\x08\x10\0\0\0\0\0\xff" + comment.encode() + b"\0\3\0" + bytes(8)


def since(number):
    unit = 1
    while number % (unit * 8) == 0:
        unit *= 8
    return number - number // unit % 8 * unit


class Far:
    """A destination, written as docs/format.md says."""

    def __init__(self, top, world, seal=encrypt, whole=800):
        self.machine, self.world, self.seal, self.whole = ulid(), world, seal, whole
        self.dir = os.path.join(top, "bdr1", self.machine)
        self.word = "age" if seal else "none"
        self.states, self.ids = [({}, {})], [None]
        about = {"format": "bdr-machine", "version": 1, "machine": self.machine}
        put(self.dir + "/machine.json", json.dumps(about).encode())
        shutil.copy(RECOVER, self.dir)
        for files in world.added:
            self.push(files)

    def closed(self, plain):
        return self.seal(plain) if self.seal else plain

    def object(self, name, number, content):
        comment = member("bdr1 %s object %s %d" % (self.world.id, name, number))
        stored = self.closed(comment + content) if self.seal else content
        key = sha(b"name" + content) if self.seal else sha(content)
        put("%s/objects/%s/%s" % (self.dir, key[:2], key), stored)
        return {"k": key, "h": sha(stored), "s": len(stored)}

    def stored(self, name, data):
        value = {"s": len(data), "p": []}
        if name.startswith("packs/"):
            starts, end = self.world.packs[name]
            cuts, value["t"] = [0], {"b64": base64.b64encode(data[end:]).decode()}
            for start in starts:
                if start - cuts[-1] >= 200_000:
                    cuts.append(start)
            for number, (a, b) in enumerate(zip(cuts, cuts[1:] + [len(data)])):
                value["p"].append(dict(self.object(name, number, data[a:b]), **({"o": a} if a else {})))
            if len(data) > 400_000:
                del value["t"]  # as if it were too long
        else:
            value["z"] = not name.endswith(".gz")
            value["p"].append(self.object(name, 0, gzipped(data) if value["z"] else data))
            if not value["z"]:
                del value["z"]
        return value

    def push(self, new, **change):
        number = len(self.ids)
        files, objects = dict(self.states[-1][0]), dict(self.states[-1][1])
        for name, data in new.items():
            if len(data) <= self.whole:
                try:
                    files[name] = data.decode()
                except UnicodeDecodeError:
                    files[name] = {"b64": base64.b64encode(data).decode()}
            else:
                objects[name] = self.stored(name, data)
        self.states.append((files, objects))
        self.ids.append(ulid())
        self.record(number, **change)

    def record(self, number, body_change=(), head_change=(), name=None, word=None, plain=None):
        base, ident = since(number), self.ids[number]
        old = self.states[base]
        files, objects = ({n: v for n, v in now.items() if n not in before}
                          for now, before in zip(self.states[number], old))
        both = {"format": "bdr-push", "version": 1, "machine": self.machine, "number": number, "id": ident,
                "time": "2026-01-02T00:00:00Z", "since": base}
        if base:
            both["base"] = self.ids[base]
        body = dict(both, repository=self.world.id, host="laptop", name_key="00" * 32, files=files, objects=objects)
        body.update(body_change)
        word = word or self.word
        last = "%010d-%s" % (number, ident)
        framed = member("bdr1 %s push %s" % (self.world.id, last)) + gzipped(plain or json.dumps(body).encode())
        sealed = framed if word == "none" else self.closed(framed)
        try:
            parts = [[p["k"], p["h"], p["s"]] for o in body["objects"].values() for p in o["p"]]
        except (AttributeError, TypeError):
            parts = []
        head = dict(both, encryption=word, objects=parts, body=sha(sealed))
        head.update(head_change)
        put("%s/pushes/%s" % (self.dir, name or last), json.dumps(head).encode() + b"\n" + sealed)

    def all(self):
        found = [os.path.join(d, n) for d, _, names in os.walk(self.dir) for n in names]
        return sorted(path for path in found if "/objects/" in path or "/pushes/" in path)


Result = collections.namedtuple("Result", "code out err")


def call(*args, path=None, **env):
    """Runs recover.py in this process; `path` is PATH."""
    old = dict(os.environ)
    os.environ.update(env, **({} if path is None else {"PATH": path}))
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    argv, sys.argv, recover.problems = sys.argv, ["recover.py"] + [str(arg) for arg in args], 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = recover.main()
            except SystemExit as error:
                code = error.code
                if isinstance(code, str):
                    print(code, file=err)
                    code = 1
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(old)
    return Result(code, *(stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)))


def tree_of(directory):
    found = {}
    for at, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(at, name)
            check(stat.S_ISREG(os.lstat(path).st_mode), "not a file:", path)
            found[os.path.relpath(path, directory)] = get(path)
    return found


class Case:
    """A destination with the ways to read it."""

    def __init__(self, top, far, options):
        self.top, self.far, self.options, self.world = top, far, options, far.world

    def run(self, *args, **more):
        return call("--repository", self.far.dir, *self.options, *args, **more)

    def restore(self, snapshot="latest", *paths, **more):
        target = os.path.join(self.top, "out")
        shutil.rmtree(target, ignore_errors=True)
        result = self.run("restore", snapshot, target, *paths, **more)
        return result, tree_of(os.path.join(target, "tree"))


def all_is_well(case):
    world = case.world
    for path in (os.environ["PATH"], NO_TOOLS):
        done = case.run("list", path=path)
        check(done.code == 0 and len(done.out.splitlines()) == len(world.truth), "list:", done)
        for seq in (1, 4, 8, len(world.truth)):
            done, tree = case.restore(str(seq), path=path)
            check(done.code == 0 and tree == world.truth[seq - 1], "restore of", seq, done, sorted(tree))
        done = case.run("ls", "3", "tree/deep", path=path)
        check(done.code == 0 and "tree/deep/n3" in done.out and "n4" not in done.out, "ls:", done)
        done = case.run("verify", path=path)
        check(done.code == 0 and "no damage" in done.out, "verify:", done)


def only_what_is_needed(case):
    """A restore of one small file takes no object that it does not need."""
    gone = []
    for path in case.far.all():
        if "/objects/" in path and os.path.getsize(path) > 50_000:
            gone.append((path, get(path)))
            os.unlink(path)
    check(len(gone) >= 4, "large objects:", len(gone))
    done, tree = case.restore("latest", "tree/plain.txt")
    check(done.code == 0 and list(tree) == ["plain.txt"], "one file without the other objects:", done)
    for path, data in gone:
        put(path, data)
    if case.far.seal:
        decrypted, whole = [], recover.age_chunk

        def counted(*args):
            decrypted.append(args)
            return whole(*args)

        recover.age_chunk = counted
        case.restore("latest", "tree/deep/n1")
        recover.age_chunk = whole
        check(len(decrypted) < 12, "chunks decrypted for one file:", len(decrypted))


def never_wrong(case, changes=2):
    """Whatever is changed: what comes back is right, and what does not is named."""
    paths, world, noticed = case.far.all(), case.world, 0
    versions = collections.defaultdict(set)
    for tree in world.truth:
        for name, content in tree.items():
            versions[name].add(content)
    for path in paths:
        whole = get(path)
        other = rng.choice([p for p in paths if p != path])
        alike = rng.choice([p for p in paths if p != path and ("/objects/" in p) == ("/objects/" in path)])
        at = rng.randrange(len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1:]
        for change in rng.sample((None, b"", whole[:-1], whole[:at], flipped, get(other), get(alike), whole + b"\0",
                                  "link", "directory"), changes):
            os.unlink(path)
            if change == "link":
                os.symlink(os.path.join(case.top, "secret"), path)
            elif change == "directory":
                os.mkdir(path)
            elif change is not None:
                put(path, change)
            done, tree = case.restore(path=rng.choice((os.environ["PATH"], NO_TOOLS)))
            what = path[len(case.far.dir):], str(change)[:20], done, sorted(tree)
            check(done.code in (0, 1, 3), *what)
            check(all(content in versions[name] for name, content in tree.items()), "something wrong came back", *what)
            is_newest = "/pushes/%010d-" % 12 in path
            if done.code == 0:
                # That there was a newer push, nothing here says.
                expected = world.truth[-2 if is_newest and change is None else -1]
                check(tree == expected, "not all came back, and nothing was said", *what)
            else:
                check(done.err.strip(), "nothing was said", *what)
                noticed += 1
            check("Traceback" not in done.err, *what)
            verified = case.run("verify")
            # Without a key, nothing tells whether a first line is as it was.
            is_first_line = (isinstance(change, bytes) and "/pushes/" in path
                             and change.split(b"\n")[-1] == whole.split(b"\n")[-1])
            closed = [call("--repository", case.far.dir, "verify")] if case.far.seal and not is_first_line else []
            results = [verified] + closed
            # A record that newer ones repeat may be gone.
            is_needed = change is not None or "/objects/" in path or "/pushes/%010d-" % 8 in path
            for verified in results:
                named = verified.code == 4 and os.path.basename(path)[:20] in verified.err
                check(named or not is_needed, "verify does not name it", *what, verified)
            shutil.rmtree(path) if change == "directory" else None
            put_again(path, whole)
    check(noticed >= len(paths), "changes that were noticed:", noticed)
    done, tree = case.restore()
    check(done.code == 0 and tree == world.truth[-1], "when everything is back:", done)


def put_again(path, data):
    if os.path.lexists(path):
        os.unlink(path)
    put(path, data)


def what_is_left(case):
    """Of a chain with a lost link, the rest is used; of a damaged pack, what is not damaged."""
    far, world = case.far, case.world
    number = 8  # the base of 9 to 12
    path = "%s/pushes/%010d-%s" % (far.dir, number, far.ids[number])
    whole = get(path)
    os.unlink(path)
    done, tree = case.restore("latest")
    expected = {n: c for n, c in world.truth[-1].items() if n not in ("deep/n8",)}
    check(done.code == 3 and tree == expected and far.ids[number] in done.err, "without push 8:", done, sorted(tree))
    done, tree = case.restore("7")
    check(done.code == 3 and tree == world.truth[6], "an older snapshot without push 8:", done, sorted(tree))
    put(path, whole)
    # A flipped byte in the middle of the largest object costs one file.
    path = max((p for p in far.all() if "/objects/" in p), key=os.path.getsize)
    whole = get(path)
    at = len(whole) // 2
    put(path, whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
    done, tree = case.restore()
    check(done.code == 3 and len(tree) >= len(world.truth[-1]) - 1, "a damaged object:", done, sorted(tree))
    check(os.path.basename(path) in done.err, "it is not named:", done)
    put(path, whole)
    # The newest record is lost: the state before it, and that is said.
    path = "%s/pushes/%010d-%s" % (far.dir, 12, far.ids[12])
    whole = get(path)
    put(path, whole[:-5])
    done, tree = case.restore()
    check(done.code == 3 and tree == world.truth[-2] and far.ids[12] in done.err, "without the newest:", done)
    put(path, whole)


def without_the_key(case, other):
    plain = call("--repository", case.far.dir, "verify")
    check(plain.code == 0 and "nothing else" in plain.out and "no damage" in plain.out, "verify without a key:", plain)
    for args in (["list"], ["restore", "latest", os.path.join(case.top, "none")]):
        done = call("--repository", case.far.dir, *args)
        check(done.code == 1 and "--identity" in done.err and not done.out, "without a key:", done)
        done = call("--repository", case.far.dir, "--identity", other, *args)
        check(done.code == 1 and "no key" in done.err, "with another key:", done)
    check(not os.path.exists(os.path.join(case.top, "none", "tree")), "something was restored")


def hostile(case, top):
    """What a record must not say; and whatever lies around in the directory."""
    far, world = case.far, case.world
    small = {"plain.txt": world.truth[-1]["plain.txt"]}
    number = len(far.ids)
    far.states.append(far.states[-1])
    far.ids.append(ulid())
    last = "%s/pushes/%010d-%s" % (far.dir, number, far.ids[number])
    some = {"s": 10, "p": [{"k": "ab" * 32, "h": "cd" * 32, "s": 10}]}
    part = some["p"][0]
    names = ["../../x", "packs/../../x", "/etc/x", "snapshots/../x", "x", "lock", "snapshots/.x", "snapshots/a/b",
             "packs/x", "snapshots\\x", "snapshots/x\n", "objects/ab/cd", "manifests/" + "a" * 200, "", "snapshots/é",
             "recover.py"]
    cases = [({"files": {name: "x"}}, ()) for name in names]
    cases += [({"objects": {name: some}}, ()) for name in names] + [({"gone": [name]}, ()) for name in names]
    for change in ({"s": -1}, {"s": 1 << 60}, {"s": "10"}, {"s": 1.5}, {"s": True}, {"p": []}, {"p": None},
                   {"t": "x" * 11}, {"t": 5}, {"p": [dict(part, k="../x")]}, {"p": [dict(part, s=-1)]},
                   {"p": [dict(part, o=1)]}, {"p": [part, dict(part, o=0)]}, {"p": [part, dict(part, o=11)]},
                   {"p": [dict(part, h="x")]}):
        value = dict(some, **change)
        cases.append(({"objects": {"manifests/x": value}}, ()))
    cases += [((), {"since": number}), ((), {"since": number + 8, "base": far.ids[-1]}), ((), {"machine": ulid()}),
              ((), {"number": number + 1}), ((), {"number": -1}), ((), {"version": 2}), ((), {"objects": [[1, 2, 3]]}),
              ((), {"objects": {}}), ((), {"encryption": "rot13"}), ((), {"body": "00" * 32}), ({"since": 5}, ()),
              ({"base": far.ids[1]}, ()), ({"time": "2026-01-03T00:00:00Z"}, ()), ({"repository": ulid()}, ()),
              ({"version": 2}, ()),
              ({"files": []}, ()), ({"files": {"snapshots/x": 5}}, ()),
              ({"files": {"snapshots/x": {"b64": "!"}}}, ()), ({"objects": []}, ()), ({"gone": 5}, ()),
              ((), {"format": []})]
    for body, head in cases:
        far.record(number, body, head)
        done, tree = case.restore("latest", "tree/plain.txt")
        check(done.code == 3 and tree == small and far.ids[number] in done.err, "a record with", body, head, done)
    for plain in (b"[" * 100_000, b"{}", b"null", b"5", b"", b"\xff", b'{"files":{"snapshots/a":"\\ud800"}}'):
        far.record(number, plain=plain or b" ")
        done, tree = case.restore("latest", "tree/plain.txt")
        check(done.code == 3 and tree == small, "a body of", plain[:20], done)
    # Loops cannot be: a base has a smaller number. A record under another name is none.
    far.record(number, name="%010d-%s" % (number, ulid()))
    done, tree = case.restore("latest", "tree/plain.txt")
    check(done.code == 3 and tree == small, "a record under another name:", done)
    for path in glob.glob("%s/pushes/%010d-*" % (far.dir, number)):
        os.unlink(path)
    # Bombs.
    limit, recover.PUSHED = recover.PUSHED, 1 << 20
    far.record(number, plain=b" " * (50 << 20))
    done, tree = case.restore()
    check(done.code == 3 and tree == world.truth[-1], "a bomb:", done)
    recover.PUSHED = limit
    snapshot = json.loads(next(data for name, data in world.added[0].items() if name.startswith("snapshots/"))[86:-2])
    label = checked(dict(snapshot, seq=99, label="x" * (80 << 20)))
    name = "snapshots/%010d-%s.json" % (99, "0" * 26)
    far.states[-1] = far.states[-1][0], dict(far.states[-1][1])
    for size in (len(label), 100, 1 << 52):
        far.states[-1][1][name] = dict(far.stored(name, label), s=size)
        far.record(number)
        done, tree = case.restore()
        check(tree == world.truth[-1] and done.code == 3 and name in done.err, "a bomb in an object:", size, done)
    for size in (1 << 52,):
        name = "packs/ab/%s.tar.gz" % ("ab" * 32)
        far.states[-1] = far.states[-2][0], dict(far.states[-2][1])
        far.states[-1][1][name] = {"s": size, "p": [far.object(name, 0, b"x" * 100)]}
        far.record(number)
        began = time.monotonic()
        done, tree = case.restore()
        check(tree == world.truth[-1] and "ab" * 32 in done.err, "a pack of enormous size:", done)
        check(time.monotonic() - began < 120, "it takes for ever")
    os.unlink(last)
    del far.states[-1], far.ids[-1]
    # Links and programs in the directory.
    secret, elsewhere = os.path.join(top, "secret"), os.path.join(top, "elsewhere")
    put(secret, b"secret")
    for name in ("objects", "pushes", "machine.json"):
        moved = os.path.join(elsewhere, name)
        os.makedirs(elsewhere, exist_ok=True)
        os.rename(os.path.join(far.dir, name), moved)
        os.symlink(moved, os.path.join(far.dir, name))
        done, tree = case.restore()
        check(done.code != 0 or name == "machine.json" and tree == world.truth[-1], "a link for", name, done)
        check(not tree or name != "pushes", "read through a link:", done)
        os.unlink(os.path.join(far.dir, name))
        os.rename(moved, os.path.join(far.dir, name))
    for name in ("age", "rage"):
        put(os.path.join(far.dir, name), b"#!/bin/sh\necho ran >%s/ran\n" % os.fsencode(top))
        os.chmod(os.path.join(far.dir, name), 0o755)
    at = os.getcwd()
    os.chdir(far.dir)
    done, tree = case.restore(path=os.pathsep.join(["", ".", far.dir, os.path.dirname(far.dir) + "/./" + far.machine]))
    os.chdir(at)
    check(not os.path.exists(top + "/ran"), "a program in the directory was run")
    check(done.code == 0 and tree == world.truth[-1], "a program in the directory:", done)
    for name in ("age", "rage"):
        os.unlink(os.path.join(far.dir, name))
    # A target in the destination is refused.
    done = case.run("restore", "latest", os.path.join(far.dir, "out"))
    check(done.code == 2, "a target in the destination:", done)


def mutated(value):
    """The same JSON with something in it changed, gone, or under another name."""
    places = []

    def walk(at, path):
        places.append(path)
        for key in at if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ():
            walk(at[key], path + [key])

    walk(value, [])
    *above, last = rng.choice(places[1:])
    at = value
    for key in above:
        at = at[key]
    way = rng.randrange(4)
    if way == 0:
        del at[last]
    elif way == 1 and isinstance(at, dict):
        at[rng.choice(("a", "..", "p", "h", "packs/ab/x", "snapshots/y"))] = at.pop(last)
    else:
        at[last] = rng.choice((None, True, 0, -1, 1 << 53, 1 << 70, 1.5, "", "x", "../..", "a" * 64, [], [[]], {},
                               {"b64": "x"}, {"hex": "zz"}, "\ud800", 10**400))
    return value


def odd_records(top):
    """Whatever JSON a record has, with right checksums: it is used or named, and all goes on."""
    world = World(3)
    far = Far(os.path.join(top, "odd"), world, None)
    case, number = Case(top, far, []), 3
    files, objects = ({n: v for n, v in now.items() if n not in far.states[0]} for now in far.states[number])
    for _ in range(80):
        change = json.loads(json.dumps({"files": files, "objects": objects, "gone": ["marks/x"], "host": "h"}))
        name = rng.choice([name for name in files if name.startswith("snapshots/")])
        if rng.random() < 0.5:
            change["files"][name] = checked(mutated(json.loads(change["files"][name][86:-2]))).decode()
        else:
            change = mutated(change)
        try:
            far.record(number, change)
        except (KeyError, TypeError, AttributeError):
            continue
        for args in (["list"], ["ls", "latest"], ["verify"]):
            done = case.run(*args)
            check(done.code in (0, 3, 4) and (done.code == 0 or done.err), args, change, done)
        done, tree = case.restore("latest", "tree/plain.txt")
        right = {state["plain.txt"] for state in world.truth}
        check(done.code in (0, 3) and set(tree.values()) <= right, "a record with", change, done)


def not_encrypted_among_encrypted(case):
    far, number = case.far, len(case.far.ids)
    far.states.append(far.states[-1])
    far.ids.append(ulid())
    far.record(number, word="none")
    done, tree = case.restore()
    check(done.code == 3 and "not encrypted" in done.err, "a record in the clear:", done)
    check(tree == case.world.truth[-1], "a record in the clear was used")
    os.unlink("%s/pushes/%010d-%s" % (far.dir, number, far.ids[number]))
    del far.states[-1], far.ids[-1]


def exchanged(case):
    """An object that is another one, with a record that says so: only what it says of itself tells."""
    far = case.far
    state = far.states[-1]
    name = next(n for n in state[1] if n.startswith("snapshots/"))
    other = next(n for n in state[1] if n.startswith("manifests/"))
    changed = dict(state[1])
    changed[name] = dict(changed[name], p=changed[other]["p"])
    number = len(far.ids)
    far.states.append((state[0], changed))
    far.ids.append(ulid())
    body = {"objects": {name: changed[name]}}
    far.record(number, body)
    done = case.run("list")
    check(done.code == 3 and "exchanged" in done.err, "an object for another:", done)
    os.unlink("%s/pushes/%010d-%s" % (far.dir, number, far.ids[number]))
    del far.states[-1], far.ids[-1]


def with_passphrase(case, top):
    for name, armored in (("identity-00.age", False), ("identity-01.age", True)):
        data = encrypt_to_passphrase(SECRET.encode() + b"\n", b"correct horse")
        if armored:
            data = b"-----BEGIN AGE ENCRYPTED FILE-----\n" + base64.encodebytes(data).replace(b"\n", b"")
            lines = data[35:]
            lines = b"\n".join(lines[at:at + 64] for at in range(0, len(lines), 64))
            data = b"-----BEGIN AGE ENCRYPTED FILE-----\n" + lines + b"\n-----END AGE ENCRYPTED FILE-----\n"
        path = os.path.join(top, name)
        put(path, data)
        done = call("--repository", case.far.dir, "--identity", path, "list", BDR_PASSPHRASE="correct horse")
        check(done.code == 0 and done.out, "a passphrase:", done)
        done = call("--repository", case.far.dir, "--identity", path, "list", BDR_PASSPHRASE="wrong")
        check(done.code == 1 and "passphrase" in done.err and not done.out, "a wrong passphrase:", done)
    for text in (b"", b"# nothing\n", SECRET[:-1].encode() + b"Q\n", b"\xff\xfe", b"age-encryption.org/v1\n",
                 b"-----BEGIN\n"):
        path = os.path.join(top, "no-key")
        put(path, text)
        done = call("--repository", case.far.dir, "--identity", path, "list", path=NO_TOOLS, BDR_PASSPHRASE="x")
        check(done.code == 1 and "no-key" in done.err and "Traceback" not in done.err, "no key:", text, done)


def with_keys_that_lie_there(case, top):
    def lie(data):
        name = os.path.join(case.far.dir, "identity-%s.age" % hashlib.sha256(data).hexdigest()[:8])
        put(name, data)
        return name

    def run(path=None, **env):
        return call("--repository", case.far.dir, *(["--identity", path] if path else []), "list", **env)

    other, third = os.path.join(top, "other"), rng.getrandbits(256).to_bytes(32, "little")
    put(other, OTHER.encode())
    nine = bytes([9]) + bytes(31)
    check(run(other).code == 1, "another key opens nothing")
    # One leads to the next, and that to the one of the records.
    third_text = written(third)
    points = [recover.x25519(key, nine) for key in (recover.bech32(OTHER)[1], third)]
    chain = [lie(encrypt((third_text + "\n").encode(), point=points[0])),
             lie(encrypt(SECRET.encode() + b"\n", point=points[1]))]
    done = run(other)
    check(done.code == 0 and done.out, "a key that leads to an older one:", done)
    put(chain[1], open(chain[1], "rb").read()[:-1])
    done = run(other)
    check(done.code == 1 and "checksum" in done.err and "Traceback" not in done.err, "a damaged one:", done)
    for name in chain:
        os.unlink(name)
    # A passphrase alone.
    locked = lie(encrypt_to_passphrase(SECRET.encode() + b"\n", b"correct horse"))
    for name in ("BDR_REMOTE_PASSPHRASE", "BDR_PASSPHRASE"):
        done = run(**{name: "correct horse"})
        check(done.code == 0 and done.out, "the passphrase alone:", done)
        done = run(**{name: "wrong"})
        check(done.code == 1 and "the passphrase is wrong" in done.err, "a wrong passphrase alone:", done)
    done = call("--repository", case.far.dir, "verify", BDR_REMOTE_PASSPHRASE="wrong")
    check(done.code == 0 and "nothing else" in done.out, "verify needs none:", done)
    os.unlink(locked)
    # What somebody else put there changes nothing.
    letters = b"A" * 43
    foreign = [lie(b"age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 60\n%s\n--- %s\n" % (letters, letters)),
               lie(encrypt(b"nonsense\n")), lie(encrypt_to_passphrase(b"nonsense\n", b"correct horse")), lie(b"x")]
    locked = lie(encrypt_to_passphrase(SECRET.encode() + b"\n", b"correct horse"))
    done = run(BDR_REMOTE_PASSPHRASE="correct horse")
    check(done.code == 0 and done.out, "foreign identities, and a passphrase:", done)
    put(other, SECRET.encode())
    done = run(other)
    check(done.code == 0 and done.out, "foreign identities, and a key:", done)
    for name in foreign + [locked]:
        os.unlink(name)


def in_words(case, top):
    # https://github.com/trezor/python-mnemonic/blob/master/vectors.json
    path = os.path.join(top, "words")
    for secret, words in (
            ("00" * 32, "abandon " * 23 + "art"),
            ("ff" * 32, "zoo " * 23 + "vote"),
            ("f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f",
             "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol "
             "group space point ten exist slush involve unfold")):
        for text in (words, words.upper(), "\n".join("%d. %s" % (n, w[:4]) for n, w in enumerate(words.split()))):
            put(path, text.encode())
            done = call("--identity", path, "key")
            check(done.code == 0 and done.out == written(bytes.fromhex(secret)) + "\n", "words:", text, done)
        for text, what in ((words.replace(words.split()[9], "tabel"), "word 1"), (words.rsplit(" ", 1)[0], "these are 23 words"),
                           (words.rsplit(" ", 1)[0] + " able", "checksum")):
            put(path, text.encode())
            done = call("--identity", path, "key")
            check(done.code == 1 and (what in done.err or what == "word 1" and "is not in the list" in done.err),
                  "wrong words:", text, done)
    put(path, ("RECOVERY SHEET of bdr for far\n\nthe key:\n\n%s\n\n1. void\n" % SECRET).encode())
    for command, out in (("key", SECRET + "\n"), ("list", None)):
        done = call("--repository", case.far.dir, "--identity", path, command)
        check(done.code == 0 and out in (None, done.out), "a sheet:", done)


def written(secret):
    """AGE-SECRET-KEY-1… (BIP-173)."""
    letters, prefix = "qpzry9x8gf2tvdw0s3jn54khce6mua7l", "age-secret-key-"
    number = int.from_bytes(secret, "big") << 4
    digits = [number >> 5 * at & 31 for at in reversed(range(52))]

    def polymod(values):
        check_ = 1
        for value in values:
            top = check_ >> 25
            check_ = (check_ & 0x1ffffff) << 5 ^ value
            for at, factor in enumerate((0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3)):
                check_ ^= factor if top >> at & 1 else 0
        return check_

    spread = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    sum_ = polymod(spread + digits + [0] * 6) ^ 1
    digits += [sum_ >> 5 * at & 31 for at in reversed(range(6))]
    return (prefix + "1" + "".join(letters[digit] for digit in digits)).upper()


def with_ssh(top, world):
    if not (shutil.which("age") and shutil.which("ssh-keygen")):
        skip("keys of SSH (it takes age and ssh-keygen)")
        return
    path = os.path.join(top, "id")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    far = Far(os.path.join(top, "ssh"), world, lambda plain: subprocess.run(
        ["age", "-R", path + ".pub"], input=plain, stdout=subprocess.PIPE, check=True).stdout)
    case = Case(top, far, ["--identity", path])
    done, tree = case.restore()
    check(done.code == 0 and tree == world.truth[-1], "with a key of SSH:", done)
    done = case.run("verify")
    check(done.code == 0, "verify with a key of SSH:", done)
    done = case.run("list", path=NO_TOOLS)
    check(done.code == 1 and "PATH" in done.err, "a key of SSH without age:", done)


def several_machines(top, key):
    there = os.path.join(top, "several")
    worlds = [World(2) for _ in range(2)]
    fars = [Far(there, world) for world in worlds]
    for directory in (there, os.path.join(there, "bdr1")):
        done = call("--repository", directory, "--identity", key, "list")
        named = all(far.machine in done.err for far in fars) and "laptop" in done.err
        check(done.code == 2 and named, "two machines:", done)
        for far, world in zip(fars, worlds):
            target = os.path.join(top, "out-" + far.machine)
            shutil.rmtree(target, ignore_errors=True)
            done = call("--repository", directory, "--identity", key, "--machine", far.machine.lower(),
                        "restore", "latest", target)
            check(done.code == 0 and tree_of(target + "/tree") == world.truth[-1], "one of two machines:", done)
    done = call("--repository", there, "--machine", "02", "list")
    check(done.code == 2, "no such machine:", done)
    # A copy of a machine pushed as well.
    far = fars[0]
    data = get(far.dir + "/pushes/%010d-%s" % (2, far.ids[2]))
    put(far.dir + "/pushes/%010d-%s" % (2, "0" * 26), data)
    done = call("--repository", far.dir, "--identity", key, "list")
    check(done.code == 0 and "copy of the machine" in done.err, "two records of a number:", done)


def as_recover_md_says(top, world, key):
    """The commands of RECOVER.md, in the directory, with nothing else on PATH that could help."""
    md = get(os.path.join(HERE, "..", "src", "remote", "RECOVER.md")).decode()
    far = Far(os.path.join(top, "md"), world)
    home = os.path.join(top, "home")
    os.makedirs(home)
    shutil.copy(key, far.dir + "/key.txt")
    commands = [line.strip().split("  #")[0] for line in md.splitlines() if line.startswith("    python3 ")]
    check(len(commands) >= 2 and any("restore" in line for line in commands), "RECOVER.md has no commands")
    os.makedirs(home + "/bin")
    os.symlink(sys.executable, home + "/bin/python3")
    for command in commands:
        done = subprocess.run(["/bin/sh", "-c", command], cwd=far.dir, env={"HOME": home, "PATH": home + "/bin"},
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check(done.returncode == 0, command, done.stdout.decode(), done.stderr.decode())
    check(tree_of(home + "/recovered/tree") == world.truth[-1], "what RECOVER.md restores")


def main():
    began = time.monotonic()
    for test in (known_answers, like_the_plain_ones, with_age, testkit):
        test()
    with tempfile.TemporaryDirectory() as top:
        top = os.path.realpath(top)
        key, other = os.path.join(top, "key.txt"), os.path.join(top, "other.txt")
        put(key, b"# created: today\n" + SECRET.encode() + b"\n")
        put(other, OTHER.encode() + b"\n")
        put(os.path.join(top, "secret"), b"secret")
        world = World()
        world.write(os.path.join(top, "repo"))
        for name, sealed, options in (("age", encrypt, ["--identity", other, "--identity", key]), ("none", None, [])):
            far = Far(os.path.join(top, name), world, sealed)
            case = Case(top, far, options)
            for test in (all_is_well, only_what_is_needed, never_wrong, what_is_left):
                test(case)
            hostile(case, top)
            if sealed:
                without_the_key(case, other)
                not_encrypted_among_encrypted(case)
                exchanged(case)
                with_passphrase(case, top)
                with_keys_that_lie_there(case, top)
                in_words(case, top)
        done = call("--repository", os.path.join(top, "repo"), "verify")
        check(done.code == 0, "the repository itself:", done)
        odd_records(top)
        several_machines(top, key)
        with_ssh(top, world)
        as_recover_md_says(top, world, key)
    print("recover.py reads destinations: all is well, %.0f s%s" % (
        time.monotonic() - began, ", %d skipped" % len(skipped) if skipped else ""))


if __name__ == "__main__":
    main()
