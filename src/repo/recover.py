#!/usr/bin/env python3
"""Reads a bdr repository (format version 1) without bdr. Needs Python 3.8 or newer and nothing else.

  recover.py [--repository DIR] list
  recover.py [--repository DIR] ls SNAPSHOT [ROOT[/PATH]]
  recover.py [--repository DIR] restore SNAPSHOT TARGET [ROOT[/PATH] ...]
  recover.py [--repository DIR] verify
  recover.py --identity FILE key

DIR is the directory this file lies in unless given. SNAPSHOT is a sequence number, the beginning of an id, or
`latest`: the newest backup, and what only older ones have. A restore writes TARGET/ROOT/PATH and overwrites nothing
that is there. The repository is never written to.

DIR may also be a destination of `bdr push` that was downloaded: the directory bdr1/ID of one machine, or the one
above it (then `--machine ID` says which, if there are several). If it is encrypted, give the secret key before the
command: `--identity FILE`, a file with AGE-SECRET-KEY-1…, with the words of the recovery sheet, or one of these that a
passphrase protects (asked for, or taken from BDR_REMOTE_PASSPHRASE). Without it, the passphrase of a file
identity-….age in DIR is asked for, if there is one. Such files that a key opens have older keys, which are used as
well. An SSH key needs `age` or `rage` on PATH; without one, this program decrypts by itself. `verify` without a key
checks sizes and checksums of what is stored; `key` prints the secret key, e.g. of words, for `age`. What a machine
pushes is signed: if the file of the secret key, or the sheet, says by whom, nothing else is believed.

Exit code: 0 all is well; 1 failure; 2 wrong usage; 3 something could not be read or restored (everything else was, and
each loss is named on stderr); 4 verify found damage.
"""
import argparse, base64, bisect, collections, datetime, errno, functools, getpass, gzip, hashlib  # noqa: E401
import heapq, hmac, io, json, os, re, stat, struct, subprocess, sys, tempfile, zlib  # noqa: E401

REVISION = 8
MEMBER = 256 * 1024  # a gzip member holds no more
EMPTY = hashlib.sha256(b"").hexdigest()
DIGEST = re.compile("[0-9a-f]{64}")
FOOTER = bytes.fromhex("1f8b08040000000000ff14004244") + b"\x10\x00"
WRONG = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, MemoryError)  # by odd JSON
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
    print(show(name) + ": " + show(str(reason) or type(reason).__name__), file=sys.stderr)


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


def open_below(top, name, limit=None):
    """Opens a file that a name below a directory leads to. No directory on the way may be a link."""
    parts = name.split("/")
    if os.open not in os.supports_dir_fd:
        for count in range(1, len(parts)):
            found = os.lstat(os.path.join(top, *map(os.fsencode, parts[:count])))
            if not stat.S_ISDIR(found.st_mode) or getattr(found, "st_file_attributes", 0) & 0x400:  # a junction
                raise Damaged("a link leads to it")
        return open_own(os.path.join(top, *map(os.fsencode, parts)), limit)
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        return open_own(parts[-1], limit, at)
    finally:
        os.close(at)


def sha256_of(file):
    digest = hashlib.sha256()
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
    name, path = root["name"], root["path"]
    path = text(root, "path") if isinstance(path, str) else bytes.fromhex(path["hex"])
    if not 0 < len(name.encode()) < 256 or set(name) & set("/\\:") or name in (".", "..") or not name.isprintable():
        raise ValueError("a root cannot be called %r" % name)
    parts = re.split(rb"[/\\]" if path[:1] != b"/" else rb"/", path)
    if not re.match(rb"/|[A-Za-z]:[/\\]|\\\\", path) or b".." in parts:
        raise ValueError("a root cannot be at %r" % path)
    if root.get("base") is not None and not DIGEST.fullmatch(root["base"]):
        raise ValueError("it is based on what is no listing")


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
        if not all(isinstance(digest, str) for digest in [self.hash, *self.blobs]):
            raise ValueError("what it names is no content")
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

    def __init__(self, name, members, blobs):
        self.name, self.members, self.starts = name, members, [0]  # members: offset, packed and raw length
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


def read_contents(place, name, repository):
    """The view of a pack that its table of contents gives."""
    with place.open(name) as file:
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
        return View(name, members, contents["blobs"])
    except BROKEN as error:
        raise Damaged("its table of contents is damaged (%s)" % error)


def salvage(place, name):
    """The view of a pack that its readable members give: entries are identified by their SHA-256."""
    members, blobs, unfinished, at = [], [], [], 0
    reach, base, window = MEMBER + 65536, 0, b""
    with place.open(name) as file:
        size = file.seek(0, 2)
        patience, last = 8 * size + RECORD, 0  # for what turns out to be no member, and for emptiness
        while at < size and patience > 0 and at - last < 8 * RECORD:
            if not base <= at < base + len(window) or at + reach > base + len(window) < size:
                try:
                    file.seek(at)
                    base, window = at, file.read(8 * reach)
                except (OSError, Damaged):
                    window = b""
                if not window:  # an unreadable sector, or chunk of an object
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
    return View(name, members, blobs)


# --- age (https://age-encryption.org/v1), so that nothing else is needed ------------------------------------------
# Written for speed, not against somebody who measures times: it decrypts what was downloaded, on this machine.

