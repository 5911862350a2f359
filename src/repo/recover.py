#!/usr/bin/env python3
"""Reads a bdr repository (format version 1) without bdr. Needs Python 3.8 or newer and nothing else.

  recover.py [--repository DIR] list
  recover.py [--repository DIR] ls SNAPSHOT [ROOT[/PATH]]
  recover.py [--repository DIR] restore SNAPSHOT TARGET [ROOT[/PATH] ...]
  recover.py [--repository DIR] verify

DIR is the directory this file lies in unless given. SNAPSHOT is a sequence number, the beginning of an id, or
`latest`: the newest backup, and what only older ones have. A restore writes TARGET/ROOT/PATH and overwrites nothing that is there. The repository is never written to.
Exit code: 0 all is well; 1 failure; 2 wrong usage; 3 something could not be read or restored (everything else was, and
each loss is named on stderr); 4 verify found damage.
"""
import argparse, bisect, collections, datetime, errno, gzip, hashlib, heapq, io, json, os, re  # noqa: E401
import stat, struct, sys, tempfile, zlib  # noqa: E401

REVISION = 4
MEMBER = 256 * 1024  # a gzip member holds no more
EMPTY = hashlib.sha256(b"").hexdigest()
DIGEST = re.compile("[0-9a-f]{64}")
FOOTER = bytes.fromhex("1f8b08040000000000ff14004244") + b"\x10\x00"
WRONG = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)  # what odd JSON leads to
BROKEN = WRONG + (OSError, EOFError, zlib.error)
USER = getattr(os, "geteuid", lambda: -1)()
RECORD = 64 << 20  # no record is larger
COUNT = 1 << 53  # no number is larger
problems = 0


class Damaged(Exception):
    pass


def show(name):
    """A name for people: what is not printable is escaped."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def note(name, reason):
    print(show(name) + ": " + show(reason), file=sys.stderr)


def problem(name, reason):
    global problems
    problems += 1
    note(name, reason)


def open_own(path, limit=None, dir_fd=None):
    """Opens a regular file for reading, through no link and without waiting for anybody."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    number = os.open(path, flags, dir_fd=dir_fd) if dir_fd is not None else os.open(path, flags)
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode) or limit and found.st_size > limit:
        os.close(number)
        raise Damaged("it is not a file of a repository")
    return os.fdopen(number, "rb")


def sha256_of(path):
    digest = hashlib.sha256()
    with open_own(path) as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def text(obj, member):
    """The bytes of a member that has `_hex` appended to its name where they are not UTF-8."""
    return bytes.fromhex(obj[member + "_hex"]) if member + "_hex" in obj else obj[member].encode()


def checked_path(path):
    parts = path.split(b"/") if path else []
    if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
        raise ValueError("its path is not allowed")
    if os.name == "nt" and any(set(part) & set(b'\\:*?"<>|') or part[-1:] in (b".", b" ") for part in parts):
        raise ValueError("this system cannot have its name")
    return path


def checked_root(root):
    """Makes sure of the name of a root, which is a directory below the target, and of its path."""
    name, path = root["name"], text(root, "path") if isinstance(root["path"], str) else bytes.fromhex(root["path"]["hex"])
    if not 0 < len(name.encode()) < 256 or set(name) & set("/\\:") or name in (".", "..") or not name.isprintable():
        raise ValueError("a root cannot be called %r" % name)
    if not re.match(rb"/|[A-Za-z]:[/\\]|\\\\", path) or b".." in re.split(rb"[/\\]" if path[:1] != b"/" else rb"/", path):
        raise ValueError("a root cannot be at %r" % path)


class Entry:
    def __init__(self, obj):
        self.path = checked_path(text(obj, "p"))
        self.kind, self.mode, self.size = obj.get("k", "f"), obj["m"] & 0o7777, obj.get("s", 0)
        self.seconds, self.nanos = obj["t"]
        if not 0 <= self.size <= COUNT or not 0 <= self.nanos < 10**9:
            raise ValueError("a number of it cannot be")
        self.unsure = False  # it was written to after it was kept
        if self.kind not in ("f", "d", "l", "fifo", "socket", "char", "block"):
            raise ValueError("its kind is unknown")
        self.uid, self.gid = obj.get("u", 0), obj.get("g", 0)
        self.link, self.xattrs = obj.get("i", ""), obj.get("a", [])
        self.target = text(obj, "l") if self.kind == "l" else b""
        self.sparse = obj.get("o", False)
        self.kept = obj.get("y")  # set and number: it was kept in a staging area instead of being read
        if self.kept and not (re.fullmatch("[0-9A-Z]{26}", self.kept[0]) and self.kept[1] >= 0):
            raise ValueError("it names no kept file")
        self.hash = "kept %s %d" % tuple(self.kept) if self.kept else obj.get("h", EMPTY)
        self.blobs, self.extents = obj.get("b", [self.hash]), obj.get("x")
        self.seal(obj.get("z"))
        if self.kind == "f":
            sound = all(0 <= i < len(self.blobs) and o >= 0 and n >= 0 for i, o, n in self.extents)
            if not sound or sum(n for _, _, n in self.extents) != self.stored or (
                    self.stored and "h" not in obj and not self.kept):
                raise ValueError("its extents do not fit its size")

    def seal(self, sealed):
        """Takes what was sealed: values (placeholders stand for them), or all of it."""
        self.sealed = sealed
        self.whole = bool(sealed and sealed.get("w"))
        self.stored = sealed["s"] if sealed else self.size  # bytes in the repository
        if not self.extents or self.kept:
            self.extents = [[0, 0, self.stored]]


