"""A client of Trueque, written from docs/protocol.md, docs/api.md and proto/ alone: whether they say enough.

It logs in at a directory as a peer of its own, searches, and fetches one file twice: by gRPC from its holder, and over the
relay. Every piece is verified as the document says, with a BLAKE3 of its own, because libraries do not show the values
inside the tree. It takes no calls. `script/conformance` runs it against the real programs.

    client.py DIRECTORY_URL USERNAME PASSWORD WORDS CONTENT_ID PATHS      PATHS: direct, relayed or both, comma separated
"""

import asyncio, json, os, ssl, struct, subprocess, sys, tempfile, urllib.parse, urllib.request
from pathlib import Path

from blake3 import blake3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

PIECE = 1 << 20
ROOT = Path(__file__).parents[4]


# ── BLAKE3's tree ───────────────────────────────────────────────────────────────────────────────────────────────────
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXED = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, IS_ROOT = 1, 2, 4, 8


def compress(value, block, counter, length, flags):
    state = [*value, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]
    words = struct.unpack("<16I", block)
    for turn in range(7):
        for n, (a, b, c, d) in enumerate(MIXED):
            for word, by_d, by_b in ((words[2 * n], 16, 12), (words[2 * n + 1], 8, 7)):
                state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
                mixed = state[d] ^ state[a]
                state[d] = (mixed >> by_d | mixed << (32 - by_d)) & 0xFFFFFFFF
                state[c] = (state[c] + state[d]) & 0xFFFFFFFF
                mixed = state[b] ^ state[c]
                state[b] = (mixed >> by_b | mixed << (32 - by_b)) & 0xFFFFFFFF
        words = tuple(words[n] for n in PERMUTATION)
    return tuple(state[n] ^ state[n + 8] for n in range(8))


def chunk(data, counter):
    blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    value = IV
    for n, block in enumerate(blocks):
        flags = (CHUNK_START if n == 0 else 0) | (CHUNK_END if n == len(blocks) - 1 else 0)
        value = compress(value, block.ljust(64, b"\0"), counter, len(block), flags)
    return value


def merged(values, root=False):
    """The left side is the largest power of two that leaves something for the right side."""
    if len(values) == 1:
        return values[0]
    left = 1 << (len(values) - 1).bit_length() - 1
    pair = struct.pack("<16I", *merged(values[:left]), *merged(values[left:]))
    return compress(IV, pair, 0, 64, PARENT | (IS_ROOT if root else 0))