CHUNK = 65536
HEADER = 1 << 18  # no header of an encrypted file is longer
PRIME = (1 << 255) - 19
PRIME1305 = (1 << 130) - 5
ROUNDS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
          (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
STANZA = rb"-> ([!-~]+(?: [!-~]+)*)\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)"
AGE = re.compile(rb"age-encryption\.org/v1\n(?:" + STANZA + rb")+--- ([A-Za-z0-9+/]{43})\n")
ARMOR = re.compile(rb"-----BEGIN AGE ENCRYPTED FILE-----\r?\n"
                   rb"((?:[A-Za-z0-9+/]{64}\r?\n)*(?:[A-Za-z0-9+/=]{1,64}\r?\n)?)"
                   rb"-----END AGE ENCRYPTED FILE-----")


class NoKey(Damaged):
    """None of the keys opens it."""


def hkdf(secret, salt, info):
    key = hmac.new(salt or bytes(32), secret, "sha256").digest()
    return hmac.new(key, info + b"\1", "sha256").digest()


def base64_of(text):
    """The bytes of unpadded base 64, if no other text could stand for them."""
    data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    if base64.b64encode(data).rstrip(b"=") != text:
        raise Damaged("its header has bad base 64")
    return data


def bech32(text):
    """Prefix and bytes of a text in Bech32."""
    alphabet, low = "qpzry9x8gf2tvdw0s3jn54khce6mua7l", text.lower()
    prefix, _, rest = low.rpartition("1")
    if text not in (low, text.upper()) or not prefix or len(rest) < 6 or not set(rest) <= set(alphabet):
        raise ValueError("it is no text in Bech32")
    values, check, number = [alphabet.index(c) for c in rest], 1, 0
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    for value in values[:-6]:
        number = number << 5 | value
    count, spare = divmod(5 * (len(values) - 6), 8)
    if check != 1 or spare > 4 or number & (1 << spare) - 1:
        raise ValueError("it has a wrong letter, or lacks one")
    return prefix, (number >> spare).to_bytes(count, "big")


# The first four letters of each of the 2048 words of BIP-39 (English), in their order.
WORDS = (
    "abanabilableabouabovabseabsoabstabsuabusacceacciaccoaccuachiacidacouacquacroact actiactoactractuadapadd addiaddr"
    "adjuadmiaduladvaadviaeroaffaaffoafraagaiage agenagreaheaaim air airpaislalaralbualcoaleralieall allealloalmoalon"
    "alphalrealsoaltealwaamatamazamonamouamusanalanchanciangeanglangranimanklannoannuanotanswanteantianxiany aparapol"
    "appeapplapprapriarcharctareaarenarguarm armearmoarmyarouarraarrearriarroart arteartiartwask aspeassaasseassiassu"
    "asthathlatomattaatteattiattrauctaudiauguauntauthautoautuaveravocavoiawakawarawayawesawfuawkwaxisbabybachbacobadg"
    "bag balabalcballbambbanabannbar barebargbarrbasebasibaskbattbeacbeanbeaubecabecobeefbefobegibehabehibelibelobelt"
    "bencbenebestbetrbettbetwbeyobicybid bikebindbiolbirdbirtbittblacbladblamblanblasbleablesblinblooblosbloublueblur"
    "blusboarboatbodyboilbombbonebonubookboosbordboriborrbossbottbounbox boy bracbraibranbrasbravbreabreebricbridbrie"
    "brigbrinbrisbrocbrokbronbroobrotbrowbrusbubbbuddbudgbuffbuilbulbbulkbullbundbunkburdburgbursbus busibusybuttbuye"
    "buzzcabbcabicablcactcagecakecallcalmcamecampcan canacanccandcanncanocanvcanycapacapicaptcar carbcardcargcarpcarr"
    "cartcasecashcasicastcasucat catacatccatecattcaugcauscautcaveceilcelecemecenscentcerecertchaichalchamchanchaochap"
    "charchaschatcheacheccheechefchercheschicchiechilchimchoichoochrochucchunchurcigacinncircciticityciviclaiclapclar"
    "clawclaycleaclerclevclicclieclifclimclinclipclocclogclosclotclouclowclubclumclusclutcoaccoascococodecoffcoilcoin"
    "collcolocolucombcomecomfcomicommcompconccondconfcongconnconscontconvcookcoolcoppcopycoracorecorncorrcostcottcouc"
    "councoupcourcouscovecoyocraccradcrafcramcrancrascratcrawcrazcreacredcreecrewcriccrimcriscritcropcroscroucrowcruc"
    "cruecruicrumcruncruscry cryscubecultcup cupbcuricurrcurtcurvcushcustcutecycldad damadampdancdangdaridashdaugdawn"
    "day dealdebadebrdecadecedecidecldecodecrdeerdefedefidefydegrdeladelidemademidenidentdenydepadepedepodeptdepuderi"
    "descdesedesideskdespdestdetadetedevedevidevodiagdialdiamdiardicediesdietdiffdigidigndiledinndinodiredirtdisadisc"
    "disedishdismdisodispdistdivedividivodizzdoctdocudog dolldolpdomadonadonkdonodoordosedoubdovedrafdragdramdrasdraw"
    "dreadresdrifdrildrindripdrivdropdrumdry duckdumbduneduridustdutcdutydwardynaeageeaglearlearnearteasieasteasyecho"
    "ecoleconedgeediteduceffoegg eigheithelboeldeelecelegelemelepelevelitelseembaemboembremeremotemplempoemptenabenac"
    "end endlendoenemenerenfoengaengienhaenjoenlienouenrienroensuenteentientrenveepisequaequiera eraseroderoserroerup"
    "escaessaesseestaeterethievidevilevokevolexacexamexceexchexciexclexcuexecexerexhaexhiexilexisexitexotexpaexpeexpi"
    "explexpoexprexteextreye eyebfabrfacefacufadefainfaitfallfalsfamefamifamofan fancfantfarmfashfat fatafathfatifaul"
    "favofeatfebrfedefee feedfeelfemafencfestfetcfevefew fibefictfielfigufilefilmfiltfinafindfinefingfinifirefirmfirs"
    "fiscfishfit fitnfix flagflamflasflatflavfleefligflipfloaflocflooflowfluiflusfly foamfocufog foilfoldfollfoodfoot"
    "forcforeforgforkfortforuforwfossfostfounfox fragframfreqfresfriefrinfrogfronfrosfrowfrozfruifuelfun funnfurnfury"
    "futugadggaingalagallgamegap garagarbgardgarlgarmgas gaspgategathgauggazegenegenigenrgentgenugestghosgiangiftgigg"
    "ginggiragirlgivegladglanglarglasglidglimglobglooglorglovglowgluegoatgoddgoldgoodgoosgorigospgossgovegowngrabgrac"
    "graigrangrapgrasgravgreagreegridgriegritgrocgrougrowgrunguarguesguidguilguitgun gym habihairhalfhammhamshandhapp"
    "harbhardharsharvhat havehawkhazaheadhealhearheavhedgheighellhelmhelphen herohiddhighhillhinthip hirehisthobbhock"
    "holdholeholihollhomehonehoodhopehornhorrhorshosphosthotehourhovehub hugehumahumbhumohundhunghunthurdhurrhurthusb"
    "hybrice iconideaidenidleignoill illeillnimagimitimmeimmuimpaimpoimprimpuinchinclincoincrindeindiindoinduinfainfl"
    "infoinhainheinitinjeinjuinmainneinnoinpuinquinsainseinsiinspinstintainteintoinveinviinvoironislaisolissuitemivor"
    "jackjagujar jazzjealjeanjelljewejob joinjokejourjoy judgjuicjumpjungjunijunkjustkangkeenkeepketckey kickkid kidn"
    "kindkingkisskit kitckitekittkiwikneeknifknocknowlab labelaboladdladylakelamplanglaptlarglatelatilauglaunlavalaw "
    "lawnlawslayelazyleadleaflearleavlectleftleg legalegeleislemolendlenglensleoplesslettleveliarlibelibrlicelifelift"
    "lighlikelimblimilinklionliqulistlittlivelizaloadloanlobslocalocklogilonelonglooplottloudlounloveloyalucklugglumb"
    "lunaluncluxulyrimachmad magimagnmaidmailmainmajomakemammman manamandmangmansmanumaplmarbmarcmargmarimarkmarrmask"
    "massmastmatcmatemathmatrmattmaximazemeadmeanmeasmeatmechmedamedimelomeltmembmemomentmenumercmergmerimerrmeshmess"
    "metamethmiddmidnmilkmillmimimindminiminominumiramirrmisemissmistmix mixemixtmobimodemodimom momemonimonkmonsmont"
    "moonmoramoremornmosqmothmotimotomounmousmovemovimuchmuffmulemultmuscmusemushmusimustmutumysemystmythnaivnamenapk"
    "narrnastnatinatunearneckneedneganeglneitnephnervnestnet netwneutnevenewsnextnicenighnoblnoisnominoodnormnortnose"
    "notanotenothnotinovenow nuclnumbnursnut oak obeyobjeobliobscobseobtaobvioccuoceaoctoodoroff offeoffiofteoil okay"
    "old olivolymomitonceone onioonlionlyopenoperopinoppooptioranorbiorchordeordiorgaorieorigorphostrotheoutdouteoutp"
    "outsovalovenoverown owneoxygoystozonpactpaddpagepairpalapalmpandpanepanipantpapeparapareparkparrpartpasspatcpath"
    "patipatrpattpauspavepaympeacpeanpearpeaspelipen penapencpeoppeppperfpermperspet phonphotphraphyspianpicnpictpiec"
    "pig pigepillpilopinkpionpipepistpitcpizzplacplanplasplatplaypleapledplucplugplunpoempoetpoinpolapolepolipondpony"
    "poolpopuportposiposspostpotapottpovepowdpowepracpraipredprefprepprespretprevpricpridprimprinprioprisprivprizprob"
    "procprodprofprogprojpromproopropprosprotprouprovpublpuddpullpulppulspumppuncpupipupppurcpuripurppurspushput puzz"
    "pyraqualquanquarquesquicquitquizquotrabbraccracerackradaradirailrainraisrallramprancrandrangrapirareraterathrave"
    "raw razoreadrealreasrebereburecarecerecirecorecyredureflreforefuregiregrregurejerelarelerelirelyremaremeremiremo"
    "rendrenerentreopreparepereplreporequrescreseresiresorespresuretiretrretureunreverevirewarhytrib ribbricerichride"
    "ridgriflrighrigiringriotrippriskriturivariveroadroasroboroburockromaroofrookroomroserotarougrounroutroyarubbrude"
    "rug rulerun runwrurasad saddsadnsafesailsalasalmsalosaltsalusamesampsandsatisatosaucsaussavesay scalscanscarscat"
    "scenscheschosciescisscorscouscrascrescriscrusea searseasseatsecosecrsectsecuseedseeksegmselesellsemisenisenssent"
    "seriservsesssettsetuseveshadshafshalsharshedshelshershieshifshinshipshivshocshoeshooshopshorshoushovshrishrushuf"
    "shy siblsicksidesiegsighsignsilesilksillsilvsimisimpsincsingsiresistsitusix sizeskatsketski skilskinskirskulslab"
    "slamsleeslenslicslidsligslimslogslotslowslussmalsmarsmilsmoksmoosnacsnaksnapsnifsnowsoapsoccsocisocksodasoftsola"
    "soldsolisolusolvsomesongsoonsorrsortsoulsounsoupsoursoutspacsparspatspawspeaspecspeespelspensphespicspidspikspin"
    "spirsplispoisponspoosporspotspraspresprispy squasquesquistabstadstafstagstaistamstanstarstatstaysteasteestemstep"
    "stersticstilstinstocstomstonstoostorstovstrastrestristrostrustudstufstumstylsubjsubmsubwsuccsuchsuddsuffsugasugg"
    "suitsummsun sunnsunssupesuppsuprsuresurfsurgsurpsurrsurvsuspsustswalswamswapswarsweasweeswifswimswinswitsworsymb"
    "sympsyrusysttabltacktag tailtaletalktanktapetargtasktasttatttaxiteacteamtellten tenatenntenttermtesttextthanthat"
    "themthentheothertheythinthisthouthrethrithrothumthunticktidetigetilttimbtimetinytip tiretisstitltoastobatodatodd"
    "toe togetoiltoketomatomotonetongtonitooltoottop topitopptorctorntorttosstotatourtowatowetowntoy tractradtraftrag"
    "traitrantraptrastravtraytreatreetrentriatribtrictrigtrimtriptroptroutructruetrultrumtrustruttry tubetuittumbtuna"
    "tunnturkturnturttweltwentwictwintwistwo typetypiuglyumbrunabunawuncluncoundeundounfaunfounhaunifuniqunitunivunkn"
    "unlountiunusunveupdaupgruphouponuppeupseurbaurgeusaguse usedusefuselusuautilvacavacuvaguvalivallvalvvan vanivapo"
    "varivastvaulvehivelvvendventvenuverbveriversveryvessveteviabvibrvicivictvideviewvillvintviolvirtviruvisavisivisu"
    "vitavivivocavoicvoidvolcvoluvotevoyawagewagowaitwalkwallwalnwantwarfwarmwarrwashwaspwastwatewaveway wealweapwear"
    "weasweatweb weddweekweirwelcwestwet whalwhatwheawheewhenwherwhipwhiswidewidtwifewildwillwin windwinewingwinkwinn"
    "wintwirewisdwisewishwitnwolfwomawondwoodwoolwordworkworlworrwortwrapwrecwreswriswritwronyardyearyellyou younyout"
    "zebrzerozonezoo "
)


def bech32_of(prefix, data):
    """The opposite, for what is no longer than a key."""
    alphabet, spare = "qpzry9x8gf2tvdw0s3jn54khce6mua7l", -8 * len(data) % 5
    number = int.from_bytes(data, "big") << spare
    start = prefix + "1" + "".join(alphabet[number >> at & 31] for at in range(8 * len(data) + spare - 5, -1, -5))
    values = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    values += [alphabet.index(c) for c in start[len(prefix) + 1:]] + [0] * 6
    check = 1
    for value in values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return (start + "".join(alphabet[(check ^ 1) >> at & 31] for at in range(25, -1, -5))).upper()


def key_of_words(text):
    """The secret key of the 24 words of a recovery sheet (BIP-39). Four letters of each say which it is."""
    known = {WORDS[at:at + 4].rstrip(): at // 4 for at in range(0, len(WORDS), 4)}
    words, number = re.findall(r"[^\W\d_]+", text.lower()), 0
    for at, word in enumerate(words):
        if word[:4] not in known:
            raise ValueError("word %d, `%s`, is not in the list of words" % (at + 1, word[:24]))
        number = number << 11 | known[word[:4]]
    if len(words) != 24:
        raise ValueError("these are %d words; a key has 24" % len(words))
    secret = (number >> 8).to_bytes(32, "big")
    if hashlib.sha256(secret).digest()[0] != number & 255:
        raise ValueError("the checksum of the words is wrong: one of them is not the right one")
    return bech32_of("age-secret-key-", secret)


def x25519(scalar, point):
    """RFC 7748, section 5."""
    k = int.from_bytes(scalar, "little") & (1 << 254) - 8 | 1 << 254
    u = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3, swapped = 1, 0, u, 1, 0
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if bit != swapped:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swapped = bit
        a, b, da, cb = x2 + z2, x2 - z2, (x3 - z3) * (x2 + z2) % PRIME, (x3 + z3) * (x2 - z2) % PRIME
        aa, bb = a * a % PRIME, b * b % PRIME
        e, x3, z3 = aa - bb, (da + cb) ** 2 % PRIME, u * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


def edwards_add(p, q):
    """RFC 8032, section 5.1.4."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % PRIME, (p[1] + p[0]) * (q[1] + q[0]) % PRIME
    c, d = 2 * p[3] * q[3] * EDWARDS_D % PRIME, 2 * p[2] * q[2] % PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def edwards_times(number, point):
    total = (0, 1, 1, 0)
    for bit in bin(number)[2:]:
        total = edwards_add(total, total)
        total = edwards_add(total, point) if bit == "1" else total
    return total


def edwards_point(data):
    """RFC 8032, section 5.1.3."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(EDWARDS_D * y * y + 1, PRIME - 2, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    if len(data) != 32 or y >= PRIME or (x * x - square) % PRIME or (sign and not x):
        raise ValueError("a signature has what is no point")
    x = PRIME - x if x & 1 != sign else x
    return x, y, 1, x * y % PRIME


EDWARDS_D = -121665 * pow(121666, PRIME - 2, PRIME) % PRIME
EDWARDS_BASE = edwards_point((4 * pow(5, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little"))
EDWARDS_ORDER = (1 << 252) + 27742317777372353535851937790883648493


def is_signature(public, message, signature):
    """Whether Ed25519 holds: RFC 8032, section 5.1.7."""
    scalar = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or scalar >= EDWARDS_ORDER:
        return False
    number = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % EDWARDS_ORDER
    right = edwards_add(edwards_point(signature[:32]), edwards_times(number, edwards_point(public)))
    left = edwards_times(scalar, EDWARDS_BASE)
    return all((left[at] * right[2] - right[at] * left[2]) % PRIME == 0 for at in (0, 1))


@functools.lru_cache(4)
def lanes(count):
    """For numbers that have one lane of 40 bits for each block: a 1 in each, their numbers, and the masks with which
    32 bits are rotated by 16, 12, 8, 7."""
    ones = int.from_bytes(b"\1\0\0\0\0" * count, "little")
    numbers = int.from_bytes(b"".join(number.to_bytes(5, "little") for number in range(count)), "little")
    masks = []
    for by in (16, 12, 8, 7):
        masks += [ones * ((1 << 32 - by) - 1), ones * ((1 << by) - 1 << 32 - by)]
    return ones, numbers, masks


def chacha20(key, nonce, count):
    """The first blocks of the key stream (RFC 8439, section 2.4), all at once: each number below has the same word of
    every block in a lane of its own. A lane has room for the carries of all additions (they are at most 38 bits), and
    a rotation clears them."""
    ones, numbers, (l16, h16, l12, h12, l8, h8, l7, h7) = lanes(count)
    start = [word * ones for word in struct.unpack("<16I", b"expand 32-byte k" + key + bytes(4) + nonce)]
    start[12] = numbers
    x = start[:]
    for _ in range(10):
        for i, j, k, l in ROUNDS:  # noqa: E741
            a, b, c, d = x[i], x[j], x[k], x[l]
            a += b
            d ^= a
            d = (d & l16) << 16 | (d & h16) >> 16
            c += d
            b ^= c
            b = (b & l12) << 12 | (b & h12) >> 20
            a += b
            d ^= a
            d = (d & l8) << 8 | (d & h8) >> 24
            c += d
            b ^= c
            b = (b & l7) << 7 | (b & h7) >> 25
            x[i], x[j], x[k], x[l] = a, b, c, d
    stream = bytearray(64 * count)
    for number in range(16):
        words = (x[number] + start[number]).to_bytes(5 * count, "little")
        for byte in range(4):
            stream[4 * number + byte::64] = words[byte::5]
    return stream


@functools.lru_cache(16)
def halves(count):
    """Masks of the lower 130 and the upper 150 bits of lanes of 280 bits."""
    ones = int.from_bytes((b"\1" + bytes(34)) * count, "little")
    return ones * ((1 << 130) - 1), ones * ((1 << 150) - 1)


def poly1305(key, data):
    """RFC 8439, section 2.5. Of many blocks, the first half times a power of r is added to the second half, lane by
    lane, until few are left. A lane grows by less than 3 bits each time, and has room for seven times."""
    r, last, total = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF, len(data), 0
    count = min(last // 16, 4096)
    if count >= 64:
        width = 1 << (count - 1).bit_length()
        spread, skipped, last = bytearray(35 * width), 35 * (width - count), 16 * count
        for byte in range(16):
            spread[skipped + byte::35] = data[byte:last:16]
        spread[skipped + 16::35] = b"\1" * count
        value, powers = int.from_bytes(spread, "little"), [r]
        while 2 << len(powers) <= width:
            powers.append(powers[-1] ** 2 % PRIME1305)
        while width > 32:
            width //= 2
            low, high = halves(width)
            value = (value & (1 << 280 * width) - 1) * powers.pop() + (value >> 280 * width)
            value = (value & low) + 5 * (value >> 130 & high)
        few = value.to_bytes(35 * width, "little")
        for at in range(0, 35 * width, 35):
            total = (total + int.from_bytes(few[at:at + 35], "little")) * r % PRIME1305
        data = data[last:]
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at:at + 16] + b"\1", "little")) * r % PRIME1305
    return (total + int.from_bytes(key[16:], "little") & (1 << 128) - 1).to_bytes(16, "little")


def unseal(key, nonce, sealed):
    """Decrypts ChaCha20-Poly1305 without associated data (RFC 8439, section 2.8). None: it is not by that key."""
    text, size = sealed[:-16], len(sealed) - 16
    if size < 0:
        return None
    stream = chacha20(key, nonce, 1 + -(-size // 64))
    tag = poly1305(stream[:32], text + bytes(-size % 16) + struct.pack("<QQ", 0, size))
    if not hmac.compare_digest(tag, sealed[-16:]):
        return None
    mask = int.from_bytes(stream[64:64 + size], "little")
    return (int.from_bytes(text, "little") ^ mask).to_bytes(size, "little")


def age_header(data):
    """Stanzas (arguments, body), what the MAC is of, the MAC, and the length of a header."""
    found = AGE.match(data[:HEADER])
    if not found:
        raise Damaged("it is not encrypted with age, or its header is damaged")
    signed = data[:found.end(3) - 44]
    stanzas = re.findall(STANZA, signed)
    stanzas = [(args.split(b" "), base64_of(body.replace(b"\n", b""))) for args, body in stanzas]
    if len(stanzas) > 1 and any(args[0] == b"scrypt" for args, _ in stanzas):
        raise Damaged("its header is not allowed")
    return stanzas, signed, base64_of(found[3]), found.end()


def age_key(data, unwrap):
    """Key and beginning of the payload of an encrypted file. `unwrap` finds the file key in a stanza, or none."""
    stanzas, signed, mac, end = age_header(data)
    file_key = next(filter(None, (unwrap(args, body) for args, body in stanzas)), None)
    if not file_key:
        raise NoKey("no key given here opens it")
    own = hmac.new(hkdf(file_key, b"", b"header"), signed, "sha256").digest()
    if len(file_key) != 16 or not hmac.compare_digest(own, mac):
        raise Damaged("its header is damaged")
    if len(data) < end + 16:
        raise Damaged("it is cut off")
    return hkdf(file_key, data[end:end + 16], b"payload"), end + 16


def age_chunks(size):
    """The number of chunks in a payload, and its plain size."""
    count = max(1, -(-size // (CHUNK + 16)))
    last = size - (count - 1) * (CHUNK + 16)
    if last < 16 or last == 16 and count > 1:
        raise Damaged("it is cut off")
    return count, size - 16 * count


def age_chunk(key, number, count, sealed):
    """A chunk; None if it is damaged, or another one."""
    return unseal(key, number.to_bytes(11, "big") + (b"\1" if number == count - 1 else b"\0"), sealed)


def age_decrypt(data, unwrap):
    key, start = age_key(data, unwrap)
    count, _ = age_chunks(len(data) - start)
    starts = range(start, len(data), CHUNK + 16)
    chunks = [age_chunk(key, number, count, data[at:at + CHUNK + 16]) for number, at in enumerate(starts)]
    if None in chunks:
        raise Damaged("its encryption is damaged")
    return b"".join(chunks)


def unwrap_scrypt(passphrase, args, body):
    if args[0] != b"scrypt":
        return None
    salt = base64_of(args[1]) if len(args) == 3 else b""
    if len(salt) != 16 or not re.fullmatch(b"[1-9][0-9]*", args[2]) or len(body) != 32:
        raise Damaged("its header is damaged")
    if not hasattr(hashlib, "scrypt") or len(args[2]) > 2 or int(args[2]) > 20:  # a gigabyte
        raise SystemExit("this needs another program: age -d -o key.txt FILE, then --identity key.txt")
    factor, salt = 1 << int(args[2]), b"age-encryption.org/v1/scrypt" + salt
    key = hashlib.scrypt(passphrase, salt=salt, n=factor, r=8, p=1, maxmem=1024 * (factor + 64), dklen=32)
    return unseal(key, bytes(12), body)


class Keys:
    """The secret keys that were given, and the program that knows other ones and is faster."""

    def __init__(self, paths, outside):
        self.own, self.texts, self.files, self.tool, self.signers = [], [], [], find_tool(outside), {}
        for path in paths:
            with open(path, "rb") as file:
                data = file.read(1 << 20)
            self.add(path, data)

    def add(self, path, data, locked=False):
        armored = ARMOR.fullmatch(data.strip())
        if armored:
            data = base64.b64decode(armored[1])
        if data.startswith(b"age-encryption.org/v1") and not locked:
            passphrase = self.passphrase("Passphrase of %s: " % show(path))
            try:
                data = age_decrypt(data, functools.partial(unwrap_scrypt, passphrase.encode()))
            except NoKey:
                raise SystemExit("the passphrase of %s is wrong" % show(path))
            except (Damaged,) + WRONG as error:
                raise SystemExit("%s: %s" % (show(path), error))
            return self.add(path, data, True)
        lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
        for machine, signer in SIGNED_BY.findall("\n".join(lines)):
            self.signers.setdefault(machine, signer)
        lines = [line for line in lines if line and not line.startswith("#") and not SIGNED_BY.fullmatch(line)]
        is_key = [line.upper().startswith("AGE-SECRET-KEY-1") for line in lines]
        if lines and lines[0].startswith("RECOVERY SHEET of bdr"):
            lines = [line for line, fits in zip(lines, is_key) if fits]
        elif not any(is_key) and re.fullmatch(r"[\w\s.,:;|()]*", "".join(lines)) and len(" ".join(lines).split()) > 2:
            try:
                lines = [key_of_words("\n".join(lines))]
            except ValueError as error:
                raise SystemExit("%s: %s" % (show(path), error))
        try:
            secrets = [bech32(line) for line in lines if line.upper().startswith("AGE-SECRET-KEY-1")]
            if any(prefix != "age-secret-key-" or len(secret) != 32 for prefix, secret in secrets):
                raise ValueError("it is not of the right length")
        except ValueError as error:
            raise SystemExit("%s: a secret key in it is not as it was written: %s" % (show(path), error))
        self.own += [(secret, x25519(secret, bytes([9]) + bytes(31))) for _, secret in secrets]
        self.texts += [line.upper() for line in lines if line.upper().startswith("AGE-SECRET-KEY-1")]
        if not lines:
            raise SystemExit("%s has no key" % show(path))
        if len(secrets) < len(lines):
            if locked:
                raise SystemExit("%s has a key that only age knows: age -d -o key.txt FILE, then --identity key.txt"
                                 % show(path))
            if not self.tool:
                raise SystemExit("%s is no file of secret keys that begin with AGE-SECRET-KEY-1; `age` or `rage` may "
                                 "know what it has, but none of them is on PATH" % show(path))
            self.files.append(os.path.abspath(path))

    def passphrase(self, question):
        for name in ("BDR_REMOTE_PASSPHRASE", "BDR_PASSPHRASE"):
            if os.environ.get(name):
                return os.environ[name]
        return getpass.getpass(question)

    def follow(self, directory):
        """Adds the keys that lie at a destination itself, encrypted to those that are known, or to a passphrase."""
        closed = {}
        for name in sorted(os.listdir(directory)):
            if re.fullmatch(rb"identity-[0-9a-f]{8}\.age", name):
                name = name.decode()
                try:
                    with open_below(directory, name, 1 << 16) as file:
                        closed[name] = file.read()
                except (Damaged, OSError) as error:
                    note(name, error)
        broken = [name for name, data in closed.items() if hashlib.sha256(data).hexdigest()[:8] != name[9:17]]
        for name in broken:
            note(name, "damaged: its checksum does not match")
            del closed[name]
        locked = [name for name, data in closed.items() if data.startswith(b"age-encryption.org/v1\n-> scrypt ")]
        if not self.own and not self.files and locked:
            given = self.passphrase("Passphrase of the destination: ").encode()
            for name in locked:
                try:
                    self.add(name, age_decrypt(closed[name], functools.partial(unwrap_scrypt, given)), True)
                except (Damaged, SystemExit) + WRONG as error:  # anybody could put one there
                    reason = error
            if not self.own:
                wrong = isinstance(reason, NoKey)
                raise SystemExit("the passphrase is wrong" if wrong else "%s: %s" % (locked[-1], reason))
        closed = {name: data for name, data in closed.items() if name not in locked}
        while self.own or self.files:
            opened = {}
            for name, data in closed.items():
                try:
                    opened[name] = self.decrypt(data)
                except (Damaged,) + WRONG:
                    pass
            for name, data in opened.items():
                del closed[name]
                try:
                    self.add(name, data, True)
                except SystemExit as error:
                    note(name, error)
            if not opened:
                break

    def unwrap(self, args, body):
        if args[0] != b"X25519":
            return None
        share = base64_of(args[1]) if len(args) == 2 else b""
        if len(share) != 32 or len(body) != 32:
            raise Damaged("its header is damaged")
        for pair in self.own:
            secret, public = pair
            shared = x25519(secret, share)
            if not any(shared):
                raise Damaged("its header is damaged")
            found = unseal(hkdf(shared, share + public, b"age-encryption.org/v1/X25519"), bytes(12), body)
            if found:
                self.own = [pair] + [other for other in self.own if other != pair]  # the next one is likely for it, too
                return found
        return None

    def by_tool(self, path=None, data=None):
        """Decrypts a file, or data with the keys that are in files, by another program. Keys go through a pipe."""
        command = [self.tool, "-d"]
        for file in self.files:
            command += ["-i", file]
        if path:
            command += ["-i", "-"] * bool(self.texts) + [path]
            data = "".join(text + "\n" for text in self.texts).encode()
        done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise Damaged("%s: %s" % (os.path.basename(self.tool), said[0] if said else "it failed"))
        return done.stdout

    def decrypt(self, data):
        try:
            return age_decrypt(data, self.unwrap)
        except NoKey:
            if not self.files:
                raise
        try:
            return self.by_tool(data=data)
        except Damaged as error:
            raise NoKey(str(error))


def find_tool(outside):
    """`age` or `rage` on PATH; never one that lies where somebody else may have written."""
    for program in ("age", "rage"):
        for directory in os.environ.get("PATH", "").split(os.pathsep):
            path = os.path.join(directory, program + (".exe" if os.name == "nt" else ""))
            inside = os.fsencode(os.path.realpath(path)).startswith(outside + os.sep.encode())
            if os.path.isabs(directory) and not inside and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    return None


# --- destinations (docs/format.md, section 10) --------------------------------------------------------------------

PUSH = re.compile(r"(\d{10})-([0-9A-Z]{26})")
PART = r"[\w-][\w.-]{0,119}"
SIGNER = re.compile("ed25519:[A-Za-z0-9+/]{43}")
SIGNED_BY = re.compile("([0-9A-Z]{26})/(%s)" % SIGNER.pattern)
FILE = re.compile(r"format\.json|(packs/%s|manifests|snapshots|operations|marks|kept|tails)/%s" % (PART, PART), re.A)
PUSHED = 256 << 20  # no record of a push is larger, stored or not
PATIENCE = 16  # after so many chunks of an object, another program decrypts the rest faster
WHOLE = 64 << 20  # what another program decrypts is in memory: not a larger object, if it can be done here
TRIES = 64  # after so many records that no key opens, it is the wrong key


def frame(comment):
    """An empty gzip member that says what follows."""
    return bytes.fromhex("1f8b08100000000000ff") + comment.encode() + bytes.fromhex("0003000000000000000000")


def gunzip(file, limit):
    """What a compressed file contains."""
    found = bytearray()
    try:
        with gzip.open(file, "rb") as packed:
            for piece in iter(lambda: packed.read(1 << 20), b""):
                found += piece
                if len(found) > limit:
                    raise Damaged("it is longer than it can be")
    except BROKEN as error:
        raise Damaged("it does not decompress: %s" % error)
    return found


def whole_number(value, limit=COUNT):
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError("a number of it cannot be")
    return value


class Joined:
    """A file that is made of pieces: (where one begins, where it ends, what reads in it)."""

    def __init__(self, pieces):
        self.pieces, self.starts, self.size, self.at = pieces, [start for start, _, _ in pieces], pieces[-1][1], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def seek(self, at, whence=0):
        self.at = at + (0, self.at, self.size)[whence]
        return self.at

    def tell(self):
        return self.at

    def read(self, size=-1):
        end, found = self.size if size is None or size < 0 else min(self.at + size, self.size), []
        while self.at < end:
            start, stop, read = self.pieces[bisect.bisect_right(self.starts, self.at) - 1]
            wanted = min(stop, end) - self.at
            try:
                found.append(read(self.at - start, wanted))
            except Damaged:
                if found:
                    break
                raise
            self.at += len(found[-1])
            if len(found[-1]) < wanted:
                break  # what follows is damaged
        return b"".join(found)


class Object:
    """One object of a destination. It is checked once; then only what is asked for is decrypted."""

    def __init__(self, there, part, name, number, size):
        self.there, self.key, self.digest, self.stored, self.size = there, part["k"], part["h"], part["s"], size
        self.frame = frame("bdr1 %s object %s %d" % (there.id, name, number)) if there.encryption == "age" else b""
        # What is in packs is identified by its SHA-256: a damaged one may still have something.
        self.name, self.is_pack = "objects/%s/%s" % (self.key[:2], self.key), name.startswith("packs/")
        self.is_damaged, self.asked, self.state = False, 0, None  # then a reason; or key, start, and number of chunks

    def open(self):
        try:
            return open_below(self.there.dir, self.name)
        except OSError as error:
            raise Damaged("it cannot be read (%s)" % error.strerror)

    def check(self):
        if self.state is None:
            try:
                self.state = self.examine()
            except (Damaged,) + BROKEN as error:
                self.state = "%s: %s" % (self.name, error)
        if isinstance(self.state, str):
            raise Damaged(self.state)
        return self.state

    def examine(self):
        with self.open() as file:
            reason = None if file.seek(0, 2) == self.stored else "it does not have the size that its record says"
            file.seek(0)
            if not reason and sha256_of(file) != self.digest:
                reason = "its checksum does not match"
            file.seek(0)
            data = file.read(HEADER) if self.frame else b""
        if reason:
            if not self.is_pack:
                raise Damaged(reason)
            problem(self.name, reason + "; looking for what is left in it")
            self.is_damaged = True
        state, plain = (None, 0, 0), self.stored
        if self.frame:
            try:
                key, start = age_key(data, self.there.keys.unwrap)
                count, plain = age_chunks(self.stored - start)
                state = key, start, count
            except NoKey:
                if not self.there.keys.files:
                    raise
                plain = len(self.whole())
        if self.size is not None and plain != self.size + len(self.frame):
            raise Damaged("it does not have the size that its record says")
        self.size = plain - len(self.frame)
        try:
            said = self.plain(0, len(self.frame), state)
        except Damaged:
            if not self.is_damaged:
                raise
            said = self.frame
        if said != self.frame:
            raise Damaged("it does not say that it is this object: it was exchanged for another")
        return state

    def read(self, at, size):
        """Bytes of its content; fewer, if the rest is damaged."""
        state = self.check()
        if self.frame:
            return self.plain(at + len(self.frame), size, state)
        with self.open() as file:
            file.seek(at)
            data = file.read(size)
        if not data:
            raise Damaged("%s is cut off" % self.name)
        return data

    def whole(self):
        """All that is in it, decrypted by another program."""
        kept = self.there.whole
        if self.key not in kept:
            path = os.path.join(self.there.dir, os.fsencode(self.name))
            try:
                kept[self.key] = self.there.keys.by_tool(os.fsdecode(path))
            except OSError as error:
                raise Damaged(str(error))
            while len(kept) > 1 and sum(map(len, kept.values())) > WHOLE:
                kept.popitem(last=False)
        kept.move_to_end(self.key)
        return kept[self.key]

    def plain(self, at, size, state):
        if size <= 0:
            return b""
        key, _, count = state
        keys = self.there.keys
        if key is None or self.key in self.there.whole:
            return self.whole()[at:at + size]
        is_long = self.asked >= PATIENCE and 4 * PATIENCE < count and self.stored < WHOLE
        if keys.tool and is_long and not self.is_damaged:
            try:
                return self.whole()[at:at + size]
            except Damaged as error:
                note(keys.tool, "%s; going on without it" % error)
                keys.tool = None
        first, found = at // CHUNK, []
        for number in range(first, (at + size - 1) // CHUNK + 1):
            chunk = self.chunk(number, state)
            if chunk is None:
                break
            found.append(chunk)
        data = b"".join(found)[at - first * CHUNK:at - first * CHUNK + size]
        if not data:
            raise Damaged("%s: its encryption is damaged near byte %d" % (self.name, at))
        return data

    def chunk(self, number, state):
        """A decrypted chunk, or None. Some are kept."""
        chunks, (key, start, count), name = self.there.chunks, state, (self.key, number)
        if name not in chunks:
            self.asked += 1
            with self.open() as file:
                file.seek(start + number * (CHUNK + 16))
                sealed = file.read(min(CHUNK + 16, self.stored - file.tell()))
            chunks[name] = age_chunk(key, number, count, sealed)
            if len(chunks) > 256:
                chunks.popitem(last=False)
        chunks.move_to_end(name)
        return chunks[name]


class Destination:
    """Where the files of a repository are: what a machine pushed."""

    def __init__(self, directory, keys):
        self.dir, self.keys = directory, keys
        self.lost, self.encryption, self.id, self.signer = 0, None, None, None
        self.chunks, self.whole, self.objects = collections.OrderedDict(), collections.OrderedDict(), {}
        self.machine = self.whose()
        self.pushes, self.used = self.listed(), set()
        if not self.pushes:
            raise SystemExit("nothing was pushed to %s, or not all of it is here" % show(directory))
        for one, two in zip(self.pushes, self.pushes[1:]):
            if one[:10] == two[:10]:
                note("pushes/" + two, "has the number of another one: a copy of the machine pushed as well")

    def whose(self):
        """The id of the machine: the name of the directory. If it has another name now, a file says it."""
        name = os.path.basename(self.dir).decode("utf-8", "replace")
        if re.fullmatch("[0-9A-Z]{26}", name):
            return name
        try:
            with open_below(self.dir, "machine.json", RECORD) as file:
                about = json.load(file)
            if about["format"] != "bdr-machine" or not re.fullmatch("[0-9A-Z]{26}", about["machine"]):
                raise ValueError("it is something else")
            return about["machine"]
        except (Damaged,) + BROKEN as error:
            note("machine.json", "damaged (%s)" % error)
            return None  # the newest record says it

    def listed(self):
        if not stat.S_ISDIR(os.lstat(os.path.join(self.dir, b"pushes")).st_mode):
            raise Damaged("`pushes` is a link")
        names = os.listdir(os.path.join(os.fsdecode(self.dir), "pushes"))
        return sorted(name for name in names if PUSH.fullmatch(name))

    def loss(self, name, reason):
        self.lost += 1
        problem("pushes/" + name, reason)

    def chain(self, read):
        """What a reader needs of the pushes, the newest first. If one is lost, an older one takes its place."""
        found, base, unopened = [], None, []
        for name in reversed(self.pushes):
            if base and name != base:
                if name[:10] >= base[:10]:
                    continue  # the later one has all of it
                if base not in self.pushes:
                    self.loss(base, "missing: what only it has is lost")
                base = None
            try:
                push = read(name)
            except (Damaged,) + BROKEN as error:
                if not found and isinstance(error, NoKey):
                    unopened.append((name, error))
                    if len(unopened) == TRIES:
                        break
                else:
                    self.loss(name, "not used: %s" % (str(error) or type(error).__name__))
                continue
            found.append(push)
            self.used.add(name)
            self.signer = push.get("signer")
            base = push["since"] and "%010d-%s" % (push["since"], push["base"])
            if not base:
                break
        if not found and unopened:
            raise SystemExit("%s: %s" % (show(self.dir), unopened[0][1]))
        for name, error in unopened:
            self.loss(name, "not used: %s" % error)
        if base and base not in self.pushes:
            self.loss(base, "missing: what only it has is lost")
        if not found:
            raise SystemExit("%s: no record of a push can be read" % show(self.dir))
        return found

    def head(self, name):
        """The first line of a record, once all of it was checked, and the rest."""
        with open_below(self.dir, "pushes/" + name, PUSHED) as file:
            line, newline, body = file.read().partition(b"\n")
        # The signature is the last member, and is by what comes before it.
        signed, member, signature = line.rpartition(b',"signature":"')
        head = json.loads(signed + b"}" if member else line)
        if head["format"] != "bdr-push" or head["version"] != 1:
            raise ValueError("it is no push, or needs a newer program")
        if not newline or hashlib.sha256(body).hexdigest() != head["body"]:
            raise ValueError("its checksum does not match, or it is cut off")
        self.machine = self.machine or head["machine"]
        number = whole_number(head["number"], 10**10 - 1)
        if head["machine"] != self.machine or name != "%010d-%s" % (number, head["id"]):
            raise ValueError("it is the record of another push")
        if whole_number(head["since"]) >= number or bool(head["since"]) != ("base" in head):
            raise ValueError("its number cannot be")
        signer, context = head.get("signer"), b"bdr: the record of a push\n"
        if bool(member) != bool(signer) or member and not (
                SIGNER.fullmatch(signer) and signature.endswith(b'"}') and is_signature(
                    base64_of(signer[8:].encode()), context + signed, base64_of(signature[:-2]))):
            raise ValueError("its signature does not fit")
        if signer != (self.signer or self.keys.signers.get(self.machine, signer)):
            raise ValueError("it is not signed with the machine's key: somebody else wrote it")
        if head["since"] and not re.fullmatch("[0-9A-Z]{26}", head["base"]):
            raise ValueError("its base cannot be")
        for key, digest, size in head["objects"]:
            if not DIGEST.fullmatch(key) or not DIGEST.fullmatch(digest) or whole_number(size) < 0:
                raise ValueError("it names what is no object")
        if head["encryption"] not in ("age", "none"):
            raise ValueError("it is encrypted in an unknown way")
        if self.encryption not in (None, head["encryption"]):
            raise ValueError("it is not encrypted like the others")
        return head, body

    def push(self, name):
        """What a record says."""
        head, body = self.head(name)
        if head["encryption"] == "age":
            if not self.keys.own and not self.keys.files:
                raise NoKey("this is encrypted: give the secret key, --identity FILE before the command")
            body = self.keys.decrypt(body)
        elif self.keys.own or self.keys.files:
            raise NoKey("it is not encrypted, and a secret key was given; if that is right, leave out --identity")
        end = body.find(b"\0", 10)
        comment = body[10:end].decode()
        if end < 0 or not body.startswith(frame(comment)):
            raise ValueError("it does not say what it is")
        push = json.loads(gunzip(io.BytesIO(body[len(frame(comment)):]), PUSHED))
        for member in ("format", "version", "machine", "number", "id", "time", "since", "base", "signer"):
            if push.get(member) != head.get(member):
                raise ValueError("its first line does not fit the rest")
        if comment != "bdr1 %s push %s" % (push["repository"], name) or self.id not in (None, push["repository"]):
            raise ValueError("it is the record of another repository")
        push["files"] = {known_name(file): content_of(value) for file, value in push.get("files", {}).items()}
        for file, stored in push.get("objects", {}).items():
            check_parts(known_name(file), stored)
        parts = sorted([p["k"], p["h"], p["s"]] for stored in push.get("objects", {}).values() for p in stored["p"])
        if parts != sorted(map(list, head["objects"])):
            raise ValueError("its first line does not fit the rest")
        push["gone"] = [known_name(file) for file in push.get("gone", [])]
        self.id, self.encryption = push["repository"], head["encryption"]
        return push

    def load(self):
        """Finds out what is there."""
        self.files, self.stored, self.dirs = {}, {}, {}
        if self.is_closed() or self.keys.own or self.keys.files:
            self.keys.follow(self.dir)
        for push in reversed(self.chain(self.push)):
            for name in push["gone"]:
                self.files.pop(name, None)
                self.stored.pop(name, None)
            for name, content in push["files"].items():
                self.stored.pop(name, None)
                self.files[name] = content
            for name, stored in push.get("objects", {}).items():
                self.files.pop(name, None)
                self.stored[name] = stored
        for name in [*self.files, *self.stored]:
            while name:
                directory, _, last = name.rpartition("/")
                self.dirs.setdefault(directory, set()).add(last)
                name = directory
        return self

    def names(self, directory):
        return list(self.dirs.get(directory, ()))

    def has(self, directory):
        return directory in self.dirs

    def parts(self, name):
        """The objects of a file."""
        if name not in self.objects:
            stored, found = self.stored[name], []
            ends = [part.get("o", 0) for part in stored["p"][1:]] + [stored["s"]]
            for number, (part, end) in enumerate(zip(stored["p"], ends)):
                size = None if stored.get("z") else end - part.get("o", 0)
                found.append(Object(self, part, name, number, size))
            self.objects[name] = found
        return self.objects[name]

    def open(self, name, limit=None):
        if name in self.files:
            size, file = len(self.files[name]), io.BytesIO(self.files[name])
        elif name in self.stored:
            stored = self.stored[name]
            size, pieces = stored["s"], []
            for number, part in enumerate(self.parts(name)):
                if part.size is None:
                    part.check()
                start = pieces[-1][1] if pieces else 0
                pieces.append((start, start + part.size, part.read))
            tail = content_of(stored["t"]) if "t" in stored and not stored.get("z") else b""
            if tail:  # so that no object is needed to know what is in a pack
                start = size - len(tail)
                pieces = [(a, min(b, start), read) for a, b, read in pieces if a < start]
                pieces.append((start, size, lambda at, count: tail[at:at + count]))
            file = Joined(pieces)
        else:
            raise FileNotFoundError(errno.ENOENT, "it is not there", name)
        if limit and size > limit:
            raise Damaged("it is larger than a file of a repository can be")
        if name in self.stored and self.stored[name].get("z"):
            data = gunzip(file, min(size, RECORD))
            if len(data) != size:
                raise Damaged("it does not have the size that its record says")
            file = io.BytesIO(data)
        return file

    def verify(self):
        """Checks every record, and every object that is needed."""
        for name in self.pushes:
            if name not in self.used:
                try:
                    self.push(name)
                except NoKey as error:  # for somebody else, or in the clear
                    (note if self.head(name)[0]["encryption"] == "age" else problem)("pushes/" + name, error)
                except (Damaged,) + BROKEN as error:
                    problem("pushes/" + name, error)
        parts = [(name, part) for name in sorted(self.stored) for part in self.parts(name)]
        for name, part in parts:
            try:
                part.check()
            except Damaged as error:
                problem(name, error)
        print("%d records of pushes and %d objects checked" % (len(self.pushes), len(parts)))

    def is_closed(self):
        """Whether it is encrypted, and no key was given."""
        for name in [] if self.keys.own or self.keys.files else reversed(self.pushes):
            try:
                return self.head(name)[0]["encryption"] == "age"
            except (Damaged,) + BROKEN:
                pass
        return False

    def verify_closed(self):
        """Checks what can be checked without a key."""
        checked, gone, heads = set(), set(), self.chain(lambda name: self.head(name)[0])
        for name in self.pushes:
            if name not in self.used:
                try:
                    self.head(name)
                except (Damaged,) + BROKEN as error:
                    problem("pushes/" + name, error)
        for head in heads:
            gone.update(head.get("gone", []))
            for key, digest, size in head["objects"]:
                name = "objects/%s/%s" % (key[:2], key)
                if key in gone or name in checked:
                    continue
                checked.add(name)
                try:
                    with open_below(self.dir, name) as file:
                        if file.seek(0, 2) != size:
                            raise Damaged("it does not have the size that its record says")
                        file.seek(0)
                        if sha256_of(file) != digest:
                            raise Damaged("its checksum does not match")
                except (OSError, Damaged) as error:
                    problem(name, error.strerror if isinstance(error, OSError) else error)
        print("%d records and %d objects are encrypted; their sizes and checksums were checked, nothing else "
              "(--identity FILE before the command: all of it): %s"
              % (len(self.pushes), len(checked), "%d problems" % problems if problems else "no damage"))
        return 4 if problems else 0


def place_of(directory, machine, paths):
    """The repository, or what was pushed of one, in a directory."""
    top = os.path.realpath(os.fsencode(directory))
    below = lambda *names: os.path.join(top, *names)  # noqa: E731
    is_there = lambda path: os.path.lexists(path) and stat.S_ISDIR(os.lstat(path).st_mode)  # noqa: E731
    if os.path.lexists(below(b"format.json")) or os.path.isdir(below(b"snapshots")):
        return Directory(directory)
    keys = Keys(paths, top)
    if is_there(below(b"bdr1")) and not is_there(below(b"pushes")):
        top = below(b"bdr1")
    if os.path.isdir(top) and not is_there(below(b"pushes")):
        names = sorted(n for n in os.listdir(top) if re.fullmatch(b"[0-9A-Z]{26}", n) and is_there(below(n, b"pushes")))
        found = [name for name in names if name.startswith((machine or "").upper().encode())]
        if len(found) != 1 and names:
            print("%d machines here; choose one with --machine ID before the command:" % len(names), file=sys.stderr)
            for name in names:
                try:
                    there = Destination(below(name), keys)
                    newest = there.pushes[-1]
                    print("%s  %s" % (name.decode(), show(there.push(newest).get("host", ""))), file=sys.stderr)
                except (Damaged, SystemExit) + BROKEN:
                    print(name.decode(), file=sys.stderr)
            raise SystemExit(2)
        top = below(found[0]) if found else top
    return Destination(top, keys) if is_there(below(b"pushes")) else Directory(directory)


def known_name(name):
    if not FILE.fullmatch(name) or name.startswith("packs/") != (name.count("/") == 2):
        raise ValueError("`%s` is no name of a file in a repository" % show(name))
    return name


def content_of(value):
    return value.encode() if isinstance(value, str) else base64.b64decode(value["b64"], validate=True)


def check_parts(name, stored):
    size, at = whole_number(stored["s"]), -1
    for part in stored["p"]:
        if not DIGEST.fullmatch(part["k"]) or not DIGEST.fullmatch(part["h"]) or whole_number(part["s"]) < 0:
            raise ValueError("it names what is no object")
        if whole_number(part.get("o", 0)) <= at or at < 0 < part.get("o", 0):
            raise ValueError("the parts of `%s` do not fit together" % name)
        at = part.get("o", 0)
    if not 0 <= at <= size or "t" in stored and len(content_of(stored["t"])) > size:
        raise ValueError("the parts of `%s` do not fit together" % name)


# --- repositories -----------------------------------------------------------------------------------------------

class Directory:
    """Where the files of a repository are: a directory."""

    lost = 0  # records that are missing

    def __init__(self, directory):
        self.dir = os.path.realpath(os.fsencode(directory))

    def path(self, name):
        return os.path.join(self.dir, os.fsencode(name))

    def open(self, name, limit=None):
        return open_own(self.path(name), limit)

    def names(self, directory):
        try:
            return os.listdir(os.fsdecode(self.path(directory)))
        except OSError as error:
            if error.errno != errno.ENOENT:
                problem(directory, error)
            return []

    def has(self, directory):
        return os.path.isdir(self.path(directory))


class Repository:
    def __init__(self, place):
        self.place, self.dir = place, place.dir
        self.views, self.copies, self.good, self.lost = [], {}, {}, {}
        self.salvaged, self.frames, self.sets, self.cache = set(), {}, {}, collections.OrderedDict()
        try:
            with place.open("format.json", RECORD) as file:
                form = json.load(file)
            self.id, version, features = form["id"], form["version"], form["features"]["read"]
        except (Damaged,) + BROKEN as error:
            if not place.has("snapshots"):
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
                texts = [record["time"], record["kind"], record["trigger"]]
                texts += [record[member] for member in ("label", "repository") if record.get(member) is not None]
                if not 0 <= record["seq"] < COUNT or type(record["stats"]["files"]) is not int:
                    raise ValueError("a number of it cannot be")
                if not all(isinstance(value, str) for value in texts):
                    raise ValueError("it does not say what it should")
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

    def names(self, directory, pattern):
        return sorted(name for name in self.place.names(directory) if re.fullmatch(pattern, name))

    def record(self, name):
        with self.place.open(name, RECORD) as file:
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
                if not DIGEST.fullmatch(digest):
                    raise ValueError("it is no name of a listing")
                with self.place.open(name) as file:
                    self.frames[digest] = sha256_of(file) == digest
            if not self.frames[digest]:
                raise ValueError("its checksum does not match its name")
            with self.place.open(name) as packed, gzip.open(packed, "rb") as file:
                size, count = packed.seek(0, 2), 0
                packed.seek(0)
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
        except (Damaged,) + BROKEN as error:
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
                        self.add_view(read_contents(self.place, name, self.id))
                    except Damaged as error:
                        report(name, "%s; looking through its members" % error)
                        self.salvage(name)
                except (OSError, Damaged) as error:
                    problem(name, error)

    def add_view(self, view):
        self.views.append(view)
        for digest, position, size in view.blobs:
            self.copies.setdefault(digest, []).append((view, position, size))

    def salvage(self, name):
        if name not in self.salvaged:
            self.salvaged.add(name)
            self.add_view(salvage(self.place, name))

    def member(self, view, number):
        """A decompressed member of a pack; a few are kept."""
        key = (id(view), number)
        if key in self.cache:
            self.cache.move_to_end(key)
            return self.cache[key]
        offset, packed, raw = view.members[number]
        try:
            with self.place.open(view.name) as file:
                file.seek(offset)
                gunzip = zlib.decompressobj(31)
                data = gunzip.decompress(file.read(packed), raw + 1)
            if not gunzip.eof or gunzip.unused_data or len(data) != raw:
                raise ValueError("cut off, or of wrong length")
        except (Damaged,) + BROKEN as error:
            raise Damaged("%s is damaged near byte %d: %s" % (view.name[9:], offset, error))
        self.cache[key] = data
        if len(self.cache) > 6:
            self.cache.popitem(last=False)
        return data

    def read(self, view, position, size):
        number = bisect.bisect_right(view.starts, position) - 1
        while size > 0:
            if number >= len(view.members):
                raise Damaged("%s ends too early" % view.name[9:])
            start = position - view.starts[number]
            piece = self.member(view, number)[start:start + size]
            yield piece
            position, size, number = position + len(piece), size - len(piece), number + 1

    def find(self, digest):
        """Copies of a blob, and when none of them was good, those that a closer look at their packs finds."""
        known = list(self.copies.get(digest, []))
        yield from known
        for name in {view.name for view, _, _ in known}:
            self.salvage(name)
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
                path = "kept/%s.contents.json.gz" % name
                with self.place.open(path, RECORD) as packed, gzip.open(packed, "rb") as file:
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
        if not isinstance(self.place, Directory):
            raise Damaged("it was kept on the machine, and was not packed")
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
            if not stat.S_ISREG(there.st_mode) or there.st_size != entry.stored or not self.is_there(at, entry):
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

    @staticmethod
    def is_there(at, entry):
        with open_own(at) as file:
            return sha256_of(file) == entry.hash

    def symlink(self, name, entry, group):
        at = self.place(name)
        if not os.path.lexists(at) and group in self.links:
            try:
                nofollow = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
                os.link(self.links[group], at, **nofollow)
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
    problems = repo.place.lost + (len(newer) if args.snapshot == "latest" else 0)
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
        name = view.name
        try:
            with repo.place.open(name) as file:
                if sha256_of(file) != name[-71:-7]:
                    problem(name, "its checksum does not match its name")
        except (OSError, Damaged) as error:
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
    parser.add_argument("--identity", metavar="FILE", action="append", default=[], help="secret key of a destination")
    parser.add_argument("--machine", metavar="ID", help="whose part of a destination; the beginning of an id")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, arguments, about in (
            ("list", command_list, "", "show the snapshots"),
            ("ls", command_ls, "snapshot path?", "show the files of a snapshot (those at and below ROOT[/PATH])"),
            ("restore", command_restore, "snapshot target paths*", "restore a snapshot, or some paths of it"),
            ("verify", command_verify, "", "check everything"),
            ("key", None, "", "print the secret keys that --identity has, for other programs")):
        command = commands.add_parser(name, help=about)
        command.set_defaults(run=run)
        for argument in arguments.split():
            command.add_argument(argument.rstrip("?*"), **({"nargs": argument[-1]} if argument[-1] in "?*" else {}))
    args = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        if args.command == "key":
            print("\n".join(Keys(args.identity, os.path.realpath(os.fsencode(args.repository))).texts))
            return 0
        place = place_of(args.repository, args.machine, args.identity)
        if isinstance(place, Destination):
            if args.command == "verify" and place.is_closed():
                return place.verify_closed()
            place.load()
            if args.command == "verify":
                place.verify()
        code = args.run(Repository(place), args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 1
    except (Damaged,) + BROKEN as error:
        print("failed: %s" % error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