class Holes:
    """Writes a file that had holes: what is zero in it is left out."""

    def __init__(self, out):
        self.out, self.at = out, 0

    def write(self, piece):
        for start in range(0, len(piece), 4096):
            block = piece[start:start + 4096]
            if block.count(0) < len(block):
                self.out.seek(self.at)
                self.out.write(block)
            self.at += len(block)

    def seek(self, at):
        self.at = at

    def truncate(self):
        self.out.truncate(self.at)

    finish = truncate


class View:
    """Where the members of a pack lie, and where in their concatenated content the blobs lie."""

    def __init__(self, path, members, blobs):
        self.path, self.members, self.starts = path, members, [0]  # members: offset, packed and raw length
        for _, _, raw in members:
            self.starts.append(self.starts[-1] + raw)
        self.blobs = [(digest, self.starts[member] + offset, size) for digest, size, member, offset in blobs]


def tar_number(field):
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)


def tar_header(block):
    """(type, size) of a tar header of a pack, or None if it is none."""
    ours = block[:6] in (b"files/", b"blobs/") or block[:5] == b".bdr/" or block[:13] == b"././@LongLink"
    if len(block) < 512 or block[257:262] != b"ustar" or not ours:
        return None
    try:
        total = sum(block) - sum(block[148:156]) + 8 * 32
        return (block[156:157], tar_number(block[124:136])) if tar_number(block[148:156]) == total else None
    except ValueError:
        return None


def read_contents(path, repository):
    """The view of a pack that its table of contents gives."""
    with open_own(path) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 42))
        footer = file.read(42)
        if len(footer) != 42 or footer[:16] != FOOTER or footer[32:] != b"\x03" + bytes(9):
            raise Damaged("its footer is damaged or cut off")
        offset, length = struct.unpack("<QQ", footer[16:32])
        if offset + length != size - 42 or length > RECORD:
            raise Damaged("its footer does not fit its size")
        file.seek(offset)
        packed = file.read(length)
    try:
        archive = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(min(64 * length + (1 << 20), 2 * RECORD))
        contents = json.loads(archive[512:512 + tar_number(archive[124:136])])
        if contents["format"] != "bdr-pack" or contents["version"] != 1 or contents["repository"] != repository:
            raise ValueError("of another repository or format")
        members, at = [], 0
        for compressed, raw in contents["members"]:
            if not 0 < raw <= MEMBER or compressed < 18:
                raise ValueError("a member of impossible length")
            members.append((at, compressed, raw))
            at += compressed
        if at != offset or not all(DIGEST.fullmatch(b[0]) and b[1] >= 0 and b[2] >= 0 and b[3] >= 0
                                   for b in contents["blobs"]):
            raise ValueError("it does not fit the pack")
        return View(path, members, contents["blobs"])
    except BROKEN as error:
        raise Damaged("its table of contents is damaged (%s)" % error)


