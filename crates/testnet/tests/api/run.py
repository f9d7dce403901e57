"""run.py PROGRAMS [directory|pclient]: a small network of real programs, and Schemathesis at its two REST APIs.

A directory, a peer that has a file (`holder`), and the peer that is asked (`asked`), which is logged in, shares files,
has fetched the holder's, has been offered it and offers one itself. `*.toml` say what is asked and what is not; what
only this network knows (tokens, ids) goes there by the environment and by dictionaries.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

HERE = Path(__file__).parent
SEED = "20261122"
SECONDS = 75
PATIENCE = 30

# No name that the documents give as an example: their bearer may be disabled.
ADMIN, TOKEN, PASSWORD = "admin-of-the-tests", "token-of-the-tests", "password-of-the-tests"


class Network:
    def __init__(self, programs: Path, folder: Path):
        self.programs, self.folder, self.children = programs, folder, []
        self.http = requests.Session()
        self.http.trust_env = False

    def start(self, name: str, program: str, says: str, settings: dict[str, str]) -> str:
        """Starts a program; gives the address that it says on its first lines."""
        out = self.folder / f"{name}.out"
        # Not the settings of whoever runs this.
        ours = ("DIRECTORY_", "PEER_", "PSERVER_", "PCLIENT_")
        env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        with out.open("w") as lines, (self.folder / f"{name}.log").open("w") as log:
            child = subprocess.Popen(
                [self.programs / program], env=env | settings, stdin=subprocess.DEVNULL, stdout=lines, stderr=log,
                cwd=self.folder, start_new_session=True,
            )
        self.children.append(child)

        def address():
            assert child.poll() is None, f"{name} has ended: {(self.folder / f'{name}.log').read_text()[-2000:]}"
            found = [line for line in out.read_text().splitlines() if line.startswith(says)]
            return found and found[0].removeprefix(says).strip()

        return until(f"{name} listens", address)

    def peer(self, name: str, directory: str, token: str = "") -> str:
        """A peer with two files: one at the top, one in a folder."""
        home = self.folder / name
        (home / "share/folder").mkdir(parents=True)
        (home / "share" / f"{name}.bin").write_bytes(name.encode() * 300_000)
        (home / "share/folder/more.txt").write_text(f"more of {name}")
        return self.start(name, "peer", "pclient listening on ", {
            "PEER_DIRECTORY": directory, "PEER_USERNAME": name, "PEER_PASSWORD": PASSWORD,
            "PEER_DATA_DIR": f"{home}/data", "PEER_SHARE_DIR": f"{home}/share", "PEER_DOWNLOAD_DIR": f"{home}/downloads",
            "PSERVER_LISTEN": "127.0.0.1:0", "PCLIENT_LISTEN": "127.0.0.1:0", "PCLIENT_TOKEN": token,
        })

    def ask(self, method: str, url: str, token: str = "", **body) -> dict:
        answer = self.http.request(method, url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE, **body)
        assert answer.ok, f"{method} {url}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    def stop(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
            child.wait(PATIENCE)


def until(what: str, condition):
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        if found := condition():
            return found
        time.sleep(0.05)
    sys.exit(f"after {PATIENCE} seconds it is not so that {what}")


def login(name: str, folder: Path) -> dict:
    """What a peer of this account logs in with, with a fresh key."""
    key = folder / f"{name}.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    request = ["openssl", "req", "-new", "-key", key, "-subj", "/CN=peer"]
    csr = subprocess.run(request, check=True, capture_output=True, text=True).stdout
    return {
        "username": name, "password": PASSWORD, "csr_pem": csr, "sealing_key": "ab" * 32,
        "endpoints": ["127.0.0.1:9"], "version": "0",
    }


def build(network: Network) -> dict[str, str]:
    """Starts everything, and gives what is known of it."""
    directory = network.start("directory", "directory", "directory listening on ", {
        "DIRECTORY_LISTEN": "127.0.0.1:0", "DIRECTORY_DATA_DIR": str(network.folder / "directory"),
        "DIRECTORY_LEASE": "1h", "DIRECTORY_ADMIN_TOKEN": ADMIN,
        # The authority of a broker that nobody runs, so that the broker's questions are answered too.
        "DIRECTORY_AMQP_URL": "amqp://127.0.0.1:1?auth=directory",
    })
    holder, asked = network.peer("holder", directory), network.peer("asked", directory, TOKEN)
    peers = [(holder, ""), (asked, TOKEN)]
    status = lambda url, token: network.ask("GET", f"{url}/v1/status", token)
    announced = lambda shared: shared["announced"] and shared["files"] == 2
    until("all is announced", lambda: all(announced(status(*peer)["shared"]) for peer in peers))

    [film] = network.ask("GET", f"{holder}/v1/files?q=holder.bin")["items"]
    [own] = network.ask("GET", f"{asked}/v1/files?q=asked.bin", TOKEN)["items"]
    content = {"content_id": film["content_id"]}
    download = network.ask("POST", f"{asked}/v1/downloads", TOKEN, json=content)["id"]
    done = lambda: network.ask("GET", f"{asked}/v1/downloads/{download}", TOKEN)["state"] == "done"
    until("the download is done", done)
    network.ask("POST", f"{holder}/v1/offers", json=content | {"to": "asked"})
    until("the offer is there", lambda: network.ask("GET", f"{asked}/v1/offers", TOKEN)["items"])
    network.ask("POST", f"{asked}/v1/offers", TOKEN, json={"content_id": own["content_id"], "to": "holder"})

    # Somebody at the directory, who may be asked for anything but is no program; and an account to be disabled.
    for name in ["caller", "another", "closed"]:
        network.ask("POST", f"{directory}/v1/accounts", json={"username": name, "password": PASSWORD})
    caller, another = login("caller", network.folder), login("another", network.folder)
    session = network.ask("POST", f"{directory}/v1/sessions", json=caller)
    put = {"content_id": own["content_id"], "name": "caller.bin", "size": own["size"], "pieces_held": 1}
    delta = {"base_revision": 0, "revision": 1, "put": [put]}
    network.ask("POST", f"{directory}/v1/catalog", session["token"], json=delta)

    dictionary("contents", [film["content_id"], own["content_id"]], network.folder)
    dictionary("peers", [status(*peer)["peer_id"] for peer in peers], network.folder)
    dictionary("accounts", ["closed"], network.folder)
    return {
        "directory": directory, "pclient": asked,
        "TRUEQUE_SESSION": session["token"], "TRUEQUE_ADMIN": ADMIN, "TRUEQUE_TOKEN": TOKEN,
        "TRUEQUE_CSR": caller["csr_pem"], "TRUEQUE_LOGIN": json.dumps(another), "TRUEQUE_CONTENT": own["content_id"],
        "TRUEQUE_SHARED": str(network.folder / "asked/share/asked.bin"),
    }


def dictionary(name: str, values: list[str], folder: Path):
    (folder / f"{name}.dict").write_text("".join(f'"{value}"\n' for value in values))


def examine(name: str, url: str, known: dict[str, str], network: Network) -> bool:
    """One API, in two passes: everything but what ends or changes the session of all others, and then that."""
    folder = network.folder
    settings, document = folder / f"{name}.toml", folder / f"{name}.json"
    settings.write_text((HERE / f"{name}.toml").read_text())
    document.write_text(json.dumps(network.ask("GET", f"{url}/openapi.json", TOKEN)))
    command = [
        Path(sys.executable).parent / "schemathesis", "--no-color", "--config-file", settings, "run", document,
        "--url", url, "--seed", SEED, "--generation-database", "none",
    ]
    ours = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "*"}
    env = os.environ | known | ours
    last = {"directory": ["end_session", "logout"], "pclient": ["login", "logout", "end_session"]}[name]
    without = [word for call in last for word in ("--exclude-operation-id", call)]
    only = [word for call in last for word in ("--include-operation-id", call)]
    passes = [[*without, "--max-time", str(SECONDS)], [*only, "--max-time", "10"]]
    return all([subprocess.run(command + which, env=env, cwd=folder).returncode == 0 for which in passes])


def main() -> int:
    programs, *names = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        network = Network(Path(programs).resolve(), Path(folder))
        try:
            known = build(network)
            apis = {name: known.pop(name) for name in ["directory", "pclient"]}
            passed = {name: examine(name, apis[name], known, network) for name in names or apis}
        finally:
            network.stop()
    for name, good in passed.items():
        print(f"{name}: {'passed' if good else 'FAILED'}")
    return 0 if all(passed.values()) else 1


sys.exit(main())