def chaining_value(piece, index):
    """Of a piece of a file that has several."""
    chunks = range(0, len(piece), 1024)
    return merged([chunk(piece[at : at + 1024], index * 1024 + at // 1024) for at in chunks])


class Proof:
    def __init__(self, content_id, size, values):
        self.content_id, self.size, self.count = content_id, size, max(1, -(-size // PIECE))
        assert len(values) == (0 if self.count == 1 else self.count * 32), "the proof has another length"
        self.values = [struct.unpack("<8I", values[at : at + 32]) for at in range(0, len(values), 32)]
        if self.count > 1:
            assert struct.pack("<8I", *merged(self.values, root=True)) == content_id, "the proof is of something else"

    def check(self, index, piece):
        assert len(piece) == min(PIECE, self.size - index * PIECE), "a piece of another length"
        right = blake3(piece).digest() == self.content_id if self.count == 1 else chaining_value(piece, index) == self.values[index]
        assert right, f"piece {index} is wrong"


# ── The directory ───────────────────────────────────────────────────────────────────────────────────────────────────
class Directory:
    def __init__(self, url):
        self.url, self.token = url, None

    def ask(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def log_in(self, username, password):
        try:
            self.ask("POST", "/v1/accounts", {"username": username, "password": password})
        except urllib.error.HTTPError as error:
            assert json.loads(error.read())["code"] == "already_exists"
        self.key, self.sealing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(self.key, None)
        self.session = self.ask("POST", "/v1/sessions", {
            "username": username, "password": password, "csr_pem": request.public_bytes(serialization.Encoding.PEM).decode(),
            "sealing_key": raw(self.sealing.public_key()).hex(), "endpoints": [], "version": "conformance"})
        self.token, self.peer_id = self.session["token"], self.session["peer_id"]
        spki = self.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert self.peer_id == sha256(spki).hex()[:32], "the peer id is of another key"


def raw(public_key):
    return public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def sha256(data):
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


# ── Directly ────────────────────────────────────────────────────────────────────────────────────────────────────────
async def fetch_directly(directory, holder, content_id, folder):
    from grpclib.client import Channel, Configuration
    from grpclib.exceptions import GRPCError
    from trueque.v1 import files_grpc, files_pb2

    files = {"key": directory.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
             "certificate": directory.session["certificate_pem"].encode()}
    for name, pem in files.items():
        (folder / name).write_bytes(pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_verify_locations(cadata=directory.session["ca_pem"])
    tls.load_cert_chain(folder / "certificate", folder / "key")
    tls.set_alpn_protocols(["h2"])
    host, port = holder["endpoints"][0].rsplit(":", 1)
    settings = Configuration(ssl_target_name_override=f"{holder['peer_id']}.peer.trueque",
                             http2_connection_window_size=8 << 20, http2_stream_window_size=4 << 20)
    async with Channel(host, int(port), ssl=tls, config=settings) as channel:
        stub = files_grpc.FilesStub(channel)
        values, size = b"", None
        while size is None or len(values) < (0 if size <= PIECE else -(-size // PIECE) * 32):
            page = await stub.Describe(files_pb2.DescribeRequest(content_id=content_id, first_piece=len(values) // 32))
            size, values = page.size, values + page.chaining_values
        proof = Proof(content_id, size, values)
        got = bytearray()
        async with stub.Fetch.open() as stream:
            await stream.send_message(files_pb2.FetchRequest(content_id=content_id, offset=0, length=size), end=True)
            async for part in stream:
                got += part.data
        for index in range(proof.count):
            proof.check(index, bytes(got[index * PIECE : (index + 1) * PIECE]))
        try:
            await stub.Describe(files_pb2.DescribeRequest(content_id=bytes(32)))
            raise AssertionError("what nobody has was described")
        except GRPCError as error:
            words = [error.status.name, dict(error.details or {}) if isinstance(error.details, dict) else None]
            assert words[0] == "NOT_FOUND", words
        return bytes(got)


# ── Over the relay ──────────────────────────────────────────────────────────────────────────────────────────────────
class Relay:
    def __init__(self, directory):
        import pika

        self.pika, self.own, self.sealing = pika, directory.peer_id, directory.sealing
        self.epochs = {}
        broker = directory.session["broker"]
        url = urllib.parse.urlsplit(broker["url"].split(",")[0])
        self.user = broker.get("username") or urllib.parse.unquote(url.username)
        password = broker.get("password") or urllib.parse.unquote(url.password)
        vhost = urllib.parse.unquote(url.path[1:]) or "/"
        self.connection = pika.BlockingConnection(pika.ConnectionParameters(
            url.hostname, url.port or 5672, vhost, pika.PlainCredentials(self.user, password), heartbeat=10))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.channel.basic_qos(prefetch_count=64)
        self.session = os.urandom(8)
        self.queue = f"trueque.{self.own}.answers.{self.session.hex()}"
        self.channel.queue_declare(self.queue, exclusive=True, arguments={
            "x-max-length-bytes": 64 << 20, "x-queue-type": "classic", "x-overflow": "reject-publish"})
        self.channel.queue_bind(self.queue, "trueque.answers", f"{self.own}.{self.session.hex()}.*")
        self.suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)

    def ask(self, holder, patience=10, **what):
        """The (kind, data) of all the answer's messages, in order; of those to the second question, where the first one
        is for an epoch that is not the holder's."""
        for _ in range(2):
            answers = self.ask_once(holder, patience, **what)
            if answers[0][0] != 6:
                return answers
            self.epochs[holder["peer_id"]] = answers[0][1]
        raise AssertionError("the holder told an epoch and does not take it")

    def ask_once(self, holder, patience, **what):
        from trueque.v1 import relay_pb2

        epoch = self.epochs.get(holder["peer_id"], b"")
        question = relay_pb2.Question(credit=16, max_message=PIECE, patience_ms=patience * 1000, epoch=epoch, **what)
        to, key = holder["peer_id"], bytes.fromhex(holder["sealing_key"])
        names = sha256(key)[:8], sha256(raw(self.sealing.public_key()))[:8]
        own, receiver, message_id = bytes.fromhex(self.own), bytes.fromhex(to), os.urandom(16)
        enc, context = self.suite.create_sender_context(
            KEMKey.from_pyca_cryptography_key(X25519PublicKey.from_public_bytes(key)),
            info=b"trueque relay 1 question" + own + receiver, sks=KEMKey.from_pyca_cryptography_key(self.sealing))
        bound = receiver + own + b"\x01" + message_id + names[0] + names[1] + self.session
        sealed = relay_pb2.Sealed(version=1, receiver_key=names[0], sender_key=names[1], enc=enc,
                                  ciphertext=context.seal(question.SerializeToString(), aad=bound))
        reply_key = context.export(b"answers", 32)
        properties = self.pika.BasicProperties(
            message_id=message_id.hex(), reply_to=self.session.hex(), user_id=self.user, expiration=str(patience * 1000))
        self.channel.basic_publish("trueque.requests", f"{to}.live.{self.own}", sealed.SerializeToString(), properties, mandatory=True)
        return self.answers(to, message_id, reply_key, patience)

    def answers(self, holder, message_id, reply_key, patience):
        salt, parts, last = None, {}, None
        for delivered, properties, body in self.channel.consume(self.queue, inactivity_timeout=patience):
            assert delivered is not None, "no answer in time"
            self.channel.basic_ack(delivered.delivery_tag)
            assert delivered.routing_key == f"{self.own}.{self.session.hex()}.{holder}" and properties.user_id
            if properties.correlation_id != message_id.hex():
                continue
            assert body[0] == 1 and body[1] in (0, 1), f"a hint, or another version: {body[:10].hex()}"
            if salt not in (None, body[6:22]):
                continue
            key = HKDF(hashes.SHA256(), 32, body[6:22], b"trueque relay 1 answer" + message_id).derive(reply_key)
            nonce = bytes([body[1]]) + bytes(7) + body[2:6]
            opened = AESGCM(key).decrypt(nonce, body[22:], message_id + body[:6])
            salt, number = body[6:22], struct.unpack(">I", body[2:6])[0]
            parts[number] = opened[-1], opened[:-1]
            last = number if body[1] else last
            if last is not None and len(parts) == last + 1:
                return [parts[n] for n in range(last + 1)]

    def fetch(self, holder, content_id):
        from trueque.v1 import files_pb2, relay_pb2

        pong = self.ask(holder, ping=relay_pb2.Ping())
        assert pong[0][0] == 1 and relay_pb2.Pong.FromString(pong[0][1]).version
        values, size = b"", None
        while size is None or len(values) < (0 if size <= PIECE else -(-size // PIECE) * 32):
            (kind, data), *_ = self.ask(holder, describe=files_pb2.DescribeRequest(content_id=content_id, first_piece=len(values) // 32))
            assert kind == 1, relay_pb2.Refusal.FromString(data)
            page = files_pb2.Description.FromString(data)
            size, values = page.size, values + page.chaining_values
        proof, got = Proof(content_id, size, values), bytearray()
        while len(got) < size:
            for kind, data in self.ask(holder, fetch=files_pb2.FetchRequest(content_id=content_id, offset=len(got), length=size - len(got))):
                assert kind in (2, 4), (kind, data)
                got += data
            if len(got) < size:
                del got[len(got) // PIECE * PIECE :]
        for index in range(proof.count):
            proof.check(index, bytes(got[index * PIECE : (index + 1) * PIECE]))
        (kind, data), *_ = self.ask(holder, describe=files_pb2.DescribeRequest(content_id=bytes(32)))
        assert kind == 3 and relay_pb2.Refusal.FromString(data).code == "not_found"
        return bytes(got)


def generated(folder):
    """The messages, from proto/."""
    protos = ["trueque/v1/files.proto", "trueque/v1/relay.proto"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", f"--grpclib_python_out={folder}"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command + protos, check=True, env={**os.environ, "PATH": path})
    sys.path.insert(0, str(folder))


def main(url, username, password, words, content_id, paths):
    directory = Directory(url.rstrip("/"))
    directory.log_in(username, password)
    print(f"logged in as {username}, peer {directory.peer_id}")
    found = directory.ask("GET", "/v1/search?" + urllib.parse.urlencode({"q": words}))["items"]
    assert content_id in [item["content_id"] for item in found], found
    print(f"search finds it, among {len(found)}")
    holders = [holder for holder in directory.ask("GET", f"/v1/files/{content_id}")["holders"] if holder["online"]]
    wanted = bytes.fromhex(content_id)
    with tempfile.TemporaryDirectory() as folder:
        generated(folder)
        for path in paths.split(","):
            if path == "direct":
                got = asyncio.run(fetch_directly(directory, holders[0], wanted, Path(folder)))
            else:
                got = Relay(directory).fetch(holders[0], wanted)
            assert blake3(got).digest() == wanted
            print(f"{path}: {len(got)} bytes, every piece verified")
    directory.ask("DELETE", "/v1/sessions/current")
    print("conformance: passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