def salvage(path):
    """The view of a pack that its readable members give: entries are identified by their SHA-256."""
    members, blobs, unfinished, at = [], [], [], 0
    reach, base, window = MEMBER + 65536, 0, b""
    with open_own(path) as file:
        size = file.seek(0, 2)
        patience, last = 8 * size + RECORD, 0  # for what turns out to be no member, and for emptiness
        while at < size and patience > 0 and at - last < 8 * RECORD:
            if not base <= at < base + len(window) or at + reach > base + len(window) < size:
                try:
                    file.seek(at)
                    base, window = at, file.read(8 * reach)
                except OSError:
                    window = b""
                if not window:  # an unreadable sector
                    at = (at // 4096 + 1) * 4096
                    continue
            found = window.find(b"\x1f\x8b\x08\0", at - base)
            if found != at - base:
                at = base + found if found > 0 else max(at + 1, base + len(window) - 3)
                continue
            ahead = memoryview(window)[found:found + reach]
            try:
                gunzip = zlib.decompressobj(31)
                raw = gunzip.decompress(ahead, MEMBER + 1)
            except zlib.error:
                raw = b""
            if not gunzip.eof or not raw or len(raw) > MEMBER:
                patience -= len(raw) + 4096
                at += 1
                continue
            used = len(ahead) - len(gunzip.unused_data)
            last = at
            members.append((at, used, len(raw)))
            at += used
            # It may continue an entry. Or that entry's next member is lost and this one begins with a header.
            for item in unfinished:
                item[1].update(raw[:item[2]])
                item[2] -= min(item[2], len(raw))
            position, number = 0, len(members) - 1
            while True:
                header = tar_header(raw[position:position + 512])
                if not header:
                    break
                position += 512
                data = raw[position:position + header[1]]
                if header[0] in (b"0", b"\0"):
                    unfinished.append([(header[1], number, position), hashlib.sha256(data), header[1] - len(data)])
                position += -(-header[1] // 512) * 512
            blobs += [(digest.hexdigest(),) + where for where, digest, left in unfinished if left == 0]
            unfinished = [item for item in unfinished if item[2]]
    return View(path, members, blobs)


class Repository:
    def __init__(self, directory):
        self.dir = os.path.realpath(os.fsencode(directory))
        self.views, self.copies, self.good, self.lost = [], {}, {}, {}
        self.salvaged, self.frames, self.sets, self.cache = set(), {}, {}, collections.OrderedDict()
        try:
            with open_own(self.path("format.json"), RECORD) as file:
                form = json.load(file)
            self.id, version, features = form["id"], form["version"], form["features"]["read"]
        except (Damaged,) + BROKEN as error:
            if not os.path.isdir(self.path("snapshots")):
                raise SystemExit("%s is not a bdr repository: %s" % (show(self.dir), error))
            note("format.json", "damaged (%s); going by the snapshots" % error)
            self.id, version, features = None, 1, []
        if version != 1 or features:
            raise SystemExit("this repository needs a newer program: version %s, features %s" % (version, features))
        self.snapshots, self.damaged = [], []
        for name in self.names("snapshots", r"(\d{10})-([0-9A-Z]{26})\.json"):
            try:
                record = self.record("snapshots/" + name)
                if record["version"] != 1 or name != "%010d-%s.json" % (record["seq"], record["id"]):
                    raise ValueError("it is not what its name says")
                if not 0 <= record["seq"] < COUNT:
                    raise ValueError("its number cannot be")
                for root in record["roots"]:
                    checked_root(root)
                self.snapshots.append(record)
            except (Damaged,) + BROKEN as error:
                problem("snapshots/" + name, "damaged, not used: %s" % error)
                self.damaged.append(name)
        ids = collections.Counter(record.get("repository") for record in self.snapshots)
        if ids and self.id not in ids:
            self.id = ids.most_common(1)[0][0]
            note("format.json", "it does not fit the snapshots; reading those of repository %s" % self.id)
        for record in [r for r in self.snapshots if r.get("repository") != self.id]:
            note("snapshot %s" % record["id"], "of another repository, not used")
            self.snapshots.remove(record)
        if not self.snapshots:
            note("snapshots", "none that can be read")
        self.snapshots.sort(key=lambda record: (record["seq"], record["id"]))

    def path(self, name):
        return os.path.join(self.dir, os.fsencode(name))

    def names(self, directory, pattern):
        try:
            return sorted(n for n in os.listdir(os.fsdecode(self.path(directory))) if re.fullmatch(pattern, n))
        except OSError as error:
            if error.errno != errno.ENOENT:
                problem(directory, error)
            return []

    def record(self, name):
        with open_own(self.path(name), RECORD) as file:
            return self.checked(file.read())

    def checked(self, data):
        body = data[86:-2]
        if data != b'{"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'","record":' + body + b"}\n":
            raise Damaged("its checksum does not match, or it is cut off")
        return json.loads(body)

    def select(self, wanted):
        found = [r for r in self.snapshots if wanted.isdigit() and r["seq"] == int(wanted)]
        found = found or [r for r in self.snapshots if r["id"].startswith(wanted.upper())]
        if wanted == "latest":
            return self.latest()
        if len(found) != 1:
            raise SystemExit("%d snapshots fit `%s`; see `list`" % (len(found), wanted))
        return found[0]

    def latest(self):
        """The newest snapshot that somebody took to keep, with the roots that only older ones of these have."""
        kept = [r for r in self.snapshots if r["trigger"] in ("backup", "init")] or self.snapshots
        if not kept:
            print("no snapshot here can be read; see `verify`", file=sys.stderr)
            raise SystemExit(4 if self.damaged else 1)
        whole = dict(kept[-1], roots=[r for r in kept[-1]["roots"] if r.get("base")])
        for record in reversed(kept[:-1]):
            for root in record["roots"]:
                if root.get("base") and root["name"] not in [r["name"] for r in whole["roots"]]:
                    note("note", "%s is not in snapshot %d; taken from %d of %s"
                         % (root["name"], whole["seq"], record["seq"], record["time"]))
                    whole["roots"].append(root)
        return whole

    # --- listings -------------------------------------------------------------------------------------------------

    def base(self, digest):
        """Entries of a key frame, one by one."""
        name = "manifests/%s.json.gz" % digest
        try:
            if digest not in self.frames:
                self.frames[digest] = DIGEST.fullmatch(digest) and sha256_of(self.path(name)) == digest
            if not self.frames[digest]:
                raise ValueError("its checksum does not match its name")
            size, count = os.path.getsize(self.path(name)), 0
            with open_own(self.path(name)) as packed, gzip.open(packed, "rb") as file:
                head = json.loads(file.readline(RECORD) + b"]}")
                if (head["format"], head["version"], head["repository"]) != ("bdr-manifest", 1, self.id):
                    raise ValueError("it has another format or belongs to another repository")
                for line in iter(lambda: file.readline(8 << 20), b""):
                    count += 1
                    if count > size // 8 + 100003 or not line.endswith(b"\n"):
                        raise ValueError("it is longer than its file has room for")
                    line = line.strip().rstrip(b",")
                    if line not in (b"", b"]}"):
                        yield json.loads(line)
        except BROKEN as error:
            raise Damaged("%s: %s" % (name, error))

    def listing(self, root):
        """Entries of a root, sorted; what is wrong with them is reported."""
        name = root["name"]

        def entries(objects):
            try:
                for obj in objects:
                    try:
                        yield Entry(obj)
                    except WRONG as error:
                        problem("%s: entry %s" % (name, json.dumps(obj)[:200]), error)
            except Damaged as error:
                problem(name, "only what changed since its base listing can be found: %s" % error)

        changed = {entry.path: entry for entry in entries(root.get("changed", []))}
        removed = removed_paths(root)
        key = lambda entry: entry.path.split(b"/")  # noqa: E731
        base = entries(self.base(root["base"]) if root.get("base") else [])
        kept = (e for e in base if e.path not in changed and not is_below(e.path, removed))
        return heapq.merge(kept, sorted(changed.values(), key=key), key=key)

    # --- content --------------------------------------------------------------------------------------------------

    def load_packs(self, report=note):
        for two in self.names("packs", "[0-9a-f]{2}"):
            for name in self.names("packs/" + two, two + r"[0-9a-f]{62}\.tar\.gz"):
                name = "packs/%s/%s" % (two, name)
                try:
                    try:
                        self.add_view(read_contents(self.path(name), self.id))
                    except Damaged as error:
                        report(name, "%s; looking through its members" % error)
                        self.salvage(self.path(name))
                except OSError as error:
                    problem(name, error)

    def add_view(self, view):
        self.views.append(view)
        for digest, position, size in view.blobs:
            self.copies.setdefault(digest, []).append((view, position, size))

    def salvage(self, path):
        if path not in self.salvaged:
            self.salvaged.add(path)
            self.add_view(salvage(path))

    def member(self, view, number):
        """A decompressed member of a pack; a few are kept."""
        key = (id(view), number)
        if key in self.cache:
            self.cache.move_to_end(key)
            return self.cache[key]
        offset, packed, raw = view.members[number]
        try:
            with open_own(view.path) as file:
                file.seek(offset)
                gunzip = zlib.decompressobj(31)
                data = gunzip.decompress(file.read(packed), raw + 1)
            if not gunzip.eof or gunzip.unused_data or len(data) != raw:
                raise ValueError("cut off, or of wrong length")
        except BROKEN as error:
            raise Damaged("%s is damaged near byte %d: %s" % (os.path.basename(view.path).decode(), offset, error))
        self.cache[key] = data
        if len(self.cache) > 6:
            self.cache.popitem(last=False)
        return data

    def read(self, view, position, size):
        number = bisect.bisect_right(view.starts, position) - 1
        while size > 0:
            if number >= len(view.members):
                raise Damaged("%s ends too early" % os.path.basename(view.path).decode())
            start = position - view.starts[number]
            piece = self.member(view, number)[start:start + size]
            yield piece
            position, size, number = position + len(piece), size - len(piece), number + 1

    def find(self, digest):
        """Copies of a blob, and when none of them was good, those that a closer look at their packs finds."""
        known = list(self.copies.get(digest, []))
        yield from known
        for path in {view.path for view, _, _ in known}:
            self.salvage(path)
        yield from self.copies.get(digest, [])[len(known):]

    def matches(self, digest, copy, out=None):
        found = hashlib.sha256()
        for piece in self.read(*copy):
            found.update(piece)
            if out:
                out.write(piece)
        if found.hexdigest() != digest:
            raise Damaged("blob %s is damaged" % digest)

    def good_copy(self, digest, out=None):
        """A copy of a blob whose bytes have its SHA-256; they are written to `out`."""
        if digest in self.good and not out:
            return self.good[digest]
        if digest in self.lost:
            raise Damaged(self.lost[digest])
        reason = "blob %s is in no pack" % digest
        for copy in self.find(digest):
            try:
                if out:
                    out.seek(0)
                    out.truncate()
                self.matches(digest, copy, out)
                self.good[digest] = copy
                return copy
            except Damaged as error:
                reason = str(error)
        self.lost[digest] = reason
        raise Damaged(reason)

    def content(self, entry, out=None):
        """Writes the content of a file to `out` (or nowhere) and checks it."""
        if entry.kept:
            try:
                return self.kept_content(entry, out)
            except BROKEN as error:
                raise Damaged(str(error))
        if not entry.stored:
            return
        if entry.blobs == [entry.hash] and entry.extents == [[0, 0, entry.stored]]:
            if self.good_copy(entry.hash, out)[2] != entry.stored:
                raise Damaged("its size is wrong")
            return
        places = {}
        for number in {number for number, _, _ in entry.extents}:
            blob = entry.blobs[number]
            try:
                places[number] = self.good_copy(blob)
            except Damaged:  # the parts needed here may be whole: the file's own SHA-256 tells
                if not self.copies.get(blob):
                    raise
                places[number] = self.copies[blob][0]
        found = hashlib.sha256()
        for number, offset, length in entry.extents:
            view, position, size = places[number]
            if offset + length > size:
                raise Damaged("an extent lies outside its blob")
            for piece in self.read(view, position + offset, length):
                found.update(piece)
                if out:
                    out.write(piece)
        if found.hexdigest() != entry.hash:
            raise Damaged("the stored bytes have a different checksum")


    def kept_set(self, name):
        """The record of a set of kept files, and their digests once they were packed (else None)."""
        if name not in self.sets:
            files, unsure = None, []
            try:
                path = self.path("kept/%s.contents.json.gz" % name)
                with open_own(path, RECORD) as packed, gzip.open(packed, "rb") as file:
                    contents = self.checked(file.read(4 * RECORD))
                    files, unsure = contents["files"], contents.get("unsure", [])
            except FileNotFoundError:
                pass
            self.sets[name] = (None if files else self.record("kept/%s.json" % name)), files, unsure
        return self.sets[name]

    def settle(self, entry):
        """Looks up what kept content turned out to be, if that is known."""
        if entry.kept:
            name, number = entry.kept
            _, files, unsure = self.kept_set(name)
            if files is not None and files[number]:
                entry.unsure = number in unsure
                found = files[number]
                found = found if isinstance(found, dict) else {"h": found}
                entry.hash = found.get("h", EMPTY)
                entry.blobs = [entry.hash]
                entry.seal(found.get("z"))
                entry.kept = None

    def kept_content(self, entry, out):
        name, number = entry.kept
        record, files, _ = self.kept_set(name)
        if files is not None:
            self.settle(entry)
            if entry.kept:
                raise Damaged("it was written to before it could be packed")
            return self.content(entry, out)
        size, time = record["files"][number]
        area = record["area"]
        area = bytes.fromhex(area["hex"]) if isinstance(area, dict) else area.encode()
        own_area(area, "bdr %s %s\n" % (self.id, name), name)
        shard = os.path.join(area, b"%d" % (number // 1024))
        if not stat.S_ISDIR(os.lstat(shard).st_mode):
            raise Damaged("what was kept is reached by a link")
        with open_own(os.path.join(shard, b"%d" % (number % 1024))) as file:
            found, left = os.fstat(file.fileno()), size
            changed = found.st_size == size and time and found.st_mtime_ns != time[0] * 10**9 + time[1]
            if size != entry.size or found.st_size < size or changed:
                raise Damaged("it was written to after it was kept")
            entry.unsure = found.st_size > size
            while left:
                piece = file.read(min(left, 1 << 18))
                if not piece:
                    raise Damaged("it became shorter while it was read")
                left -= len(piece)
                if out:
                    out.write(piece)


def own_area(area, owner, name):
    """Makes sure that a directory holds what bdr kept: this user's alone, and for this set."""
    if os.path.basename(area) != name.encode() or not os.path.isabs(area) or b".." in area.split(b"/"):
        raise Damaged("what was kept is not where it can be")
    for at in (os.path.dirname(area), area):
        found = os.lstat(at)
        if not stat.S_ISDIR(found.st_mode) or USER >= 0 and (found.st_uid != USER or found.st_mode & 0o077):
            raise Damaged("what was kept is not in a directory of this user alone")
    try:
        with open_own(os.path.join(area, b"owner"), 4096) as file:
            if file.read() != owner.encode():
                raise Damaged("what was kept there belongs to something else")
    except FileNotFoundError:  # of before areas said so
        if not os.path.dirname(area).endswith((b"-staging", b"/staging")):
            raise Damaged("nothing that bdr kept is there")


def removed_paths(root):
    return {bytes.fromhex(p["hex"]) if isinstance(p, dict) else p.encode() for p in root.get("removed", [])}


def is_below(path, tops):
    """Whether a path is one of `tops` or below one."""
    while tops:
        if path in tops:
            return True
        if not path:
            break
        path = path.rpartition(b"/")[0]
    return False


def full_name(root, entry):
    return root["name"].encode() + (b"/" + entry.path if entry.path else b"")


# --- commands -----------------------------------------------------------------------------------------------------

def command_list(repo, _):
    for r in repo.snapshots:
        roots = ", ".join("%s (%s)" % (root["name"], show(text(root, "path"))) for root in r["roots"])
        print("%4d  %s  %s  %-11s  %-7s %8d files  %s%s%s" % (
            r["seq"], r["id"], r["time"][:19], r["kind"], r["trigger"], r["stats"]["files"], show(roots),
            "  PARTIAL" if r.get("partial") else "", "  " + show(r["label"]) if r.get("label") else ""))
    return 3 if problems else 0


def command_ls(repo, args):
    kinds = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK, "fifo": stat.S_IFIFO}
    tops = [os.fsencode(args.path.rstrip("/"))] if args.path else []
    for root in repo.select(args.snapshot)["roots"]:
        if tops and tops[0].split(b"/")[0] != root["name"].encode():
            continue
        for entry in repo.listing(root):
            name = full_name(root, entry)
            if not tops or is_below(name, tops) or is_below(show(name).encode(), tops):
                try:
                    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=entry.seconds)
                except OverflowError:
                    when = "?"
                target = " -> " + show(entry.target) if entry.kind == "l" else ""
                mode = stat.filemode(kinds.get(entry.kind, 0) | entry.mode)
                print("%s %12d  %s  %s%s" % (mode, entry.size, when, show(name), target))
    return 3 if problems else 0


class Restore:
    def __init__(self, repo, target):
        self.repo, self.target, self.made, self.links = repo, target, set(), {}
        self.files, self.fifos, self.no_xattrs = 0, 0, False

    def place(self, name):
        """Where a name goes. Its parent directories are made; none of them may be a symlink."""
        at = self.target
        for part in name.split(b"/")[:-1]:
            at = os.path.join(at, part)
            self.directory(at)
        return os.path.join(self.target, name)

    def directory(self, at):
        if at in self.made:
            return
        try:
            os.mkdir(at, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(at).st_mode):
                raise Damaged("%s is in the way: it is not a directory" % show(at))
        self.made.add(at)

    def metadata(self, at, name, entry):
        def attempt(what, action, *args, **kwargs):
            try:
                action(*args, **kwargs)
            except (OSError, OverflowError, ValueError) as error:
                problem(name, "restored, but not its %s: %s" % (what, error))

        nofollow = {"follow_symlinks": False}
        if USER == 0:
            attempt("owner", os.chown, at, entry.uid, entry.gid, **nofollow)
        for key, value in entry.xattrs:
            if not hasattr(os, "setxattr"):
                self.no_xattrs = True
                break
            key = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes.fromhex(m[1].decode()), key.encode())
            attempt("attribute " + show(key), os.setxattr, at, key, bytes.fromhex(value), **nofollow)
        if entry.kind != "l":
            # Set-user-ID of a file that somebody else may have put into the repository would be dangerous.
            # On a directory they decide who shares what is made in it.
            attempt("mode", os.chmod, at, entry.mode & (0o1777 if entry.kind != "d" else 0o7777))
            if entry.mode & 0o6000 and entry.kind != "d":
                problem(name, "restored, but not set-user-ID or set-group-ID: give them back yourself")
        if entry.kind != "l" or os.utime in os.supports_follow_symlinks:
            time = entry.seconds * 10**9 + entry.nanos
            attempt("time", os.utime, at, ns=(time, time), **({} if entry.kind != "l" else nofollow))

    def file(self, name, entry, group):
        try:
            self.repo.settle(entry)
        except BROKEN as error:
            raise Damaged(str(error))
        if entry.whole:
            note(name, "sealed: only its metadata is in the repository; bdr on the machine it came from can restore it")
            return
        if entry.sealed:
            # Placeholders are not to be taken for values: never under the file's own name.
            name, entry.mode, group = name + b".bdr-restored", 0o600, None
            note(name, "sealed: placeholders stand for its secret values")
        at = self.place(name)
        if os.path.lexists(at):
            there = os.lstat(at)
            if not stat.S_ISREG(there.st_mode) or there.st_size != entry.stored or sha256_of(at) != entry.hash:
                raise Damaged("something else is there already; left alone")
            self.metadata(at, name, entry)
        else:
            if group in self.links:
                try:
                    os.link(self.links[group], at)
                    self.files += 1
                    return
                except OSError as error:  # no hard links here: a copy
                    problem(name, "restored as a file of its own, not as another name of %s: %s"
                            % (show(os.path.relpath(self.links[group], self.target)), error))
            fd, temporary = tempfile.mkstemp(prefix=b".recover-", suffix=b"", dir=os.path.dirname(at))
            try:
                with os.fdopen(fd, "wb") as out:
                    sink = Holes(out) if entry.sparse else out
                    self.repo.content(entry, sink)
                    if entry.sparse:
                        sink.finish()
                self.metadata(temporary, name, entry)
                os.replace(temporary, at)
                if entry.unsure:
                    problem(name, "restored, but it was written to after it was kept: it may not be as it was")
            except BaseException:
                os.unlink(temporary)
                raise
        self.files += 1
        if group:
            self.links[group] = at

    def symlink(self, name, entry, group):
        at = self.place(name)
        if not os.path.lexists(at) and group in self.links:
            try:
                os.link(self.links[group], at, **({"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}))
                return
            except OSError as error:
                problem(name, "restored as a symlink of its own: %s" % error)
        if not os.path.lexists(at):
            os.symlink(entry.target, at)
            if group:
                self.links[group] = at
        elif not os.path.islink(at) or os.readlink(at) != entry.target:
            raise Damaged("something else is there already; left alone")
        self.metadata(at, name, entry)

    def fifo(self, name, entry):
        at = self.place(name)
        if not os.path.lexists(at):
            os.mkfifo(at, 0o600)
            self.fifos += 1
        elif not stat.S_ISFIFO(os.lstat(at).st_mode):
            raise Damaged("something else is there already; left alone")
        self.metadata(at, name, entry)


def command_restore(repo, args):
    global problems
    snapshot = repo.select(args.snapshot)
    newer = [n for n in repo.damaged if int(n[:10]) >= snapshot["seq"]]
    problems = len(newer) if args.snapshot == "latest" else 0
    wanted = {os.fsencode(path.rstrip("/")): False for path in args.paths}
    target = os.path.realpath(os.fsencode(args.target))
    if (target + os.sep.encode()).startswith(repo.dir + os.sep.encode()):
        print("the target lies in the repository", file=sys.stderr)
        return 2
    os.makedirs(target, exist_ok=True)
    print("snapshot %d of %s (%s, %s)" % (snapshot["seq"], snapshot["time"], snapshot["kind"], snapshot["trigger"]))
    if snapshot["trigger"] not in ("backup", "init"):
        note("note", "taken before a command: it holds only %s" % ", ".join(r["name"] for r in snapshot["roots"]))
    if snapshot.get("partial"):
        note("note", "when it was taken, %d paths could not be read" % len(snapshot.get("problems", [])))
    repo.load_packs()
    restore, directories, symlinks, names = Restore(repo, target), [], [], set()

    def each(name, action, *rest):
        try:
            action(name, *rest)
        except (Damaged,) + WRONG as error:
            problem(name, error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            problem(name, error)

    for root in snapshot["roots"]:
        top = root["name"].encode()
        if wanted and not any(path.split(b"/")[0] == top for path in wanted):
            continue
        try:
            if b"/" in top or not checked_path(top) or top in names:
                raise ValueError("its name is not allowed, or it is there twice")
        except ValueError as error:
            problem(top, error)
            continue
        names.add(top)
        for entry in repo.listing(root):
            name = full_name(root, entry)
            hits = [p for p in wanted if is_below(name, [p]) or is_below(show(name).encode(), [p])]
            wanted.update((path, True) for path in hits)
            chosen = hits or not wanted
            if entry.kind == "d":
                if chosen:
                    each(name, lambda n: restore.directory(restore.place(n)))
                if chosen or any(is_below(path, [name]) for path in wanted):
                    directories.append((name, entry))
            elif chosen and entry.kind == "f":
                group = (top, entry.link, entry.hash, entry.size) if entry.link else None
                each(name, restore.file, entry, group)
            elif chosen and entry.kind == "l":
                symlinks.append((name, entry, (top, entry.link, entry.target) if entry.link else None))
            elif chosen and entry.kind == "fifo" and hasattr(os, "mkfifo"):
                each(name, restore.fifo, entry)
            elif chosen:
                note(name, "a %s, never stored" % entry.kind)
    # Symlinks after every file: nothing can be written through them. Then directories, the deepest first.
    for name, entry, group in symlinks:
        each(name, restore.symlink, entry, group)
    for name, entry in reversed(directories):
        at = os.path.join(target, name)
        if at in restore.made:
            each(name, lambda n: restore.metadata(at, n, entry))
    for path in [path for path, seen in wanted.items() if not seen]:
        problem(path, "not in this snapshot")
    if restore.no_xattrs:
        note("note", "extended attributes cannot be restored on this system")
    print("%d files, %d directories, %d symlinks%s restored below %s; %d problems"
          % (restore.files, len(restore.made), len(symlinks), ", %d FIFOs" % restore.fifos if restore.fifos else "",
             show(target), problems))
    return 3 if problems else 0


def command_verify(repo, _):
    for name in repo.names("operations", r"[0-9A-Z]{26}\.(begin|end)\.json"):
        try:
            repo.record("operations/" + name)
        except (Damaged,) + BROKEN as error:
            problem("operations/" + name, error)
    for name in repo.names("manifests", r"[0-9a-f]{64}\.json\.gz"):
        try:
            for _entry in repo.base(name[:64]):
                pass
        except Damaged as error:
            problem("listing", error)
    repo.load_packs(problem)
    packs = list(repo.views)
    for view in packs:
        name = os.fsdecode(os.path.relpath(view.path, repo.dir))
        try:
            if sha256_of(view.path) != name[-71:-7]:
                problem(name, "its checksum does not match its name")
        except OSError as error:
            problem(name, error)
        for digest, position, size in sorted(view.blobs, key=lambda blob: blob[1]):
            try:
                repo.matches(digest, (view, position, size))
                repo.good[digest] = (view, position, size)
            except Damaged as error:
                problem(name, error)
    # A listing is checked once. What is wrong in it counts for the snapshots that still show that entry.
    users, checked, files = {}, {}, 0
    for snapshot in repo.snapshots:
        for root in snapshot["roots"]:
            users.setdefault((root["name"], root.get("base")), []).append((snapshot, root))
    for (name, base), uses in users.items():
        whole = dict(uses[0][1], changed=[], removed=[])
        parts = [(whole, uses)] + [(dict(root, base=None), [(snapshot, root)]) for snapshot, root in uses]
        for part, holders in parts:
            for entry in repo.listing(part):
                if entry.kind != "f":
                    continue
                key = (entry.hash, entry.size, json.dumps([entry.blobs, entry.extents]))
                if key not in checked:
                    files += 1
                    try:
                        checked[key] = repo.content(entry)
                    except (Damaged,) + WRONG as error:
                        checked[key] = str(error)
                if checked[key]:
                    seen = [snapshot["seq"] for snapshot, root in holders if part is not whole or not (
                        is_below(entry.path, removed_paths(root))
                        or any(text(c, "p") == entry.path for c in root.get("changed", [])))]
                    if seen:
                        problem(full_name(part, entry), "lost in snapshot %s: %s"
                                % (", ".join(map(str, seen)), checked[key]))
    print("%d snapshots, %d packs, %d different contents of files checked: %s"
          % (len(repo.snapshots), len(packs), files, "%d problems" % problems if problems else "no damage"))
    return 4 if problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", metavar="DIR", default=os.path.dirname(os.path.abspath(__file__)))
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, arguments, about in (
            ("list", command_list, "", "show the snapshots"),
            ("ls", command_ls, "snapshot path?", "show the files of a snapshot (those at and below ROOT[/PATH])"),
            ("restore", command_restore, "snapshot target paths*", "restore a snapshot, or some paths of it"),
            ("verify", command_verify, "", "check everything")):
        command = commands.add_parser(name, help=about)
        command.set_defaults(run=run)
        for argument in arguments.split():
            command.add_argument(argument.rstrip("?*"), **({"nargs": argument[-1]} if argument[-1] in "?*" else {}))
    args = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        code = args.run(Repository(args.repository), args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 1
    except (OSError,) + WRONG as error:
        print("failed: %s" % error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
